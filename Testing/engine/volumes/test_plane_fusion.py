"""Fusion of planes: each rule by its definition, and what may not change it."""

import itertools

import numpy as np
import pytest

from ZSADCLIPLib.errors import InputError, UsageError
from ZSADCLIPLib.volumes.fusion import FUSIONS, Fusion

LOW, HIGH = -0.5, 4.0


def fuse(maps, how, limits=(LOW, HIGH)):
    fusion = Fusion(how, *limits)
    for each in maps:
        fusion.add(each)
    return fusion.result()


@pytest.fixture
def maps(rng):
    return [rng.uniform(LOW, HIGH, (6, 7, 8)).astype(np.float32) for _ in range(3)]


@pytest.mark.parametrize("how", FUSIONS)
def test_one_plane_is_that_plane(maps, how):
    assert np.array_equal(fuse(maps[:1], how), maps[0])


@pytest.mark.parametrize("how", FUSIONS)
def test_equal_maps_give_the_map(maps, how):
    fused, exact = fuse([maps[0]] * 3, how), how in ("mean", "median", "min")
    assert fused.dtype == np.float32
    assert np.array_equal(fused, maps[0]) if exact else np.abs(fused - maps[0]).max() <= 1e-6 * (HIGH - LOW)


@pytest.mark.parametrize("how", FUSIONS)
def test_the_order_of_planes_does_not_matter(maps, how):
    results = [fuse(order, how) for order in itertools.permutations(maps)]
    for other in results[1:]:
        assert np.array_equal(other, results[0]) if how in ("mean", "median", "min") else np.allclose(other, results[0])


def test_each_rule_is_its_definition(maps):
    stack = np.stack(maps).astype(np.float64)
    share = np.clip((stack - LOW) / (HIGH - LOW), 1e-6, None)
    logit = np.log(share / (1 - share)).mean(0)
    expected = {
        "mean": stack.mean(0),
        "median": np.median(stack, 0),
        "min": stack.min(0),
        "geometric": LOW + (HIGH - LOW) * share.prod(0) ** (1 / 3),
        "logit": LOW + (HIGH - LOW) / (1 + np.exp(-logit)),
    }
    assert expected.keys() == set(FUSIONS)
    for how, values in expected.items():
        assert fuse(maps, how) == pytest.approx(values, abs=2e-6)


@pytest.mark.parametrize("how", FUSIONS)
def test_scores_at_and_beyond_the_ends_stay_finite(how):
    ends = [np.array([LOW, HIGH, LOW - 1e-3, HIGH + 1e-3], np.float32), np.array([HIGH, HIGH, LOW, HIGH], np.float32)]
    fused = fuse(ends, how)
    assert np.isfinite(fused).all() and fused[1] == pytest.approx(HIGH, abs=1e-5)
    assert how not in ("geometric", "min") or fused[0] < 0.01  # one plane vetoes


def test_wrong_uses_are_named(maps):
    with pytest.raises(UsageError, match="choose one of geometric, mean, logit, median, min"):
        Fusion("max", 0, 1)
    with pytest.raises(UsageError, match="expected a range"):
        Fusion("mean", 1, 1)
    with pytest.raises(UsageError, match="add one first"):
        Fusion("mean", 0, 1).result()
    with pytest.raises(InputError, match="expected one grid"):
        fuse([maps[0], maps[1][1:]], "mean")
