"""Summaries, bootstrap over subjects and adjusted paired tests."""

import numpy as np
import pytest
from scipy import stats

from ZSADCLIPLib.errors import UsageError
from ZSADCLIPLib.evaluation.statistics import bootstrap_mean, compare, holm, summarize


def test_undefined_values_are_counted_and_left_out():
    found = summarize([0.2, np.nan, 0.4, 0.6, np.nan])
    assert (found.n, found.undefined) == (3, 2)
    assert found.mean == pytest.approx(0.4) and found.sd == pytest.approx(0.2)
    assert (found.median, found.q1, found.q3) == pytest.approx((0.4, 0.3, 0.5))


def test_nothing_defined_and_one_value():
    nothing = summarize([np.nan, np.nan])
    assert (nothing.n, nothing.undefined) == (0, 2) and np.isnan(nothing.mean)
    one = summarize([0.5])
    assert one.mean == 0.5 and np.isnan([one.sd, one.ci_low, one.ci_high]).all()
    assert summarize([]).n == 0


def test_interval_covers_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        sample = rng.normal(1.0, 2.0, 60)
        low, high = bootstrap_mean(sample, np.arange(60), resamples=1000)
        covered += low <= 1.0 <= high
    assert 0.91 <= covered / 300 <= 0.98


def test_the_seed_fixes_the_interval_and_the_mean_lies_inside():
    values = np.random.default_rng(1).random(20)
    first, second, other = summarize(values), summarize(values), summarize(values, seed=7)
    assert first == second and first.ci_low != other.ci_low
    assert first.ci_low < first.mean < first.ci_high


def test_visits_of_one_subject_are_drawn_together():
    rng = np.random.default_rng(2)
    per_subject = rng.normal(size=12)
    values, owners = np.repeat(per_subject, 5), np.repeat([f"{i:02d}" for i in range(12)], 5)
    clustered, naive = summarize(values, owners), summarize(values)
    width = clustered.ci_high - clustered.ci_low
    assert width > 1.8 * (naive.ci_high - naive.ci_low)
    assert width == pytest.approx(np.subtract(*bootstrap_mean(per_subject, np.arange(12))[::-1]))
    with pytest.raises(UsageError, match="12 subjects"):
        summarize(values, list(range(12)))


def test_holm_equals_the_textbook_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, np.nan, 0.9]) == pytest.approx([1.0, np.nan, 1.0], nan_ok=True)
    assert holm([]) == []


def test_comparisons_pair_by_subject():
    rng = np.random.default_rng(3)
    base = {f"s{i}": v for i, v in enumerate(rng.random(25))}
    better = {s: v + 0.1 + 0.02 * rng.normal() for s, v in reversed(base.items())}
    gap = {**better, "s0": np.nan}
    found = compare({"a": base, "b": better, "c": gap}, [("b", "a"), ("c", "b"), ("c", "a")])
    assert found[0].n == 25 and found[0].difference == pytest.approx(0.1, abs=0.02)
    assert found[0].ci_low > 0.08 and found[0].p_holm < 1e-4
    expected = stats.wilcoxon([better[s] - base[s] for s in base], zero_method="pratt").pvalue
    assert found[0].p == pytest.approx(expected)
    assert (found[1].n, found[1].difference, found[1].p) == (24, 0, 1.0)
    assert found[2].n == 24


def test_visits_of_one_subject_make_no_comparison_surer():
    rng = np.random.default_rng(4)
    gain, owners = rng.normal(0.05, 0.2, 9), {f"s{i}-{visit}": f"s{i}" for i in range(9) for visit in range(4)}
    base = {case: rng.random() for case in owners}
    better = {case: base[case] + gain[int(owners[case][1:])] for case in owners}
    (clustered,) = compare({"a": better, "b": base}, [("a", "b")], owners)
    (single,) = compare({"a": dict(enumerate(gain)), "b": dict.fromkeys(range(9), 0.0)}, [("a", "b")])
    assert clustered.n == 36 and clustered.p == pytest.approx(single.p)
    for name in ("difference", "ci_low", "ci_high"):
        assert getattr(clustered, name) == pytest.approx(getattr(single, name))


def test_comparing_without_common_subjects_is_undefined():
    (found,) = compare({"a": {"x": 1.0}, "b": {"y": 1.0}}, [("a", "b")])
    assert found.n == 0 and np.isnan([found.difference, found.p, found.p_holm]).all()
