"""A head that looks at neighbouring slices: the slice head where it should be, and the same whatever way slices come."""

import numpy as np
import pytest
import torch
from small_models import backbone

from ZSADCLIPLib import Detector
from ZSADCLIPLib.adapters.base import NEIGHBOURS
from ZSADCLIPLib.adapters.checkpoint import load_adapter, save_adapter
from ZSADCLIPLib.detection.ring import FeatureRing
from ZSADCLIPLib.detection.slice_maps import slice_maps
from ZSADCLIPLib.errors import UsageError
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.neighbours import neighbours

OFFSETS = (-4.0, 2.0, 6.0)


def head(context=OFFSETS, kernel=None):
    """An untrained head; `kernel` (K,) weights all channels of a slice's neighbours alike, own slice included."""
    adapter = load_adapter("vand:random", backbone(), {"context": context})
    if kernel is not None:
        with torch.no_grad():
            for weights in adapter.kernel:
                weights.copy_(torch.tensor(kernel)[:, None])
    return adapter


@pytest.fixture
def slices(rng):
    """Eleven slices, of which the first two, one in the middle and the last are blank."""
    out = rng.integers(20, 255, (11, 64, 64)).astype(np.uint8)
    out[[0, 1, 6, 10]] = 0
    return out


@pytest.mark.parametrize(
    ("spacing", "offsets", "steps"),
    [
        (1.0, (-8, -4, 0, 4, 8), (-8, -4, 0, 4, 8)),
        (3.0, (-8, -4, 0, 4, 8), (-3, -1, 0, 1, 3)),
        (5.0, (-8, -4, 0, 4, 8), (-2, -1, 0, 1, 2)),
        (8.0, (-8, -4, 0, 4, 8), (-1, -1, 0, 1, 1)),
        (10.0, (-8, -4, 0, 4, 8), (-1, 0, 0, 0, 1)),
        (0.7, (2,), (3,)),
    ],
)
def test_offsets_in_mm_are_the_nearest_slices_and_ends_repeat(spacing, offsets, steps):
    rows = neighbours(30, spacing, offsets)
    assert rows[15].tolist() == [15 + step for step in steps]
    assert rows[0].tolist() == [max(0, step) for step in steps]
    assert rows[29].tolist() == [29 + min(0, step) for step in steps]
    assert neighbours(1, spacing, offsets).tolist() == [[0] * len(offsets)]


def test_without_a_context_nothing_is_learned_beside_the_linear_layers():
    plain = load_adapter("vand:random", backbone())
    assert plain.context == () and sorted(plain.state_dict()) == sorted(
        f"fc.{n}.{k}" for n in range(4) for k in ("bias", "weight")
    )
    assert head().context == (-4.0, 0.0, 2.0, 6.0) and head().kernel[0].shape == (4, 64)
    assert all(torch.equal(a, b) for a, b in zip(plain.fc.parameters(), head().fc.parameters(), strict=True))
    assert not plain.adaptations(backbone()) and "-4, 0, 2, 6 mm" in head().adaptations(backbone())[0]


@pytest.mark.parametrize("context", [(4.0,), OFFSETS, (-8.0, -4.0, 4.0, 8.0)])
def test_the_identity_equals_the_slice_head_bit_for_bit(slices, context):
    model, plain, deep = backbone(), load_adapter("vand:random", backbone()), head(context)
    features = plain.features(model, model.preprocess(torch.from_numpy(slices)))
    rows = torch.from_numpy(neighbours(len(slices), 2.0, deep.context))
    with torch.no_grad():
        expected = plain.predict(model, features, 64)
        for found in (deep.predict(model, features, 64), deep.predict(model, {**features, NEIGHBOURS: rows}, 64)):
            assert torch.equal(found.maps, expected.maps) and torch.equal(found.images, expected.images)


def test_a_stack_of_equal_slices_has_the_maps_of_a_slice_alone(slices):
    deep, equal = head(kernel=(0.3, 0.9, -0.4, 0.5)), np.repeat(slices[3:4], 7, axis=0)
    (maps,), (scores,), _ = slice_maps(backbone(), [deep], equal, 3, spacing=1.0)
    (alone,), (score,), _ = slice_maps(backbone(), [deep], slices[3:4], 3)
    np.testing.assert_allclose(maps, np.repeat(alone, 7, axis=0), rtol=0, atol=1e-5)
    assert scores == pytest.approx(score[0], abs=1e-6)


@pytest.mark.parametrize("spacing", [1.0, 2.0, 4.0])
def test_a_kernel_for_one_neighbour_gives_the_map_of_that_slice(slices, spacing):
    (plain,), (scores,), _ = slice_maps(backbone(), [head(())], slices, 4)
    (moved,), (own,), _ = slice_maps(backbone(), [head((4.0,), (0.0, 1.0))], slices, 4, spacing=spacing)
    rows = neighbours(11, spacing, (4.0,))[:, 0]
    np.testing.assert_allclose(moved, plain[rows], rtol=0, atol=1e-5)
    assert own == pytest.approx(scores, abs=1e-6)


