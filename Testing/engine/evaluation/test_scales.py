"""Score scales: what each does to order and range."""

import numpy as np
import pytest

from ZSADCLIPLib.errors import UsageError
from ZSADCLIPLib.evaluation.scales import SCALES, Z_RANGE, scale_range, scaled


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    scores = rng.gamma(2, 0.4, (5, 12, 12)).astype(np.float32)
    brain = np.zeros(scores.shape, bool)
    brain[1:4, 2:10, 2:10] = True
    return scores, brain


@pytest.mark.parametrize("scale", SCALES)
def test_order_is_kept_and_the_range_holds(case, scale):
    scores, brain = case
    out = scaled(scores, brain, scale, layers=4)
    low, high = scale_range(scale, (0.0, float(scores.max())), 4)
    assert out.dtype == np.float32 and out.shape == scores.shape
    assert low <= out.min() and out.max() <= high + 1e-6
    for before, after in zip(scores, out, strict=True):
        order = np.argsort(before, axis=None)
        assert (np.diff(after.reshape(-1)[order]) >= 0).all()
    if scale != "minmax-slice":
        assert (np.diff(out.reshape(-1)[np.argsort(scores, axis=None)]) >= 0).all()


def test_values(case):
    scores, brain = case
    assert np.array_equal(scaled(scores, brain, "raw", 4), scores)
    assert np.allclose(scaled(scores, brain, "layers", 4), scores / 4)
    whole = scaled(scores, brain, "minmax-volume")
    assert (whole.min(), whole.max()) == (0, 1)
    each = scaled(scores, brain, "minmax-slice")
    assert (each.min(axis=(1, 2)) == 0).all() and (each.max(axis=(1, 2)) == 1).all()
    z = scaled(scores, brain, "robust-z")
    assert np.median(z[brain]) == pytest.approx(0, abs=1e-6)
    assert np.median(np.abs(z[brain])) == pytest.approx(1 / 1.4826, rel=1e-5)
    assert np.median(scaled(scores, brain, "rank")[brain]) == pytest.approx(0.5, abs=0.01)


def test_constant_maps_and_unknown_scales(case):
    flat, brain = np.full((2, 4, 4), 3, np.float32), np.ones((2, 4, 4), bool)
    for scale in SCALES:
        assert np.isfinite(scaled(flat, brain, scale)).all()
    assert Z_RANGE[0] <= scaled(flat * 1e9, brain & False, "robust-z").min()
    with pytest.raises(UsageError, match="score.scale is 'best'"):
        scaled(flat, brain, "best")
