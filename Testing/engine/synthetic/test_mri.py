"""The mri world: every option occurs, the same seed gives the same bytes, and pictures keep what labels promise."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from scipy import ndimage

from ZSADCLIPLib.errors import UsageError
from ZSADCLIPLib.synthetic.brains import make_case, write_dataset
from ZSADCLIPLib.synthetic.mri import scans
from ZSADCLIPLib.synthetic.mri import settings as s
from ZSADCLIPLib.synthetic.mri.contrast import Levels
from ZSADCLIPLib.synthetic.mri.scans import make_scan

EXPECTED = {
    "metastases": {s.ENHANCING},
    "glioma": {s.OEDEMA, s.TUMOUR},
    "ms": {s.PLAQUE},
    "small-vessel": {s.SMALL_VESSEL},
    "infarct": {s.INFARCT},
    "old-infarct": {s.OLD_INFARCT, s.GLIOSIS},
    "bleed": {s.BLEED},
    "cavity": {s.CAVITY},
}


def digest(case) -> str:
    arrays = [*(v.array for v in case.volumes.values()), case.seg.array, case.tissue.array]
    return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()


@pytest.fixture(scope="module")
def by_disease():
    """One skull-stripped FLAIR of each disease."""
    return {d: make_scan(40 + n, ("t2f",), d, head=False) for n, d in enumerate(s.DISEASES)}


@pytest.fixture(scope="module")
def heads():
    return [make_scan(seed, ("t2w",), "none", head=True) for seed in range(60, 64)]


def test_the_other_world_has_not_changed():
    case = make_case(9001)
    expected = "943b9444f3bc636068ae9c33e53a4e5093054303349dfc96cb9f776ea885d3f6"
    assert hashlib.sha256(case.volumes["t2w"].array.tobytes() + case.seg.array.tobytes()).hexdigest() == expected


def test_the_same_seed_gives_the_same_bytes_and_another_does_not():
    seeds = 12, 2  # a whole head with a lesion, and a brain without one in the other anatomy
    first, other = (digest(make_scan(seed)) for seed in seeds)
    again = [digest(make_case(seed, channels=None, anatomy=None, world="mri")) for seed in seeds]
    assert again == [first, other] and first != other


def test_channels_share_head_grid_and_lesions(by_disease):
    one, seed = by_disease["ms"], 40 + s.DISEASES.index("ms")
    two = make_scan(seed, ("t1n", "t2f"), "ms", head=False)
    np.testing.assert_array_equal(one.seg.array, two.seg.array)
    np.testing.assert_array_equal(one.volumes["t2f"].array, two.volumes["t2f"].array)
    np.testing.assert_array_equal(two.volumes["t1n"].affine, two.volumes["t2f"].affine)


def test_every_option_is_drawn_over_a_range_of_seeds():
    """No option is forgotten, and shares of 2000 draws are near those of the world."""
    world = s.MriWorld()
    drawn = [scans._draw(np.random.default_rng([n, 1]), None, None, None, None, world) for n in range(2000)]
    assert {d["channels"][0] for d in drawn} == set(s.CHANNELS)
    assert {d["disease"] for d in drawn} == {"none", *s.DISEASES}
    assert {d["stripping"] for d in drawn} == {"none", *s.STRIPPINGS}
    assert np.mean([d["disease"] == "none" for d in drawn]) == pytest.approx(world.healthy, rel=0.15)
    assert np.mean([d["head"] for d in drawn]) == pytest.approx(world.heads, rel=0.15)
    assert np.mean([d["anatomy"] == "mni152" for d in drawn]) == pytest.approx(world.second, rel=0.15)
    assert all(d["head"] for d in drawn if d["defaced"]) and any(d["defaced"] for d in drawn)


@pytest.mark.parametrize("disease", s.DISEASES)
def test_lesions_have_their_labels_lie_in_the_brain_and_add_up(by_disease, disease):
    case = by_disease[disease]
    seg, tissue = case.seg.array, case.tissue.array
    assert EXPECTED[disease] & set(np.unique(seg)), np.unique(seg)
    assert np.isin(tissue[seg > 0], (s.FLUID, s.GREY, s.WHITE)).all()
    voxel = np.prod(case.seg.spacing)
    assert sum(lesion["volume_mm3"] for lesion in case.lesions) == pytest.approx((seg > 0).sum() * voxel)
    assert sum(case.record["labels"].values()) == pytest.approx((seg > 0).sum() * voxel)
    assert {lesion["disease"] for lesion in case.lesions} == {disease} == {case.record["disease"]}
    to_voxel = np.linalg.inv(case.seg.affine)
    for lesion in case.lesions[:3]:
        centre = to_voxel @ [*lesion["centre_ras"], 1]
        nearest = np.argwhere(seg > 0) - centre[:3]
        assert (np.linalg.norm(nearest * case.seg.spacing, axis=1)).min() < 15


def test_the_background_of_a_stripped_brain_is_constant(by_disease):
    for case in by_disease.values():
        (volume,) = case.volumes.values()
        outside = case.tissue.array == 0
        values = np.unique(volume.array[outside])
        assert values.tolist() == [np.float32(case.record["channels"]["t2f"]["background"])]
        assert outside.mean() > 0.3
        assert case.record["grid"] == "reference" or sorted(volume.spacing) == pytest.approx(
            sorted(case.record["spacing_mm"])
        )


def test_flair_shows_plaques_brighter_than_the_white_matter_around_them(by_disease):
    for disease in ("ms", "small-vessel", "infarct", "glioma"):
        case = by_disease[disease]
        image, seg = case.volumes["t2f"].array.astype(float), case.seg.array
        around = ndimage.binary_dilation(seg > 0, iterations=4) & (case.tissue.array == s.WHITE)
        clear = around & ~ndimage.binary_dilation(seg > 0)
        assert np.median(image[(seg > 0) & (case.tissue.array == s.WHITE)]) > np.median(image[clear]), disease


def test_levels_have_the_order_of_their_sequence():
    for n in range(200):
        levels = {c: Levels(np.random.default_rng([n, k]), c) for k, c in enumerate(s.CHANNELS)}
        t2, flair, t1, enhanced, free = (levels[c] for c in ("t2w", "t2f", "t1n", "t1c", "free"))
        assert t2.tissue[s.FLUID] > t2.tissue[s.GREY] > t2.tissue[s.WHITE]
        assert flair.tissue[s.GREY] > flair.tissue[s.WHITE] > flair.tissue[s.FLUID]
        assert t1.tissue[s.WHITE] > t1.tissue[s.GREY] > t1.tissue[s.FLUID]
        assert min(t2.lesion[s.PLAQUE]) > t2.tissue[s.WHITE] and min(flair.lesion[s.PLAQUE]) > flair.tissue[s.WHITE]
        assert max(t1.lesion[s.PLAQUE]) < t1.tissue[s.WHITE]
        assert max(flair.lesion[s.OLD_INFARCT]) < flair.tissue[s.WHITE] < min(flair.lesion[s.GLIOSIS])
        assert min(enhanced.lesion[s.ENHANCING]) > enhanced.tissue[s.WHITE] > max(t1.lesion[s.ENHANCING])
        assert abs(np.mean(free.lesion[s.PLAQUE]) - free.tissue[s.WHITE]) > 0.1
    orders = {
        tuple(np.argsort([x.tissue[k] for k in (s.FLUID, s.GREY, s.WHITE)]))
        for x in (Levels(np.random.default_rng(n), "free") for n in range(200))
    }
    assert len(orders) == 6


def test_whole_heads_have_every_tissue_and_a_brain_inside_the_bone(heads):
    found = set().union(*(np.unique(h.tissue.array).tolist() for h in heads))
    assert {s.FLUID, s.GREY, s.WHITE, s.BONE, s.FAT, s.MUSCLE} <= found
    for head in heads:
        brain = np.isin(head.tissue.array, (s.FLUID, s.GREY, s.WHITE))
        litres = brain.sum() * np.prod(head.seg.spacing) / 1e6
        assert not head.lesions and not head.seg.array.any() and head.record["disease"] == "none"
        assert 0.5 < litres < 2.4 and (litres > 0.9 or head.record["partial"])
        assert head.record["head"] and head.record["stripping"] == "none"


def test_grids_cover_slices_volumes_and_reference_spaces():
    rng = np.random.default_rng(0)
    low, high = np.array([30.0, 30, 20]), np.array([170.0, 200, 160])
    grids = [scans.scanner.draw_grid(rng, s.MriWorld(), low, high, head=False) for _ in range(300)]
    assert {g.kind for g in grids} == {"reference", "volume", "slices"}
    assert {g.partial for g in grids} == {"", "top", "bottom"}
    for grid in grids:
        assert 160 <= grid.shape[0] <= 512 and 160 <= grid.shape[1] <= 512
        assert 0.4 <= grid.spacing[0] <= 1.2 and grid.spacing[2] <= 6 * 1.3 + 1e-6
        assert grid.partial or (grid.positions[2][0] <= low[2] + 8 and grid.positions[2][-1] >= high[2] - 8)


def test_a_data_set_of_this_world_is_written_with_its_masks(tmp_path):
    (folder,) = write_dataset(tmp_path, seed=44, channels=("t2f",), world="mri")
    assert sorted(p.name for p in folder.iterdir()) == ["mri-00044-seg.nii.gz", "mri-00044-t2f.nii.gz"]


@pytest.mark.parametrize(
    "wrong",
    [{"seed": -1}, {"seed": 1, "channels": ("t3",)}, {"seed": 1, "disease": "flu"}, {"seed": 1, "anatomy": "mouse"}],
)
def test_bad_arguments_are_named(wrong):
    with pytest.raises(UsageError, match="-1|t3|flu|mouse"):
        make_scan(**wrong)


def test_an_unknown_world_is_named():
    with pytest.raises(UsageError, match="moon"):
        make_case(1, world="moon")
