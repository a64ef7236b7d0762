"""Industrial images: every kind and defect, masks that cover what was changed, and the same bytes every time."""

from __future__ import annotations

import numpy as np
import pytest

from ZSADCLIPLib.errors import UsageError
from ZSADCLIPLib.synthetic.brains import write_dataset
from ZSADCLIPLib.synthetic.industrial import DEFECTS, KINDS, make_image


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_comes_flawless_and_damaged(kind):
    image, mask, name, defect = make_image(5, kind)
    assert image.shape == mask.shape == (240, 240)
    assert image.dtype == np.uint8 and mask.dtype == bool
    assert name == kind and defect in DEFECTS
    assert 30 <= mask.sum() < mask.size / 4
    clear, empty, _, none = make_image(5, kind, defect=False)
    assert not empty.any() and none == ""
    assert clear.std() > 2


def test_the_mask_marks_what_stands_out():
    """A defect stands out from the rest of the image, which is even."""
    inside, outside = [], []
    for seed in range(12):
        damaged, mask, _, _ = make_image(seed)
        inside.append(abs(damaged[mask].mean() - damaged[~mask].mean()))
        outside.append(abs(damaged[~mask][::2].mean() - damaged[~mask][1::2].mean()))
    assert np.median(inside) > 10 * np.median(outside)


def test_the_same_seed_is_the_same_image_and_seeds_cover_all_kinds_and_defects():
    first, second = make_image(11), make_image(11)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    drawn = [make_image(seed)[2:] for seed in range(80)]
    assert {kind for kind, _ in drawn} == set(KINDS)
    assert {defect for _, defect in drawn} == set(DEFECTS)


def test_bad_arguments_are_named():
    with pytest.raises(UsageError, match="carpett"):
        make_image(1, "carpett")
    with pytest.raises(UsageError, match="-3"):
        make_image(-3)


def test_the_domain_is_written_as_volumes_of_one_slice(tmp_path):
    import nibabel as nib

    folders = write_dataset(tmp_path, cases=2, seed=4, domain="industrial")
    assert [f.name for f in folders] == ["industrial-00004", "industrial-00005"]
    image, seg = (nib.load(folders[0] / f"industrial-00004-{k}.nii.gz") for k in ("image", "seg"))
    assert image.shape == seg.shape == (240, 240, 1)
    expected = make_image(4)
    np.testing.assert_array_equal(np.asarray(image.dataobj)[:, :, 0].T, expected[0])
    np.testing.assert_array_equal(np.asarray(seg.dataobj)[:, :, 0].T > 0, expected[1])
