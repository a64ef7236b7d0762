"""Slices are permutations and flips with the promised directions, and their fit keeps the aspect."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import ORIENTATIONS, affine, stored_as
from PIL import Image
from work import calls

from ZSADCLIPLib.errors import InputError, UsageError
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.slicing import PLANES, Fit, View, slice_volume

# What grows with the slice, row and column index, written out apart from the implementation.
GROWING = {"axial": "SPL", "coronal": "AIL", "sagittal": "LIP"}
LETTERS = {"L": (-1, 0, 0), "R": (1, 0, 0), "P": (0, -1, 0), "A": (0, 1, 0), "I": (0, 0, -1), "S": (0, 0, 1)}


def turned(volume: Volume, degrees: float, axis: int = 0) -> Volume:
    """The volume rotated in space about a patient axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    a, b = [(1, 2), (0, 2), (0, 1)][axis]
    rotation = np.eye(4)
    rotation[a, a], rotation[a, b], rotation[b, a], rotation[b, b] = c, -s, s, c
    return Volume(volume.array, rotation @ volume.affine)


def test_there_are_48_orientations(volume):
    assert len({stored_as(volume, *how).axcodes for how in ORIENTATIONS}) == 48


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("degrees", [0, 14])
def test_every_storage_of_a_brain_gives_the_same_slices(volume, plane, degrees):
    volume = turned(volume, degrees)
    reference = slice_volume(volume, plane)
    for how in ORIENTATIONS:
        stored = stored_as(volume, *how)
        stack = slice_volume(stored, plane)
        assert np.array_equal(stack.array, reference.array)
        assert np.shares_memory(stack.array, stored.array)
        assert stack.spacing == pytest.approx(reference.spacing, abs=1e-12)
        assert np.array_equal(stack.restore(stack.array), stored.array)
        assert np.array_equal(stack.arrange(stored.array), stack.array)
        assert stack.obliquity == pytest.approx(degrees, abs=1e-5)


@pytest.mark.parametrize("plane", PLANES)
def test_indices_grow_in_the_promised_directions(volume, plane):
    for how in ORIENTATIONS:
        stored = stored_as(volume, *how)
        stack = slice_volume(stored, plane)
        origin = stored.affine @ [*stack.voxel(0, 0, 0), 1]
        for axis, letter in enumerate(GROWING[plane]):
            step = [0, 0, 0]
            step[axis] = 1
            moved = (stored.affine @ [*stack.voxel(*step), 1] - origin)[:3]
            mm = stack.spacing[(2, 0, 1)[axis]]
            assert moved == pytest.approx(mm * np.array(LETTERS[letter]), abs=1e-9)


def test_voxel_and_index_name_the_same_place(volume, rng):
    for how in ORIENTATIONS[::5]:
        stored = stored_as(volume, *how)
        stack = slice_volume(stored)
        n, r, c = (int(rng.integers(size)) for size in stack.shape)
        assert stored.array[stack.voxel(n, r, c)] == stack.array[n, r, c]
        assert stack.index(*stack.voxel(n, r, c)) == (n, r, c)


def test_near_45_degrees_no_axis_is_used_twice(volume):
    # Rotating by 45 degrees about two axes makes the largest cosine of two patient axes fall on one voxel axis.
    for first in range(3):
        for second in range(3):
            stack = slice_volume(turned(turned(volume, 44, first), 46, second))
            assert sorted(stack.permutation) == [0, 1, 2]
            assert np.array_equal(stack.restore(stack.array), volume.array)


def test_only_strongly_oblique_grids_are_warned_about(volume):
    assert slice_volume(turned(volume, 24)).warning == ""
    assert "26 degrees oblique" in slice_volume(turned(volume, 26)).warning


def test_wrong_shapes_and_planes_are_refused(volume):
    stack = slice_volume(volume)
    with pytest.raises(InputError, match="do not fit the stack"):
        stack.restore(np.zeros((1, 2, 3)))
    with pytest.raises(InputError, match="does not fit the grid"):
        stack.arrange(np.zeros((1, 2, 3)))
    with pytest.raises(UsageError, match="transversal"):
        slice_volume(volume, "transversal")


@pytest.mark.parametrize("shape", [(40, 40, 1), (40, 1, 40), (1, 40, 40), (3, 50, 50), (1, 1, 1)])
def test_thin_volumes_can_be_sliced_and_fitted(shape, rng):
    stack = slice_volume(Volume(rng.uniform(0, 255, shape).astype(np.uint8), affine()))
    fit = Fit(stack.shape[1:], stack.spacing[:2], 32)
    square = fit.apply(stack.array)
    assert square.shape == (stack.shape[0], 32, 32)
    back = stack.restore(fit.back(square.astype(np.float32)))
    assert back.shape == shape
    assert np.isfinite(back).all()


