"""The gap between 2D and 3D Dice adds up exactly, by hand and on whole runs."""

import numpy as np
import pytest
from run_fixtures import row_of, write_run

from ZSADCLIPLib.report.gap import GAP_TERMS, LOSS_TERMS, decompose, gaps
from ZSADCLIPLib.report.results import read_run


def test_by_hand():
    # Slices: lesion of 4 wholly found; lesion of 4 half found with 2 false; clean with 4 false; clean and silent.
    gap = decompose(np.array([4, 2, 0, 0]), np.array([0, 2, 4, 0]), np.array([4, 4, 0, 0]))
    assert gap.mean_2d == pytest.approx((1 + 4 / 8) / 2)
    assert gap.dice_3d == pytest.approx(12 / 20)
    assert gap.lesion_slices == pytest.approx(0.75 - 12 / 16) and gap.clean_slices == pytest.approx(12 / 16 - 12 / 20)
    assert (gap.missed, gap.false_lesion_slices, gap.false_clean_slices) == pytest.approx((2 / 20, 2 / 20, 4 / 20))


def test_terms_add_up_for_any_counts():
    rng = np.random.default_rng(0)
    for _ in range(500):
        lesion = rng.integers(0, 50, 12) * rng.integers(0, 2, 12)
        tp = (lesion * rng.random(12)).astype(int)
        fp = rng.integers(0, 30, 12) * rng.integers(0, 2, 12)
        gap = decompose(tp, fp, lesion)
        if not lesion.any():
            assert np.isnan(gap.gap) and np.isnan(gap.missed)
            continue
        assert gap.gap == pytest.approx(sum(getattr(gap, term) for term in GAP_TERMS), abs=1e-14)
        assert 1 - gap.dice_3d == pytest.approx(sum(getattr(gap, term) for term in LOSS_TERMS), abs=1e-14)
        assert gap.clean_slices >= 0 and min(getattr(gap, term) for term in LOSS_TERMS) >= 0
        assert gap.clean_slices == 0 or fp[lesion == 0].any()


def test_a_threshold_that_does_not_exist_has_no_gap():
    unknown = np.full(5, -1)
    assert np.isnan(decompose(unknown, unknown, unknown).gap)


def test_it_agrees_with_the_tables(tmp_path):
    run = read_run(write_run(tmp_path, [row_of("vand-brats"), row_of("anovl-industrial")], seeds=range(3)))
    assert len(run.results) == 2 and len(run.choices()) == 2
    for choice in run.choices():
        for result in run.results:
            found = gaps(result, choice)
            assert [g.dice_3d for g in found] == pytest.approx(result.values("dice", choice).tolist())
            assert [g.mean_2d for g in found] == pytest.approx(result.values("slice_dice", choice).tolist())
