"""The linear probe: as many numbers as it says, what it computes by another way, its training, and its neighbours."""

import json

import numpy as np
import pytest
import torch
from benchmark_cases import write_brains
from small_models import VIT, backbone

from ZSADCLIPLib.adapters import METHODS
from ZSADCLIPLib.adapters.base import NEIGHBOURS
from ZSADCLIPLib.adapters.checkpoint import load_adapter, read_info
from ZSADCLIPLib.backbones import load_backbone
from ZSADCLIPLib.cli import main
from ZSADCLIPLib.detection.slice_maps import slice_maps
from ZSADCLIPLib.errors import WeightsError
from ZSADCLIPLib.volumes.neighbours import neighbours


def probe(model=None, **settings):
    return load_adapter("linear-probe:random:1", model or backbone(), settings)


def images(count, size=64):
    rng = np.random.default_rng(2)
    return rng.integers(0, 255, (count, size, size)).astype(np.uint8)


def test_it_has_a_number_for_each_channel_and_one_more():
    mini = load_backbone("mini")
    assert sum(p.numel() for p in probe(mini).parameters()) == 4 * 128 + 1
    assert sum(p.numel() for p in probe(mini, context=(-8, -4, 4, 8)).parameters()) == 5 * 4 * 128 + 1
    assert sum(p.numel() for p in probe(mini, layers=(mini.vision.depth,)).parameters()) == 129
    assert probe(mini).display_range(mini) == (0.0, 1.0)


@pytest.mark.parametrize("shape", ["vit", "pmc"])
def test_its_logits_are_one_linear_layer_over_normalised_tokens(shape):
    model = backbone(shape)
    adapter = probe(model, upsample="half-pixel")
    features = adapter.features(model, model.preprocess(torch.from_numpy(images(2, 96))))
    expected = np.full((2, 96, 96), float(adapter.bias))
    for (_, tokens), weights in zip(features.items(), adapter.weight, strict=True):
        t = tokens.double().numpy()
        t = (t - t.mean(-1, keepdims=True)) / np.sqrt(t.var(-1, keepdims=True) + 1e-5)
        side = int(t.shape[1] ** 0.5)
        grid = torch.from_numpy((t @ weights[0].detach().double().numpy()).reshape(2, 1, side, side))
        expected += torch.nn.functional.interpolate(grid, size=96, mode="bilinear", align_corners=False)[:, 0].numpy()
    with torch.no_grad():
        scores = adapter.predict(model, features, 96)
    assert scores.maps.numpy() == pytest.approx(1 / (1 + np.exp(-expected)), abs=1e-5)
    assert torch.equal(scores.images, scores.maps.flatten(1).amax(dim=1))


def test_no_words_have_a_say():
    model = backbone()
    pictures = model.preprocess(torch.from_numpy(images(2)))
    plain, other = probe().score(model, pictures), probe(object_name="liver", prompts="adaclip").score(model, pictures)
    assert torch.equal(plain.maps, other.maps) and torch.equal(plain.images, other.images)


def test_untrained_neighbours_change_nothing_and_trained_ones_are_those_at_their_distance():
    model, stack = backbone(), images(9)
    plain, deep = probe(), probe(context=(-4.0, 4.0))
    features = plain.features(model, model.preprocess(torch.from_numpy(stack)))
    rows = torch.from_numpy(neighbours(9, 2.0, deep.context))
    with torch.no_grad():
        expected = plain.predict(model, features, 64).maps
        assert torch.equal(deep.predict(model, {**features, NEIGHBOURS: rows}, 64).maps, expected)
        assert torch.equal(deep.predict(model, features, 64).maps, expected)
        for weights in deep.weight:
            weights.copy_(weights[[0, 2, 1]])  # the slice's own weights belong to the one 4 mm above
    for batch in (1, 4, 64):
        (maps,), _, _ = slice_maps(model, [deep], stack, batch, spacing=2.0)
        assert maps == pytest.approx(expected[neighbours(9, 2.0, (4.0,))[:, 0]].numpy(), abs=1e-5)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("probe")
    write_brains(root / "data", 4)
    (root / "tiny.json").write_text(json.dumps(VIT))
    small = {"base": "ci", "slices": {"image_size": 64, "every": 1}, "threshold": {"max_subjects": 2}}
    (root / "profile.json").write_text(json.dumps(small))
    return root


def test_train_makes_it_and_detect_takes_it(place, capsys):
    model, out = ["--backbone", str(place / "tiny.json"), "--weights", "random:3"], place / "out"
    common = ["--profile", str(place / "profile.json"), "--device", "cpu", "--epochs", "2"]
    train = ["train", "--method", "linear-probe", "--data", str(place / "data"), "--out", str(out), *model, *common]
    assert main(train) == 0
    info = read_info(out / "linear-probe.safetensors")
    assert info.method == "linear-probe" and 0 < info.threshold < 1
    volume = str(next((place / "data").rglob("*-t2w.nii.gz")))
    detect = ["detect", volume, "-o", str(out / "found"), "--method", "linear-probe", *model, "--image-size", "64"]
    assert main([*detect, "--checkpoint", str(out / "linear-probe.safetensors")]) == 0
    (case,) = (json.loads(path.read_text("utf-8")) for path in (out / "found").glob("*t2w*.json"))
    assert case["threshold_rule"] == "checkpoint" and case["threshold"] == pytest.approx(info.threshold)
    assert case["display"] == {"lo": 0.0, "hi": 1.0}
    capsys.readouterr()


def test_without_a_checkpoint_it_says_how_to_make_one():
    with pytest.raises(WeightsError) as raised:
        load_adapter("linear-probe", load_backbone("mini"))
    said = str(raised.value)
    assert said.startswith("Linear probe needs trained weights for the backbone mini, and none come with the package")
    assert "(yours, made by zsadclip train), or --checkpoint linear-probe:random" in said and "authors" not in said
    with pytest.raises(WeightsError, match="yours or the authors'"):
        load_adapter("vand", backbone())
    assert not METHODS["linear-probe"].memory_bank
