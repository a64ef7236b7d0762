"""The embedded models: small files, the ordinary tokenizer, the geometry of real CLIP, and lesions that can be read out."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from sklearn.metrics import roc_auc_score

from ZSADCLIPLib.backbones import load_backbone
from ZSADCLIPLib.backbones.mini import initial_tokens, mini_state_dict
from ZSADCLIPLib.errors import WeightsError
from ZSADCLIPLib.files.packaged import DATA
from ZSADCLIPLib.synthetic.brains import make_case
from ZSADCLIPLib.volumes.intensity import to_uint8
from ZSADCLIPLib.volumes.slicing import slice_volume

NAMES = ("mini", "mini-mri", "mini-rn")


@pytest.fixture(scope="module", params=NAMES)
def backbone(request):
    if request.param == "mini-rn":
        pytest.importorskip("transformers")
    return load_backbone(request.param)


@pytest.fixture(scope="module")
def lesion_slices():
    """Four slices of an unseen case (validation seed) and their labels, (4, 240, 240) each."""
    case = make_case(3003)
    stack = slice_volume(case.volumes["t2w"])
    label = stack.arrange(case.seg.array)
    rows = np.argsort(-(label > 0).sum((1, 2)))[[0, 4, 8, 12]]
    return to_uint8(stack.array)[rows], label[rows]


def vectors(backbone, sentences):
    return F.normalize(backbone.encode_text(backbone.text.tokenize(sentences)), dim=-1)


@pytest.mark.parametrize("name", NAMES)
def test_files_are_small_half_precision_and_say_how_they_were_made(name):
    path = DATA / f"{name}.safetensors"
    assert path.stat().st_size <= 8e6
    with safe_open(path, framework="pt") as stored:
        meta = stored.metadata()
        kinds = {stored.get_tensor(k).dtype for k in stored.keys()}  # noqa: SIM118
    assert json.loads(meta["config"])["embed_dim"] == 256
    assert meta["recipe"].startswith("scripts/train_mini")
    assert torch.float16 in kinds and torch.float32 not in kinds


def test_token_rows_that_no_caption_uses_are_drawn_from_the_seed():
    config, state = mini_state_dict("mini")
    table = initial_tokens(config["text_cfg"]["vocab_size"], config["text_cfg"]["width"])
    same = (state["token_embedding.weight"] == table).all(1)
    assert table.shape == (49408, 64)
    assert 100 < int((~same).sum()) < 2000


def test_a_missing_file_is_named():
    with pytest.raises(WeightsError, match="mini-huge"):
        mini_state_dict("mini-huge")


def test_both_towers_meet_in_one_space(backbone, lesion_slices):
    images = backbone.preprocess(torch.from_numpy(lesion_slices[0]))
    features = backbone.encode_image(images)
    assert features.embedding.shape == (4, 256)
    assert torch.isfinite(features.embedding).all()
    again = load_backbone(backbone.name).encode_image(images)
    assert torch.equal(features.embedding, again.embedding)


def test_normal_and_abnormal_prompts_are_close_but_told_apart_as_in_clip(backbone):
    """Real CLIP has a cosine near 0.95 between the two; adapters' temperatures are made for that."""
    normal = vectors(backbone, ["a photo of a flawless brain.", "a photo of a perfect brain."]).mean(0)
    damaged = vectors(backbone, ["a photo of a damaged brain.", "a photo of a broken brain."]).mean(0)
    assert 0.85 < F.cosine_similarity(normal, damaged, dim=0) < 0.99


def test_taps_of_an_unseen_case_hold_the_lesion_linearly(backbone, lesion_slices):
    """A least-squares read-out fitted on two slices ranks the patches of two others: what trained adapters build on."""
    images, label = lesion_slices
    layers = (2, 4, 6, 8) if backbone.kind == "vit" else (1, 2, 3)
    taps = backbone.encode_image(backbone.preprocess(torch.from_numpy(images)), taps=layers).taps
    grid = 30
    stacked = []
    for tokens in taps.values():
        tokens = tokens[:, -(int(tokens.shape[1] ** 0.5) ** 2) :] if tokens.ndim == 3 else tokens.flatten(2).mT
        side = int(tokens.shape[1] ** 0.5)
        maps = tokens.mT.reshape(len(tokens), -1, side, side)
        stacked.append(F.interpolate(maps, size=(grid, grid), mode="bilinear"))
    features = torch.cat(stacked, 1).permute(0, 2, 3, 1).flatten(1, 2)
    share = F.avg_pool2d(torch.from_numpy((label > 0).astype(np.float32))[:, None], 240 // grid).flatten(1)
    brain = F.avg_pool2d(torch.from_numpy((images > 0).astype(np.float32))[:, None], 240 // grid).flatten(1) > 0.5
    train, test = [0, 2], [1, 3]
    x = features[train][brain[train]]
    scale = x.std(0) + 1e-6
    x, y = (x - x.mean(0)) / scale, share[train][brain[train]]
    weight = torch.linalg.solve(x.T @ x + 50 * torch.eye(x.shape[1]), x.T @ (y - y.mean()))
    score = (features[test][brain[test]] / scale) @ weight
    truth = share[test][brain[test]] > 0.5
    assert truth.sum() > 10
    assert roc_auc_score(truth, score) > 0.9
