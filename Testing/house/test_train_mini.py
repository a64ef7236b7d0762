"""Training of the mini backbone: an interrupted run ends where an undisturbed one does, and other settings are refused."""

import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from ZSADCLIPLib.errors import UsageError

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts" / "make"))
from mini import train  # noqa: E402
from mini.data import LESION, scan_slices  # noqa: E402


@pytest.fixture(scope="module")
def tokenizer():
    return open_clip.SimpleTokenizer(context_length=77)


@pytest.fixture
def data(rng, monkeypatch):
    """Three small labelled slices and two plates; two windows of each a step."""
    for name in ("BRAINS", "PLATES"):
        monkeypatch.setattr(train, name, 2)
    label = rng.integers(0, 6, (3, 240, 240)).astype(np.uint8)
    texture = rng.integers(1, 255, (2, 240, 240)).astype(np.uint8)
    return {"brain": label * 40, "label": label, "texture": texture, "defect": texture > 200, "kind": np.array([0, 1])}


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


def test_slices_of_the_mri_world_fit_the_model_and_keep_tissue_and_lesions_apart():
    image, label, record = scan_slices(44, lesion=3, clear=2, disease="ms", head=True)
    assert image.shape == label.shape and image.shape[1:] == (240, 240) and 1 <= len(image) <= 5
    assert image.dtype == label.dtype == np.uint8 and record["disease"] == "ms"
    values = set(np.unique(label).tolist())
    assert values <= {*range(9), LESION + 5} and {2, 3, LESION + 5} <= values
