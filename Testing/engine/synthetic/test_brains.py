"""Synthetic brains: BraTS geometry, honest labels, look-alikes that carry none, and the same bytes every time."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from ZSADCLIPLib.errors import UsageError
from ZSADCLIPLib.synthetic.brains import AFFINE, make_case, write_dataset


@pytest.fixture(scope="module")
def sick():
    return make_case(9001, channels=("t2w", "t1c"))


@pytest.fixture(scope="module")
def healthy():
    return make_case(9001, healthy=True, anatomy="mni152")


def test_geometry_and_types_are_those_of_brats(sick):
    for volume in (*sick.volumes.values(), sick.seg):
        assert volume.shape == (240, 240, 155)
        np.testing.assert_array_equal(volume.affine, [[-1, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]])
        assert nib.aff2axcodes(volume.affine) == ("L", "P", "S")
    assert {v.array.dtype for v in sick.volumes.values()} == {np.dtype(np.int16)}
    assert sick.seg.array.dtype == np.uint8


def test_the_background_is_exactly_zero_in_every_channel_and_the_brain_is_one_piece(sick):
    brain = sick.volumes["t2w"].array > 0
    assert ndimage.label(brain)[1] == 1
    assert 1.2e6 < brain.sum() < 2.4e6
    np.testing.assert_array_equal(brain, sick.volumes["t1c"].array > 0)
    np.testing.assert_array_equal(brain, sick.tissue.array > 0)
    assert not brain[[0, -1]].any() and not brain[:, [0, -1]].any()


def test_lesion_volumes_add_up_to_the_labels_and_lie_in_the_brain(sick):
    seg = sick.seg.array
    assert set(np.unique(seg)) <= {0, 1, 2, 3} and sick.lesions
    assert sum(lesion["volume_mm3"] for lesion in sick.lesions) == (seg > 0).sum()
    assert sum(lesion["core_mm3"] for lesion in sick.lesions) == np.isin(seg, (1, 3)).sum()
    assert not (seg[sick.volumes["t2w"].array == 0] > 0).any()
    to_voxel = np.linalg.inv(AFFINE)
    for lesion in sick.lesions:
        centre = (to_voxel @ [*lesion["centre_ras"], 1])[:3]
        where = np.argwhere(seg > 0)
        assert np.linalg.norm(where - centre, axis=1).min() <= lesion["radius_mm"] + 2


def test_contrasts_have_the_order_of_the_sequence(sick):
    """T2: fluid above oedema above white matter, grey above white; contrast-enhanced T1: tumour above white above fluid."""
    tissue, seg = sick.tissue.array, sick.seg.array
    clear = ~ndimage.binary_dilation(seg > 0, iterations=3)

    def level(channel, where):
        return np.median(sick.volumes[channel].array[where])

    fluid, grey, white = (clear & (tissue == k) for k in (1, 2, 3))
    assert level("t2w", fluid) > level("t2w", grey) > level("t2w", white)
    assert level("t2w", fluid) > level("t2w", seg == 2) > level("t2w", white)
    assert level("t1c", seg == 3) > level("t1c", white) > level("t1c", fluid)


def test_healthy_cases_have_no_label_but_still_look_alikes(healthy):
    assert not healthy.lesions and not healthy.seg.array.any()
    image, white = healthy.volumes["t2w"].array, healthy.tissue.array == 3
    deep = ndimage.binary_erosion(white, iterations=3)
    assert image[deep].max() > 1.2 * np.median(image[deep])


def test_channels_do_not_change_the_head(sick):
    again = make_case(9001)
    np.testing.assert_array_equal(again.volumes["t2w"].array, sick.volumes["t2w"].array)
    np.testing.assert_array_equal(again.seg.array, sick.seg.array)
    assert again.lesions == sick.lesions


def test_another_seed_is_another_head(sick):
    other = make_case(9002)
    assert (other.volumes["t2w"].array != sick.volumes["t2w"].array).any()
    assert other.lesions != sick.lesions


def test_written_files_are_the_same_bytes_twice_and_named_as_brats(tmp_path):
    digests = []
    for turn in ("first", "second"):
        (folder,) = write_dataset(tmp_path / turn, cases=1, seed=9003)
        names = sorted(p.name for p in folder.iterdir())
        assert names == ["BraTS-MET-09003-000-seg.nii.gz", "BraTS-MET-09003-000-t2w.nii.gz"]
        digests.append([hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())])
    assert digests[0] == digests[1]
    stored = nib.load(tmp_path / "first" / folder.name / names[1])
    assert stored.shape == (240, 240, 155) and stored.get_data_dtype() == np.int16
    np.testing.assert_array_equal(stored.affine, AFFINE)


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"seed": 1, "channels": ("t3",)}, {"seed": 1, "anatomy": "mouse"}])
def test_bad_arguments_are_named(wrong):
    with pytest.raises(UsageError, match="-1|t3|mouse"):
        make_case(**wrong)


def test_the_generator_needs_no_torch():
    code = (
        "import sys, ZSADCLIPLib.synthetic.brains, ZSADCLIPLib.synthetic.industrial; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
