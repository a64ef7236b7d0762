"""Findings are the connected parts of the mask with right sizes, places and order."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from conftest import ORIENTATIONS, affine, stored_as
from scipy import ndimage
from work import calls

from ZSADCLIPLib.detection.findings import find
from ZSADCLIPLib.errors import InputError, UsageError
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.components import components, remove_small
from ZSADCLIPLib.volumes.slicing import slice_volume


@pytest.fixture
def scored() -> tuple[Volume, np.ndarray]:
    """Two boxes and one voxel in RAS: a large moderate one on the right, a small high one on the left."""
    array = np.full((30, 20, 20), -3.0, np.float32)
    array[20:26, 5:10, 5:8] = 1.0
    array[22, 6, 6] = 1.5
    array[3:5, 3:5, 12:14] = 4.0
    array[15, 18, 18] = 0.5
    return Volume(array, affine((1.0, 2.0, 3.0), (-15.0, 0.0, 100.0))), array > 0


def test_measures(scored):
    volume, mask = scored
    findings = find(volume, mask, slice_volume(volume))
    large, high, dot = findings
    assert [f.rank for f in findings] == [1, 2, 3]
    assert (large.voxels, high.voxels, dot.voxels) == (90, 8, 1)
    assert (large.volume_mm3, high.volume_mm3, dot.volume_mm3) == pytest.approx((540.0, 48.0, 6.0))
    assert (large.peak, high.peak, dot.peak) == (1.5, 4.0, 0.5)
    assert large.mean == pytest.approx((89 + 1.5) / 90)
    assert large.peak_ras == (7.0, 12.0, 118.0)
    assert large.centroid_ras == pytest.approx((7.5, 14.0, 118.0))
    assert (large.side, high.side, dot.side) == ("right", "left", "midline")
    assert (large.slices, high.slices) == ((5, 7), (12, 13))
    assert large.box == ((20, 25), (5, 9), (5, 7))


def test_slices_follow_the_plane(scored):
    volume, mask = scored
    coronal = find(volume, mask, slice_volume(volume, "coronal"))[0]
    sagittal = find(volume, mask, slice_volume(volume, "sagittal"))[0]
    assert coronal.slices == (5, 9)
    assert sagittal.slices == (4, 9)  # counted from the patient's right


def test_they_are_ready_for_json(scored):
    volume, mask = scored
    finding = asdict(find(volume, mask, slice_volume(volume))[0])
    assert json.loads(json.dumps(finding))["box"] == [[20, 25], [5, 9], [5, 7]]


def test_labels_lead_to_the_components(scored):
    volume, mask = scored
    labels = components(mask)
    findings = find(volume, mask, slice_volume(volume))
    assert len(findings) == 3
    for finding in findings:
        assert (labels == finding.label).sum() == finding.voxels


def test_physical_facts_do_not_depend_on_storage(scored):
    volume, mask = scored
    reference = find(volume, mask, slice_volume(volume))
    assert len(reference) == 3
    for how in ORIENTATIONS:
        stored = stored_as(volume, *how)
        turned = stored_as(volume.with_array(mask), *how).array
        for a, b in zip(reference, find(stored, turned, slice_volume(stored)), strict=True):
            assert (a.rank, a.voxels, a.peak, a.side, a.slices) == (b.rank, b.voxels, b.peak, b.side, b.slices)
            assert b.volume_mm3 == pytest.approx(a.volume_mm3)
            assert b.centroid_ras == pytest.approx(a.centroid_ras)


def test_order_ignores_the_zero_of_the_scale(scored):
    volume, mask = scored
    shifted = volume.with_array(volume.array - 100)
    stack = slice_volume(volume)
    assert [f.label for f in find(shifted, mask, stack)] == [f.label for f in find(volume, mask, stack)]


def test_the_brain_decides_where_the_middle_is(scored):
    volume, mask = scored
    brain = np.zeros(volume.shape, bool)
    brain[20:30] = True
    sides = [f.side for f in find(volume, mask, slice_volume(volume), brain=brain)]
    assert sides == ["midline", "left", "left"]


def test_corners_connect():
    mask = np.zeros((4, 4, 4), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[3, 3, 3] = True
    assert components(mask).max() == 2


def test_small_parts_go_and_parts_of_the_smallest_size_stay(scored):
    volume, mask = scored
    stack = slice_volume(volume)
    assert len(find(volume, mask, stack, min_size_mm3=48)) == 2
    assert len(find(volume, mask, stack, min_size_mm3=48.1)) == 1
    kept = remove_small(mask, volume.spacing, 48)
    assert kept.sum() == 98
    assert not (kept & ~mask).any()
    assert remove_small(mask, volume.spacing, 0).sum() == 99
    assert mask.sum() == 99


def test_nothing_found_is_an_empty_list(scored):
    volume, mask = scored
    stack = slice_volume(volume)
    assert find(volume, np.zeros_like(mask), stack) == []
    assert find(volume, mask, stack, min_size_mm3=1e6) == []
    assert not remove_small(mask, volume.spacing, 1e6).any()


def test_bad_arguments_are_refused(scored):
    volume, mask = scored
    stack = slice_volume(volume)
    with pytest.raises(InputError, match="mask"):
        find(volume, mask[1:], stack)
    with pytest.raises(InputError, match="brain"):
        find(volume, mask, stack, brain=mask[1:])
    for size in (-1, float("nan")):
        with pytest.raises(UsageError, match="smallest size"):
            find(volume, mask, stack, size)
        with pytest.raises(UsageError, match="smallest size"):
            remove_small(mask, volume.spacing, size)


def test_random_masks_agree_with_a_slow_count(rng):
    volume = Volume(rng.normal(size=(9, 10, 11)).astype(np.float32), affine((0.7, 1.1, 1.9)))
    mask = rng.random(volume.shape) > 0.9
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    findings = find(volume, mask, slice_volume(volume))
    assert len(findings) == count
    for finding in findings:
        part = labels == finding.label
        assert finding.peak == volume.array[part].max()
        assert finding.mean == pytest.approx(volume.array[part].mean(), rel=1e-5)
        centroid = volume.affine @ [*np.argwhere(part).mean(0), 1]
        assert finding.centroid_ras == pytest.approx(centroid[:3])
        assert finding.box == tuple((int(a.min()), int(a.max())) for a in np.nonzero(part))


def test_the_work_grows_with_the_findings_and_not_with_their_voxels(rng):
    small = ndimage.gaussian_filter(rng.normal(size=(40, 40, 26)).astype(np.float32), 1)
    counts = []
    for times in (1, 3):
        large = small.repeat(times, 0).repeat(times, 1).repeat(times, 2)
        volume, mask = Volume(large, affine()), large > np.quantile(small, 0.98)
        found, stack = [], slice_volume(volume)
        counts.append(calls(lambda: found.extend(find(volume, mask, stack, min_size_mm3=1))))  # noqa: B023
        assert len(found) > 20
    assert counts[1] < 1.2 * counts[0] and counts[1] < 100 * len(found) + 1000