def test_fit_is_the_identity_for_square_slices_of_the_right_size(rng):
    slices = rng.integers(0, 256, (3, 48, 48), dtype=np.uint8)
    maps = rng.normal(size=(3, 48, 48)).astype(np.float32)
    fit = Fit((48, 48), (1.0, 1.0000001), 48)
    assert np.array_equal(fit.apply(slices), slices)
    assert np.array_equal(fit.back(maps), maps)


@pytest.mark.parametrize("resample", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [20, 70])
def test_fit_of_square_slices_is_pillows_resize(rng, resample, size):
    slices = rng.integers(0, 256, (2, 48, 48), dtype=np.uint8)
    fitted = Fit((48, 48), (0.5, 0.5), size, resample).apply(slices)
    method = getattr(Image.Resampling, resample.upper())
    for one, target in zip(slices, fitted, strict=True):
        assert np.array_equal(np.asarray(Image.fromarray(one).resize((size, size), method)), target)


def test_padding_copies_pixels_when_no_resize_is_needed(rng):
    slices = rng.integers(1, 256, (2, 48, 33), dtype=np.uint8)
    fitted = Fit((48, 33), (2.0, 2.0), 48).apply(slices)
    assert np.array_equal(fitted[:, :, 7:40], slices)
    assert fitted.sum() == slices.sum(dtype=int)
    maps = rng.normal(size=(2, 48, 48)).astype(np.float32)
    assert np.array_equal(Fit((48, 33), (2.0, 2.0), 48).back(maps), maps[:, :, 7:40])


@pytest.mark.parametrize(
    ("shape", "spacing"), [((30, 240), (5.0, 0.9)), ((512, 100), (0.7, 3.3)), ((200, 150), (1.0, 1.0))]
)
def test_a_disc_in_mm_stays_a_disc(shape, spacing):
    rows, columns = ((np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing, strict=True))
    radius = 0.3 * min(n * mm for n, mm in zip(shape, spacing, strict=True))
    disc = (np.hypot(rows[:, None], columns) < radius).astype(np.uint8) * 255
    fit = Fit(shape, spacing, 336)
    there = fit.apply(disc[None])[0] > 127
    height, width = there.any(1).sum(), there.any(0).sum()
    pixel = max(n * mm for n, mm in zip(shape, spacing, strict=True)) / 336
    assert height * pixel == pytest.approx(2 * radius, abs=max(spacing) + pixel)
    assert width * pixel == pytest.approx(2 * radius, abs=max(spacing) + pixel)
    centre = np.argwhere(there).mean(0)
    assert centre == pytest.approx((167.5, 167.5), abs=1.0)
    back = fit.back(there[None].astype(np.float32))[0] > 0.5
    overlap = 2 * (back & (disc > 0)).sum() / (back.sum() + (disc > 0).sum())
    assert overlap > 0.97


@pytest.mark.parametrize("size", [17, 64, 100])
def test_back_is_bilinear_at_the_pixel_centres(rng, size):
    torch = pytest.importorskip("torch")
    maps = rng.normal(size=(2, size, size)).astype(np.float32)
    expected = torch.nn.functional.interpolate(torch.from_numpy(maps)[None], (64, 64), mode="bilinear")[0].numpy()
    assert Fit((64, 64), (1.0, 1.0), size).back(maps) == pytest.approx(expected, abs=2e-6)


def test_back_of_one_slice_does_not_depend_on_its_neighbours(rng):
    maps = rng.normal(size=(5, 60, 60)).astype(np.float32)
    fit = Fit((48, 33), (1.1, 0.7), 60)
    together = fit.back(maps)
    for n in range(5):
        assert np.array_equal(fit.back(maps[n : n + 1])[0], together[n])


def test_fit_refuses_what_cannot_be(rng):
    with pytest.raises(InputError, match="spacing"):
        Fit((240, 240), (1e-4, 1.0), 240)
    with pytest.raises(UsageError, match="lanczos"):
        Fit((4, 4), (1.0, 1.0), 4, "lanczos")
    with pytest.raises(UsageError, match="image size 0"):
        Fit((4, 4), (1.0, 1.0), 0)
    with pytest.raises(InputError, match="uint8"):
        Fit((4, 4), (1.0, 1.0), 4).apply(np.zeros((1, 4, 4), np.float32))
    with pytest.raises(InputError, match=r"\(N, 4, 4\)"):
        Fit((4, 4), (1.0, 1.0), 4).back(np.zeros((1, 5, 4), np.float32))


