"""MVFA-AD: its own look at pixels, the stream that its bottlenecks change, the memory with its constants, published files."""

import numpy as np
import pytest
import torch
from small_models import backbone

from ZSADCLIPLib.adapters.checkpoint import load_adapter, save_adapter
from ZSADCLIPLib.adapters.support import Shots, leave_one_out, minmax, versions_of
from ZSADCLIPLib.detection.detector import Detector
from ZSADCLIPLib.detection.slice_maps import slice_maps
from ZSADCLIPLib.errors import UsageError, WeightsError
from ZSADCLIPLib.training.augment import in_versions
from ZSADCLIPLib.training.fit import SliceSet, fit
from ZSADCLIPLib.training.schedule import Schedule
from ZSADCLIPLib.volume import Volume

SIZE = 64


def slices(count, seed=1):
    """Grey slices (count, 64, 64) with a black margin, uint8."""
    out = np.zeros((count, SIZE, SIZE), np.uint8)
    out[:, 10:54, 12:58] = np.random.default_rng(seed).integers(1, 255, (count, 44, 46))
    return out


def adapter_for(shape="vit", **settings):
    return load_adapter("mvfa:random", backbone(shape), settings)


def pixels(adapter, array, shape="vit"):
    return backbone(shape).preprocess(torch.from_numpy(array), adapter.normalised)


def differ(one, other):
    return float((one - other).norm() / one.norm()) > 1e-3


def test_it_sees_values_from_0_to_1_and_others_beside_it_their_own():
    model, data = backbone(), slices(3)
    plain, clip, vand = adapter_for(), adapter_for(normalise="clip"), load_adapter("vand:random", model)
    images = pixels(plain, data)
    assert images.min() == 0 and images.max() <= 1 and pixels(clip, data).min() < -1
    together, scores, _ = slice_maps(model, [plain, vand, clip], data, 2)
    for adapter, maps, found in zip((plain, vand, clip), together, scores, strict=True):
        alone = adapter.score(model, pixels(adapter, data))
        torch.testing.assert_close(torch.from_numpy(maps), alone.maps, atol=1e-5, rtol=0)
        torch.testing.assert_close(torch.from_numpy(found), alone.images, atol=1e-5, rtol=0)
    assert np.abs(together[0] - together[2]).max() > 1e-3


@pytest.mark.parametrize("shape", ["vit", "pmc", "biomed"])
def test_later_layers_see_what_both_bottlenecks_add(shape):
    model, adapter = backbone(shape), adapter_for(shape)
    features = adapter.features(model, pixels(adapter, slices(2), shape))
    first, *_, last = adapter.config.layers
    with torch.no_grad():
        before = adapter.middles(model, features)
        adapter.det_adapters[0].fc2[0].weight.zero_()
        after = adapter.middles(model, features)
        assert torch.equal(before[first], after[first]) and differ(before[last], after[last])
        for each in (*adapter.seg_adapters, *adapter.det_adapters):
            each.fc2[0].weight.zero_()
        shrunk = adapter.middles(model, features)[last]
        tokens = model.encode_image(pixels(adapter, slices(2), shape), taps=(last,)).taps[last]
        down = torch.cat([kind[-1].fc1[0].weight for kind in (adapter.seg_adapters, adapter.det_adapters)])
        plain = torch.nn.functional.leaky_relu(tokens @ down.T)
    assert differ(shrunk, plain)  # adapters of zeros are not the identity: the stream is 0.8 of itself


def test_resuming_without_a_change_is_the_tower_itself():
    for shape in ("vit", "pmc", "biomed"):
        model, images = backbone(shape), torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
        layers = (1, model.vision.depth)
        with torch.no_grad():
            kept = model.resume(model.begin(images, 1), layers, lambda layer, x: (x, x))
            for layer, tokens in model.encode_image(images, taps=layers).taps.items():
                torch.testing.assert_close(kept[layer], tokens, atol=1e-5, rtol=0)
    with pytest.raises(UsageError, match="layer 9 does not exist"):
        backbone().begin(images, 9)


