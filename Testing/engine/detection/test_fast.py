"""Fast mode: the box, what is skipped, what is the same, and what it is called in the results."""

import numpy as np
import pytest
import torch
from small_models import backbone

from ZSADCLIPLib.adapters import METHODS
from ZSADCLIPLib.adapters.checkpoint import load_adapter
from ZSADCLIPLib.backbones.focus import patch_box
from ZSADCLIPLib.detection.detector import Detector
from ZSADCLIPLib.errors import UsageError
from ZSADCLIPLib.volume import Volume


def detector(method="vand", shape="vit", **options):
    model = backbone(shape)
    return Detector(model, load_adapter(f"{method}:random", model), image_size=96, **options)


@pytest.fixture
def brain(rng) -> Volume:
    """A brain that leaves a third of the square free on every side."""
    array = np.zeros((96, 96, 4), np.float32)
    array[34:62, 20:50, :] = rng.uniform(50, 200, (28, 30, 4)).astype(np.float32)
    return Volume(array, np.diag([1.0, 1, 1, 1]), "small")


def test_box_is_the_smallest_with_every_pixel():
    seen = np.zeros((70, 70), bool)
    seen[17, 40], seen[33, 20] = True, True
    assert patch_box(seen, 16, 4) == (1, 3, 1, 3)
    assert patch_box(np.zeros((70, 70), bool), 16, 4) == (0, 4, 0, 4)
    seen[:] = False
    seen[69, 69] = True  # in the remainder that no patch sees
    assert patch_box(seen, 16, 4) == (0, 4, 0, 4)


@pytest.mark.parametrize("shape", ["vit", "biomed"])
@torch.no_grad()
def test_the_whole_grid_as_box_changes_nothing(shape):
    model, images = backbone(shape), torch.randn(2, 3, 96, 96)
    exact = model.encode_image(images, taps=(1, 3), joint=(4,), vv_from=2)
    boxed = model.focused((0, 6, 0, 6)).encode_image(images, taps=(1, 3), joint=(4,), vv_from=2)
    assert torch.equal(exact.embedding, boxed.embedding)
    assert all(torch.equal(exact.taps[k], boxed.taps[k]) for k in (1, 3))
    assert torch.equal(exact.joint[4], boxed.joint[4])


@torch.no_grad()
def test_tokens_outside_the_box_repeat_its_border_and_see_nothing():
    model, images = backbone("vit").focused((1, 4, 2, 5)), torch.randn(1, 3, 96, 96)
    tokens = model.encode_image(images, taps=(2,)).taps[2][0, 1:].view(6, 6, -1)
    assert torch.equal(tokens[0], tokens[1]) and torch.equal(tokens[:, 5], tokens[:, 4])
    changed = images.clone()
    changed[..., :16, :] = 9
    assert torch.equal(model.encode_image(changed, taps=(2,)).taps[2][0, 1:].view(6, 6, -1), tokens)
    assert model.focused(None).box is None and model.box == (1, 4, 2, 5)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_fast_and_says_so(method, brain):
    exact, fast = detector(method).detect(brain), detector(method, fast=True).detect(brain)
    assert fast.map.shape == exact.map.shape
    assert exact.provenance["exact"] and exact.provenance["fast"] is None
    assert not fast.provenance["exact"] and fast.provenance["fast"]["grid"] == 6
    assert not np.array_equal(exact.map.array, fast.map.array)


def test_fast_results_do_not_depend_on_the_batch(brain):
    one, many = (detector(fast=True, batch_size=n).detect(brain) for n in (1, 4))
    assert np.abs(one.map.array - many.map.array).max() < 1e-5


def test_fewer_tokens_go_through_the_tower(brain, monkeypatch):
    d, counts = detector(fast=True), []
    block = d.backbone.vision.blocks[1].norm1
    monkeypatch.setattr(block, "forward", lambda x, f=block.forward: counts.append(x.shape[1]) or f(x))
    (box,) = d.detect(brain).provenance["fast"]["boxes"]
    assert set(counts) == {1 + (box[1] - box[0]) * (box[3] - box[2])} and counts[0] < 37


def test_each_run_of_slices_has_its_own_box(rng):
    array = np.zeros((96, 96, 20), np.float32)
    array[30:66, 20:50, :9] = rng.uniform(50, 200, (36, 30, 9))
    array[40:56, 40:50, 9:17] = rng.uniform(50, 200, (16, 10, 8))
    volume, fractions = Volume(array, np.eye(4), "small"), []
    found = detector(fast=True).detect(volume, progress=lambda f, t, *count: fractions.append((f, t)))
    boxes = found.provenance["fast"]["boxes"]
    assert len(boxes) == 3 and boxes[0] == boxes[1] != boxes[2]
    assert fractions == sorted(fractions) and fractions[-1] == (1.0, "slice 18 of 18")
    assert np.isfinite(found.map.array).all()


def test_a_resnet_has_no_patches_to_skip():
    with pytest.raises(UsageError, match="patches of a ViT; the image tower of custom has none"):
        detector(shape="pmc", fast=True)