def test_fitting_and_mapping_back_are_a_few_calls_for_a_slice_whatever_its_size(rng):
    counts = {}
    for slices, side in ((4, 24), (4, 48), (40, 24)):
        array, fit = rng.integers(0, 256, (slices, side, side), dtype=np.uint8), Fit((side, side), (1.0, 1.0), 56)
        counts[slices, side] = calls(lambda: fit.back(fit.apply(array).astype(np.float32)))  # noqa: B023
    assert counts[4, 48] < 1.1 * counts[4, 24] and counts[40, 24] < 11 * counts[4, 24]


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.9, 0.9), (0.5133, 0.5134), (1.0, 3.0), (5.0, 0.7)])
@pytest.mark.parametrize("shape", [(60, 50), (61, 50), (61, 51), (50, 60)])
@pytest.mark.parametrize("resample", ["bicubic", "bilinear", "nearest"])
def test_a_view_of_the_whole_slice_is_no_view_at_all(rng, spacing, shape, resample):
    slices = rng.integers(0, 256, (2, *shape), dtype=np.uint8)
    maps = rng.normal(size=(2, 48, 48)).astype(np.float32)
    side = max(n * mm for n, mm in zip(shape, spacing, strict=True))
    plain, viewed = (Fit(shape, spacing, 48, resample, v) for v in (None, View(shape[0] / 2, shape[1] / 2, side)))
    assert np.array_equal(plain.apply(slices), viewed.apply(slices))
    assert np.array_equal(plain.back(maps), viewed.back(maps)) and plain.seen.all()


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.7, 0.7), (2.5, 0.8)])
@pytest.mark.parametrize("before", [(0, 7), (12, 0), (9, 31)])
@pytest.mark.parametrize("side", [24.0, 25.0, 31.3, 80.0])
def test_background_around_a_slice_changes_nothing_in_a_view(rng, spacing, before, side):
    slices = rng.integers(1, 256, (2, 40, 33), dtype=np.uint8)
    maps = rng.normal(size=(2, 36, 36)).astype(np.float32)
    (top, left), after = before, (5, 16)
    padded = np.pad(slices, [(0, 0), (top, after[0]), (left, after[1])])
    plain = Fit((40, 33), spacing, 36, view=View(18.5, 20.0, side))
    wide = Fit(padded.shape[1:], spacing, 36, view=View(18.5 + top, 20.0 + left, side))
    assert np.array_equal(wide.apply(padded), plain.apply(slices))
    inside = np.s_[:, top : top + 40, left : left + 33]
    # Positions in the wider slice are other floating numbers.
    np.testing.assert_allclose(wide.back(maps)[inside], plain.back(maps), rtol=0, atol=1e-5)
    assert np.array_equal(wide.seen[inside[1:]], plain.seen)


@pytest.mark.parametrize("size", [20, 36, 90])
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.7, 0.7), (2.5, 0.8)])
def test_a_place_in_a_view_comes_back_to_its_pixels(spacing, size):
    shape = (45, 64)
    rows, columns = np.indices(shape)
    disc = np.hypot((rows - 20) * spacing[0], (columns - 41) * spacing[1]) < 9
    fit = Fit(shape, spacing, size, view=View(22, 40, 40.0))
    there = fit.apply(disc[None].astype(np.uint8) * 255)
    back = fit.back(there.astype(np.float32))[0] > 127
    assert 2 * (back & disc).sum() / (back.sum() + disc.sum()) > 0.85
    assert np.argwhere(back).mean(0) == pytest.approx(np.argwhere(disc).mean(0), abs=0.6)


def test_whole_pixels_of_a_view_are_copied(rng):
    slices = rng.integers(0, 256, (2, 48, 61), dtype=np.uint8)
    maps = rng.normal(size=(2, 32, 32)).astype(np.float32)
    fit = Fit((48, 61), (1.0, 1.0), 32, view=View(20.5, 31.0, 32.0))
    assert fit.box == (5, 37, 15, 47)
    assert np.array_equal(fit.apply(slices), slices[:, 5:37, 15:47])
    assert np.array_equal(fit.back(maps)[:, 5:37, 15:47], maps)


def test_outside_a_view_is_the_lowest_score_of_the_volume(rng):
    maps = rng.normal(size=(3, 32, 32)).astype(np.float32)
    fit = Fit((48, 61), (1.0, 1.0), 32, view=View(20.5, 31.0, 32.0))
    back = fit.back(maps)
    assert (back[:, ~fit.seen] == maps.min()).all() and fit.seen.sum() == 32 * 32
    assert (back[:, fit.seen] >= maps.min()).all()
