"""Training of the mini backbone: an interrupted run ends where an undisturbed one does, and other settings are refused."""

import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from ZSADCLIPLib.errors import UsageError

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts" / "make"))
from mini import train, words  # noqa: E402
from mini.data import FIRST_LESION, brain_of  # noqa: E402
from mini.muon import orthogonalised  # noqa: E402


@pytest.fixture(scope="module")
def tokenizer():
    return open_clip.SimpleTokenizer(context_length=77)


@pytest.fixture
def data(rng, monkeypatch):
    """Three small labelled slices and two plates; two windows of each a step."""
    for name in ("BRAINS", "PLATES"):
        monkeypatch.setattr(train, name, 2)
    label = rng.integers(0, 15, (3, 240, 240)).astype(np.uint8)
    texture = rng.integers(1, 255, (2, 240, 240)).astype(np.uint8)
    plates = {"texture": texture, "defect": texture > 200, "kind": np.array([0, 1])}
    return {
        "brain": label * 16,
        "label": label,
        "sequence": np.array([0, 1, -1]),
        "head": np.array([0, 1, 0]),
        **plates,
    }


def model():
    torch.manual_seed(0)
    return open_clip.CLIP(**train.CONFIG)


def test_an_interrupted_run_ends_where_an_undisturbed_one_does(data, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "LOG_EVERY", 2)
    whole, cut = model(), model()
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    train.run(whole, tokenizer, data, 4, tmp_path / "whole", keep_every=2)
    losses, calls = train.losses, []

    def dies(*args):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return losses(*args)

    monkeypatch.setattr(train, "losses", dies)
    with pytest.raises(KeyboardInterrupt):
        train.run(cut, tokenizer, data, 4, tmp_path / "cut", keep_every=2)
    monkeypatch.setattr(train, "losses", losses)
    resumed = model()
    train.run(resumed, tokenizer, data, 4, tmp_path / "cut", resume=True, keep_every=2)
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    )
    curves = [(tmp_path / name / "curve.csv").read_text("utf-8") for name in ("whole", "cut")]
    assert curves[0] == curves[1] and curves[0].count("\n") == 3
    with pytest.raises(UsageError, match="was made with .*'steps': 4.*now asked for is .*'steps': 6"):
        train.run(model(), tokenizer, data, 6, tmp_path / "cut", resume=True)


def test_scans_fit_the_model_and_say_what_they_are():
    metastases, scans = brain_of(1004), brain_of(1005)
    for image, label, sequence, head in (metastases, scans):
        assert image.shape == label.shape and image.shape[1:] == (240, 240) and image.dtype == label.dtype == np.uint8
        assert len(image) == len(sequence) == len(head) and label.max() < len(words.TISSUES)
    assert set(metastases[2]) == {0} and not metastases[3].any() and (metastases[1] >= FIRST_LESION).any()
    assert len(set(scans[2])) == 2  # two contrasts of one head


def test_captions_of_known_words_are_found_by_their_tokens(tokenizer):
    old = words.TISSUES["fluid"] + words.TISSUES["core"]
    known = words.known(tokenizer, torch.unique(tokenizer(list(old))))
    places = [known[i] - words.PAIRS.stop for i in range(words.PAIRS.stop, len(known))]
    assert [list(words.TISSUES)[i] for i in places] == ["fluid", "core"]
    assert words.DENSE.stop - words.DENSE.start == len(words.TISSUES)


def test_orthogonalised_matrices_have_singular_values_near_one(rng):
    for shape in ((8, 24), (24, 8)):
        values = torch.linalg.svdvals(orthogonalised(torch.from_numpy(rng.normal(size=shape)).float()))
        assert values.min() > 0.6 and values.max() < 1.3
