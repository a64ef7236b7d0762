"""What a model sees of a volume: contrast, plane and field of view, each said where it was a choice."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import affine
from small_models import backbone

from ZSADCLIPLib import Detector, Volume, load_adapter
from ZSADCLIPLib.detection.preparation import Look
from ZSADCLIPLib.errors import InputError, UsageError
from ZSADCLIPLib.volumes.intensity import to_uint8


def detector(**options):
    model = backbone("vit")
    return Detector(model, load_adapter("vand:random", model), **{"image_size": 64, **options})


def brain(shape=(44, 52, 21), spacing=(3.0, 3.0, 4.0), radii=(14.0, 17.0, 7.0), seed=3) -> Volume:
    """A skull-stripped ellipsoid in zeros."""
    rng = np.random.default_rng(seed)
    grid = np.indices(shape) - (np.array(shape) / 2 - 0.5).reshape(3, 1, 1, 1)
    inside = ((grid / np.array(radii).reshape(3, 1, 1, 1)) ** 2).sum(0) < 1
    array = np.where(inside, rng.integers(200, 900, shape), 0).astype(np.int16)
    return Volume(array, affine(spacing, (-60, -70, -40)), "brain")


def padded(volume: Volume, widths) -> Volume:
    moved = volume.affine.copy()
    moved[:3, 3] -= moved[:3, :3] @ [before for before, _ in widths]
    return Volume(np.pad(volume.array, widths), moved, volume.name)


def tilted(volume: Volume) -> Volume:
    c, s = np.cos(0.2), np.sin(0.2)
    return volume.__class__(
        volume.array, np.array([[c, -s, 0, 3], [s, c, 0, 1], [0, 0, 1, 2], [0, 0, 0, 1]]) @ volume.affine
    )


def codes(found) -> list[str]:
    return [note.code for note in found.notes]


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("spacing", [(3.0, 3.0, 4.0), (2.4, 3.1, 2.7), (2.2, 2.2, 6.0)])
def test_background_around_a_volume_does_not_change_the_map_of_a_brain(plane, spacing):
    for volume in (brain(spacing=spacing), tilted(brain((45, 52, 20), spacing))):
        wide = padded(volume, [(9, 4), (0, 11), (3, 2)])
        small, large = (detector(plane=plane).detect(each) for each in (volume, wide))
        i, j, k = volume.shape
        inside = np.s_[9 : 9 + i, :j, 3 : 3 + k]
        # Positions are other floating numbers; what the model sees is bit by bit the same.
        np.testing.assert_allclose(large.map.array[inside], small.map.array, rtol=0, atol=2e-5)
        assert np.array_equal(large.brain[inside], small.brain)
        assert large.volume_score == pytest.approx(small.volume_score, abs=1e-6)
        seen = [detector(plane=plane).prepare(each) for each in (volume, wide)]
        there = [fit.apply(image) for _, image, fit in seen]
        there = [each[each.any(axis=(1, 2))] for each in there]
        assert np.array_equal(*there)


def test_the_box_is_recorded_and_the_whole_slice_has_none():
    record = detector().detect(brain()).provenance["preprocessing"]
    assert record["crop"] == "head" and record["side_mm"] > 100
    top, end, left, right = record["box"]
    assert (top + end) / 2 == pytest.approx(26, abs=0.6) and (left + right) / 2 == pytest.approx(22, abs=0.6)
    record = detector(crop="none").detect(brain()).provenance["preprocessing"]
    assert record["crop"] == "none" and record["box"] is None and record["side_mm"] is None


def test_a_given_brain_mask_defines_the_head():
    volume = brain()
    mask = np.zeros(volume.shape, bool)
    mask[10:20, 12:30, 5:15] = True
    view = detector(crop=60).prepare(volume, mask)[2].view
    assert (view.row, view.column) == (52 - 21, 44 - 15)  # rows run backwards from anterior, columns from the right
    assert detector().prepare(volume, mask)[2].view.side < detector().prepare(volume)[2].view.side


def test_what_a_square_leaves_out_is_said_and_not_scored():
    found = detector(crop=40, threshold="quantile:0.9").detect(brain())
    (note,) = found.notes
    assert (note.code, note.severity) == ("crop", "warning") and "40 mm leaves out" in note.text
    out = np.ones(found.map.shape, bool)
    seen = np.broadcast_to(detector(crop=40).prepare(brain())[2].seen, found.stack.shape)
    out[found.stack.restore(seen)] = False
    assert not (found.mask.array.astype(bool) & out).any() and found.mask.array.any()
    assert (found.map.array[out] == found.map.array.min()).all()
    inside = found.brain & ~out
    assert found.mask.array.sum() == pytest.approx(0.1 * inside.sum(), rel=0.03)
    hollow = found.brain & out
    with pytest.raises(InputError, match="shows nothing of the head"):
        detector(crop=40).detect(brain(), hollow)


def test_fast_mode_computes_the_brain_in_the_square():
    exact, fast = (detector(fast=fast).detect(brain()) for fast in (False, True))
    boxes = np.array(fast.provenance["fast"]["boxes"])
    assert boxes[:, 0].min() <= 1 and np.isfinite(fast.map.array).all()
    assert fast.provenance["preprocessing"]["box"] == exact.provenance["preprocessing"]["box"]


def test_references_are_cropped_by_their_own_head(monkeypatch):
    d, kept = detector(), []
    monkeypatch.setattr(d.adapter, "remember", lambda backbone, images: kept.append(images))
    d.remember(brain())
    d.remember(padded(brain(), [(9, 4), (0, 11), (0, 0)]))
    half = len(kept) // 2
    assert all(np.array_equal(a, b) for a, b in zip(kept[:half], kept[half:], strict=True)) and half


@pytest.mark.parametrize("value", [-1, -3.2, -1000, -3024, 4095])
def test_another_background_gives_the_same_map_and_is_said(value):
    volume = brain()
    other = Volume(np.where(volume.array, volume.array, value).astype(np.float32), volume.affine, "other")
    first, second = detector().detect(volume), detector().detect(other)
    assert np.array_equal(first.map.array, second.map.array) and np.array_equal(first.mask.array, second.mask.array)
    assert codes(first) == [] and codes(second) == ["background"]
    assert second.notes[0].text == f"the constant value {value:g} fills the border: it counts as background"


def tomography() -> Volume:
    rng = np.random.default_rng(1)
    i, j, _ = np.indices((48, 48, 12)).astype(float)
    r = np.hypot((i - 23.5) / 17, (j - 23.5) / 20)
    array = np.select([r < 0.85, r < 0.95, r < 1], [35.0, 900.0, 20.0], -1000.0) + rng.normal(0, 6, r.shape)
    return Volume(np.rint(array).astype(np.int16), affine((4, 4, 5)), "ct")


def test_tomography_is_seen_through_the_brain_window_unless_something_else_is_asked_for():
    volume = tomography()
    prepared = Look().prepare(volume, 64)
    assert np.array_equal(prepared.image, to_uint8(prepared.stack.array, "window", (0, 80)))
    assert [note.text for note in prepared.notes] == ["Hounsfield range: shown with the brain window 0 to 80"]
    assert prepared.record()["window"] == [0, 80] and prepared.record()["intensity"] == "window"
    bone = Look(window=(-500, 1500)).prepare(volume, 64)
    assert bone.record()["window"] == [-500, 1500] and bone.notes == ()
    asked = Look(intensity="per-volume-percentile").prepare(volume, 64)
    assert asked.record()["intensity"] == "per-volume-percentile" and asked.record()["window"] is None


def test_a_contrast_that_shows_nothing_is_said():
    (note,) = Look(window=(0, 90000)).prepare(brain(), 64).notes
    assert (note.code, note.severity) == ("contrast", "warning") and "1 to 2 of 0 to 255" in note.text


def test_the_plane_is_chosen_by_the_detector_too():
    thick = brain((21, 52, 44), (5.0, 3.0, 3.0), (7.0, 17.0, 14.0))
    found = detector().detect(thick)
    assert found.provenance["preprocessing"]["plane"] == found.stack.plane == "sagittal" and codes(found) == ["plane"]
    assert codes(detector(plane="axial").detect(thick)) == ["thick-slices"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": "brain"}, "crop 'brain'"),
        ({"intensity": "per-slice-minmax", "window": (0, 80)}, "not with per-slice-minmax"),
        ({"intensity": "window"}, "low < high"),
        ({"window": (80, 0)}, "low < high"),
        ({"intensity": "zscore"}, "zscore"),
    ],
)
def test_choices_that_cannot_be_are_refused_at_once(options, message):
    with pytest.raises(UsageError, match=message):
        Look(**options)