def test_few_shot_maps_are_those_of_the_own_slice(slices):
    plain, deep = head(()), head((4.0,), (1.0, 0.0))
    for adapter in (plain, deep):
        adapter.remember(backbone(), backbone().preprocess(torch.from_numpy(slices[2:4])))
    (expected,), _, _ = slice_maps(backbone(), [plain], slices, 4)
    (found,), _, _ = slice_maps(backbone(), [deep], slices, 4, spacing=1.0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("boxed", [False, True])
def test_a_slice_is_encoded_once_and_its_result_does_not_depend_on_the_batch(slices, monkeypatch, boxed):
    boxes = [(0, 4, 0, 4), (1, 4, 0, 3)] if boxed else None
    results, sizes, forget = [], [], FeatureRing.forget

    def watched(self, *arguments):
        forget(self, *arguments)
        sizes.append(len(self))

    monkeypatch.setattr(FeatureRing, "forget", watched)
    for batch in (1, 2, 3, 5, 64):
        adapter, encoded = head(kernel=(0.3, 0.9, -0.4, 0.5)), []
        features = adapter.features
        monkeypatch.setattr(adapter, "features", lambda b, x, f=features, e=encoded: e.extend([1] * len(x)) or f(b, x))
        (maps,), (scores,), _ = slice_maps(backbone(), [adapter], slices, batch, boxes=boxes, spacing=2.0)
        assert len(encoded) == 8  # seven slices, and one for the blank ones
        assert np.isfinite(maps).all() and not np.array_equal(maps[0], maps[1])  # blank ones have neighbours, too
        results.append((maps, scores))
        assert max(sizes) <= 2 + 3 + 1 + batch  # below, above, the blank one, and those of the batch before
        sizes.clear()
    for maps, scores in results[1:]:
        np.testing.assert_allclose(maps, results[0][0], rtol=0, atol=1e-5)
        assert scores == pytest.approx(results[0][1], abs=1e-6)


def test_the_ring_gives_the_same_wherever_it_starts():
    calls = []

    def encode(rows):
        calls.append(rows.tolist())
        return {"tokens": torch.from_numpy(rows[:, None] * 1.5)}

    ring = FeatureRing(encode)
    whole = ring.of(np.arange(6), 4)["tokens"]
    assert calls == [[0, 1, 2, 3], [4, 5]]
    ring.forget(4, but=1)
    assert len(ring) == 3
    later = ring.of(np.array([1, 4, 5, 6]), 4)["tokens"]
    assert calls[2:] == [[6]] and torch.equal(later[:3], whole[[1, 4, 5]])
    assert torch.equal(FeatureRing(encode).of(np.array([4, 5]), 1)["tokens"], whole[4:])


def test_a_slice_adapter_gives_the_same_beside_one_with_a_context(slices):
    plain, deep, wide = head(()), head(kernel=(0.3, 0.9, -0.4, 0.5)), head((-10.0, 8.0), (0.5, 0.25, 0.25))
    told = []
    both, scores, _ = slice_maps(
        backbone(), [deep, plain, wide], slices, 3, lambda f, *rest: told.append(f), spacing=2.0
    )
    for adapter, found, score in zip((deep, plain, wide), both, scores, strict=True):
        (alone,), (own,), _ = slice_maps(backbone(), [adapter], slices, 3, spacing=2.0)
        if adapter is plain:
            assert np.array_equal(found, alone) and np.array_equal(score, own)
        np.testing.assert_allclose(found, alone, rtol=0, atol=1e-5)
        assert score == pytest.approx(own, abs=1e-6)
    assert told == sorted(told) and told[-1] == 1.0


def test_batches_are_halved_when_memory_runs_out(slices, monkeypatch):
    deep = head(kernel=(0.3, 0.9, -0.4, 0.5))
    (expected,), _, _ = slice_maps(backbone(), [deep], slices, 4, spacing=2.0)
    predict = deep.predict

    def scarce(model, features, size):
        if len(features[NEIGHBOURS]) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return predict(model, features, size)

    monkeypatch.setattr(deep, "predict", scarce)
    (maps,), _, size = slice_maps(backbone(), [deep], slices, 4, spacing=2.0)
    assert size == 2 and maps == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("fast", [False, True])
def test_a_volume_is_scored_in_mm_and_says_so(rng, fast):
    array = np.zeros((64, 64, 9), np.float32)
    array[14:50, 12:52, 1:8] = rng.uniform(50, 200, (36, 40, 7))
    deep, found = head((8.0,), (0.0, 1.0)), {}
    for name, spacing in (("1 mm", 1.0), ("8 mm", 8.0)):
        volume = Volume(array, np.diag([1.0, 1, spacing, 1]), "thick")
        options = {"image_size": 96, "plane": "axial", "batch_size": 4, "fast": fast, "crop": "none"}
        shifted = Detector(backbone(), deep, **options).detect(volume)
        plain = Detector(backbone(), head(()), **options).detect(volume)
        found[name] = shifted.stack.arrange(shifted.map.array), plain.stack.arrange(plain.map.array)
    assert shifted.provenance["adapter"]["config"]["context"] == (0.0, 8.0)
    assert any("at 0, 8 mm" in text for text in shifted.provenance["adapted"])
    assert found["8 mm"][0][:8] == pytest.approx(found["8 mm"][1][1:], abs=1e-5)
    assert found["1 mm"][0][0] == pytest.approx(found["1 mm"][1][8], abs=1e-5)


def test_a_context_is_kept_with_the_adapter_and_bad_ones_are_refused(tmp_path):
    deep = head(kernel=(0.3, 0.9, -0.4, 0.5))
    save_adapter(tmp_path / "deep.safetensors", deep, backbone())
    again = load_adapter(tmp_path / "deep.safetensors", backbone())
    assert again.config == deep.config and all(map(torch.equal, again.parameters(), deep.parameters()))
    with pytest.raises(UsageError, match=r"context\[0\] is 400"):
        head((400.0,))
    with pytest.raises(UsageError, match="context is 4"):
        head(4.0)