def test_fast_mode_sees_what_the_box_holds():
    model, adapter, images = backbone(), adapter_for(), torch.rand(2, 3, 96, 96)
    focused = model.focused((1, 4, 0, 5))
    with torch.no_grad():
        boxed = adapter.middles(focused, adapter.features(focused, images))
        taps = model.focused((1, 4, 0, 5)).encode_image(images, taps=(1,)).taps[1]
        torch.testing.assert_close(adapter.features(focused, images)["tokens"], taps)
    assert all(values.shape[1] == 1 + 36 for values in boxed.values())
    whole = model.focused((0, 6, 0, 6))
    found = [adapter.score(m, images).maps for m in (whole, model)]
    torch.testing.assert_close(*found, atol=1e-5, rtol=0)


def test_a_volume_is_scored_alone_in_any_batches_and_the_support_is_unsuspicious():
    model, adapter = backbone(), adapter_for()
    normal = pixels(adapter, slices(3, seed=9))
    for part in (normal[:2], normal[2:]):
        adapter.remember(model, part)
    images = torch.cat([normal[:1], pixels(adapter, slices(2, seed=4))])
    together = adapter.score(model, images)
    torch.testing.assert_close(adapter.score(model, images[1:2]).maps[0], together.maps[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(together.images, together.maps.flatten(1).amax(1))
    kept = adapter.middles(model, adapter.features(model, images))
    distance = adapter.distance_map(model, kept, adapter.memory(model).rows, SIZE)
    assert distance[0].abs().max() < 1e-4 < distance[1].max()
    low, high = adapter.score_range(model)
    assert low <= together.maps.min() <= together.maps.max() <= high
    assert adapter.summed_layers == 1 and adapter.display_range(model) == (0.0, 1.0)


def test_the_constants_are_those_of_each_slice_against_the_others():
    model, adapter = backbone(), adapter_for(versions=False)
    normal, values = pixels(adapter, slices(3, seed=9)), []
    adapter.remember(model, normal)
    for i in range(3):
        other = adapter_for(versions=False)
        other.remember(model, torch.cat([normal[:i], normal[i + 1 :]]))
        with torch.no_grad():
            kept = other.middles(model, other.features(model, normal[i : i + 1]))
        values.append(other.distance_map(model, kept, other.memory(model).rows, SIZE))
    memory = adapter.memory(model)
    assert memory.low == pytest.approx(float(torch.stack(values).min()), abs=1e-5)
    assert memory.high == pytest.approx(float(torch.stack(values).max()), abs=1e-5)


def test_memory_options_change_what_is_remembered():
    model, normal = backbone(), pixels(adapter_for(), slices(2, seed=9))
    rows = {}
    for name, settings in (("all", {}), ("as they are", {"versions": False}), ("patches", {"class_rows": False})):
        adapter = adapter_for(**settings)
        adapter.remember(model, normal)
        rows[name] = len(adapter.memory(model).rows[adapter.config.layers[0]])
    assert rows == {"all": 22 * 17, "as they are": 2 * 17, "patches": 22 * 16}
    alone = adapter_for(versions=False)
    alone.remember(model, normal[:1])
    with pytest.raises(UsageError, match="one reference slice without versions"):
        alone.score(model, normal)


def test_scaling_by_batch_is_the_authors_over_all_images_at_once():
    model, adapter = backbone(), adapter_for(scaling="batch")
    adapter.remember(model, pixels(adapter, slices(2, seed=9)))
    maps = adapter.score(model, pixels(adapter, slices(3))).maps
    assert maps.min() >= 0 and 0.5 <= maps.max() <= 1
    assert torch.equal(minmax(torch.full((2, 3), 4.0)), torch.zeros(2, 3))


def test_of_many_references_evenly_spaced_ones_are_kept():
    shots = Shots(4)
    for part in torch.arange(100).float().split(7):
        shots.add(part)
    kept = shots.images().tolist()
    assert len(kept) == len(shots) == 4 and kept[0] == 0 and kept[-1] >= 80
    assert max(np.diff(kept)) - min(np.diff(kept)) <= 16
    few = Shots(4)
    few.add(torch.arange(3).float())
    assert few.images().tolist() == [0, 1, 2]


def test_eleven_versions_turn_shift_and_mirror():
    image = torch.zeros(1, 1, 40, 40)
    image[..., 20:24, 8:12] = 1
    found = versions_of(image)
    centres = [[float(axis.float().mean()) for axis in torch.where(each[0] > 0.5)] for each in found]
    assert found.shape == (11, 1, 40, 40) and torch.equal(found[0], image[0])
    assert centres[9] == [21.5, 29.5] and centres[10] == [17.5, 9.5]  # mirrored left-right, and upside down
    assert centres[5] == pytest.approx([19.5, 7.5], abs=0.6)  # what lies a twentieth of the side further comes here
    masks = in_versions((image[0] * 200).byte().numpy(), image[0].bool().numpy())
    assert masks[0].shape == masks[1].shape == (11, 40, 40) and masks[1].any(axis=(1, 2)).all()
    assert masks[0].max() == 200 and not masks[1][:, :4].any()
    assert [rows.tolist() for rows in leave_one_out(2, 2)] == [[1, 3], [0, 2]]


def test_training_on_versions_computes_the_frozen_part_once():
    model, adapter, calls = backbone(), adapter_for(dice="batch"), []
    data = SliceSet(slices(2), np.zeros((2, SIZE, SIZE), bool))
    data.masks[0, 20:30, 20:30] = True
    features = type(adapter).features
    adapter.features = lambda *args: calls.append(len(args[1])) or features(adapter, *args)
    before = {name: value.clone() for name, value in adapter.state_dict().items()}
    rows = fit(adapter, model, data, Schedule(2, batch_size=11, augment="versions"))
    assert len(rows) == 2 and sum(calls) == 1 + 22  # one to see the shapes
    moved = {name for name, value in adapter.state_dict().items() if not torch.equal(value, before[name])}
    still = {f"{kind}_adapters.{len(adapter.config.layers) - 1}.fc2.0.weight" for kind in ("seg", "det")}
    assert moved == before.keys() - still  # nothing looks at what the last bottlenecks give back


def test_without_masks_the_segmentation_bottlenecks_stay():
    model, adapter = backbone(), adapter_for(supervision="labels")
    masks = torch.zeros(2, SIZE, SIZE)
    loss = adapter.loss(model, pixels(adapter, slices(2)), masks, torch.tensor([1, 0]))
    loss["total"].backward()
    assert set(loss) == {"total", "detection"}
    assert all(p.grad is None for p in adapter.seg_adapters.parameters())
    assert any(p.grad is not None and p.grad.any() for p in adapter.det_adapters.parameters())


def test_a_published_file_loads(tmp_path):
    model, own = backbone(), adapter_for()
    theirs = {kind: getattr(own, kind).state_dict() for kind in ("seg_adapters", "det_adapters")}
    assert "0.fc1.0.weight" in theirs["seg_adapters"] and len(theirs["det_adapters"]) == 8
    torch.save(theirs, tmp_path / "Brain.pth")
    loaded = load_adapter(tmp_path / "Brain.pth", model, {"object_name": "Brain"})
    assert loaded.method == "mvfa" and not loaded.normalised and loaded.provenance == {"file": "Brain.pth"}
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), own.parameters(), strict=True))
    save_adapter(tmp_path / "own.safetensors", loaded, model)
    assert load_adapter(tmp_path / "own.safetensors", model).config == loaded.config
    torch.save({"seg_adapters": theirs["seg_adapters"]}, tmp_path / "half.pth")
    with pytest.raises(WeightsError, match="half.pth lacks det_adapters"):
        load_adapter(tmp_path / "half.pth", model)
    with pytest.raises(WeightsError, match="Brain.pth"):
        load_adapter(tmp_path / "Brain.pth", model, {"layers": [1, 2]})
    fewer = adapter_for(layers=(1, 3))
    torch.save({k: getattr(fewer, k).state_dict() for k in theirs}, tmp_path / "two.pth")
    assert load_adapter(tmp_path / "two.pth", model, {"layers": [1, 3]}).config.layers == (1, 3)


def test_detect_with_reference_volumes():
    def brain(seed):
        array = np.zeros((40, 44, 6), np.float32)
        array[8:32, 8:36, 1:5] = np.random.default_rng(seed).uniform(50, 100, (24, 28, 4))
        return Volume(array, np.eye(4), f"brain{seed}")

    detector = Detector(backbone(), adapter_for(references=3), image_size=SIZE, batch_size=2)
    plain = detector.detect(brain(0)).map.array
    detector.remember(brain(1))
    detector.remember(brain(2))
    found = detector.detect(brain(0)).map.array
    assert np.isfinite(found).all() and not np.allclose(found, plain)
