"""The streaming evaluator against scikit-learn, its bounds, and the algebra of its states."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from ZSADCLIPLib.errors import InputError, UsageError
from ZSADCLIPLib.evaluation.curves import CurveAccumulator, accumulate, curve
from ZSADCLIPLib.evaluation.sketches import ScoreSketch


def oracle(truth, scores):
    precision, recall, _ = precision_recall_curve(truth, scores)
    with np.errstate(invalid="ignore"):
        f1 = 2 * precision * recall / (precision + recall)
    return roc_auc_score(truth, scores), average_precision_score(truth, scores), np.nanmax(f1)


def f1_at(truth, scores, threshold):
    prediction = scores >= threshold
    return 2 * (prediction & truth).sum() / (prediction.sum() + truth.sum())


def random_case(rng):
    """Scores with many ties, some infinite ranges, rare or frequent positives, in three float widths."""
    n = int(rng.integers(2, 300))
    truth = rng.random(n) < rng.choice([0.02, 0.3, 0.5, 0.95])
    truth[rng.choice(n, 2, replace=False)] = [True, False]
    kind = rng.integers(4)
    if kind == 0:
        scores = rng.integers(0, rng.integers(1, 12), n) / 7
    elif kind == 1:
        scores = np.round(rng.normal(size=n) + truth, int(rng.integers(0, 3)))
    elif kind == 2:
        scores = 0.5 + 1e-6 * rng.integers(-5, 5, n)
    else:
        scores = rng.normal(size=n) * 10.0 ** rng.integers(-30, 30)
    return truth, scores.astype(rng.choice([np.float16, np.float32, np.float64]))


@pytest.mark.filterwarnings("ignore")
def test_a_thousand_tie_heavy_cases_equal_scikit_learn_to_1e_12():
    rng = np.random.default_rng(1)
    worst = 0.0
    for _ in range(1000):
        truth, scores = random_case(rng)
        if not np.isfinite(scores).all():  # float16 overflow; scikit-learn refuses infinities
            scores = np.nan_to_num(scores)
        found = curve(scores, truth)
        expected = oracle(truth, scores.astype(np.float64))
        worst = max(worst, *np.abs(np.array([found.auroc, found.average_precision, found.f1_max]) - expected))
        assert f1_at(truth, scores, found.threshold) == pytest.approx(found.f1_max, abs=1e-12)
    assert worst <= 1e-12


def test_a_volume_over_a_region_equals_scikit_learn():
    rng = np.random.default_rng(2)
    truth = rng.random((12, 40, 30)) < 0.02
    scores = (np.round(rng.normal(size=truth.shape), 2) + truth).astype(np.float32)
    region = rng.random(truth.shape) < 0.4
    found = curve(scores, truth, region)
    assert [found.auroc, found.average_precision, found.f1_max] == pytest.approx(
        oracle(truth[region], scores[region].astype(np.float64)), abs=1e-12
    )
    assert found.prevalence == pytest.approx(truth[region].mean())


def test_chunk_size_and_order_do_not_matter():
    rng = np.random.default_rng(3)
    positives, negatives = rng.integers(0, 50, 400) / 9, rng.integers(0, 50, 5000) / 9
    results = set()
    for size in (1, 7, 999, 5000):
        state = CurveAccumulator()
        state.add_positives(rng.permutation(positives))
        state.seal()
        shuffled = rng.permutation(negatives)
        for start in range(0, 5000, size):
            state.add_negatives(shuffled[start : start + size])
        results.add(state.result())
    assert len(results) == 1


def test_misuse_is_named():
    unsealed, sealed = CurveAccumulator(), CurveAccumulator()
    sealed.add_positives([1.0])
    sealed.seal()
    with pytest.raises(UsageError, match="before seal"):
        unsealed.add_negatives([0.0])
    with pytest.raises(UsageError, match="after seal"):
        sealed.add_positives([0.0])
    with pytest.raises(InputError, match="2 of 3 scores are NaN"):
        unsealed.add_positives([np.nan, 1.0, np.nan])
    with pytest.raises(InputError, match="shape"):
        curve(np.zeros((2, 2)), np.zeros((2, 3), bool))


def test_one_class_gives_nan_and_counts():
    only_negative = curve(np.arange(4.0), np.zeros(4, bool))
    assert np.isnan([only_negative.auroc, only_negative.average_precision, only_negative.f1_max]).all()
    assert (only_negative.n_positive, only_negative.n_negative) == (0, 4)
    only_positive = curve(np.arange(4.0), np.ones(4, bool))
    assert np.isnan(only_positive.auroc) and only_positive.f1_max == 1 and only_positive.threshold == 0
    empty = curve(np.empty(0), np.empty(0, bool))
    assert np.isnan(empty.f1_max) and np.isnan(empty.prevalence)


def test_all_equal_scores_give_the_trivial_values():
    truth = np.arange(10) < 3
    found = curve(np.full(10, 0.25, np.float16), truth)
    assert (found.auroc, found.average_precision) == (0.5, 0.3)
    assert found.f1_max == pytest.approx(2 * 3 / (2 * 3 + 7))


def test_infinities_and_signed_zeros_are_ordinary_scores():
    scores = np.array([-np.inf, -0.0, 0.0, np.inf, np.inf, -np.inf, 1.0])
    truth = np.array([False, True, False, True, False, True, False])
    ranks = np.array([0, 1, 1, 3, 3, 0, 2.0])
    found, expected = curve(scores, truth), curve(ranks, truth)
    assert (found.auroc, found.average_precision, found.f1_max) == (
        expected.auroc,
        expected.average_precision,
        expected.f1_max,
    )


def test_huge_ranges_do_not_overflow():
    scores = np.array([-1.7e308, 1.7e308, 0.0, 1.0, 1.7e308])
    truth = np.array([True, True, False, False, False])
    assert curve(scores, truth).auroc == pytest.approx(roc_auc_score(truth, [0, 3, 1, 2, 3]))


def test_float64_negatives_against_float32_positives_stay_exact():
    positives = np.float32([0.1, 0.2])
    negatives = np.array([0.1, float(np.float32(0.1)), 0.2, 0.3])
    state = CurveAccumulator()
    state.add_positives(positives)
    state.seal()
    state.add_negatives(np.float32([0.1]))
    state.add_negatives(negatives)
    truth = np.array([1, 1, 0, 0, 0, 0, 0], bool)
    scores = np.concatenate([positives.astype(float), np.float32([0.1]).astype(float), negatives])
    found = state.result()
    assert [found.auroc, found.average_precision, found.f1_max] == pytest.approx(oracle(truth, scores), abs=1e-12)


def test_sketch_bounds_hold_and_edges_are_exact():
    rng = np.random.default_rng(5)
    for bins in (1, 8, 300, 65536):
        for _ in range(40):
            truth, scores = rng.random(400) < 0.2, rng.normal(0.4, 0.3, 400).astype(np.float32)
            scores = np.where(truth, scores + np.float32(0.2), scores)
            exact = curve(scores, truth)
            sketch = ScoreSketch(0, 1, bins).add(scores, truth)
            value, bound = sketch.auroc()
            assert abs(value - exact.auroc) <= bound + 1e-12
            low, high = sketch.average_precision()
            assert low - 1e-12 <= exact.average_precision <= high + 1e-12
            low, high, threshold = sketch.f1max()
            assert low - 1e-12 <= exact.f1_max <= high + 1e-12
            assert f1_at(truth, scores.astype(float), threshold) == pytest.approx(low, abs=1e-12)
            counts = sketch.at(threshold)
            assert counts.tp == (truth & (scores >= threshold)).sum()
            assert counts.fp == (~truth & (scores >= threshold)).sum()
            assert counts.tp + counts.fp + counts.fn + counts.tn == 400


def test_sketches_merge_and_refuse_other_ranges():
    rng = np.random.default_rng(6)
    scores, truth = rng.random(1000), rng.random(1000) < 0.3
    whole = ScoreSketch().add(scores, truth)
    parts = ScoreSketch().add(scores[:300], truth[:300]).merge(ScoreSketch().add(scores[300:], truth[300:]))
    assert parts.f1max() == whole.f1max() and parts.auroc() == whole.auroc()
    with pytest.raises(UsageError, match="one range"):
        whole.merge(ScoreSketch(0, 2))
    with pytest.raises(UsageError, match="lo < hi"):
        ScoreSketch(1, 1)
    assert np.isnan(ScoreSketch().f1max()).all() and np.isnan(ScoreSketch().auroc()).all()


def test_accumulate_matches_counts_by_hand():
    scores, true, false = accumulate(np.array([1.0, 2, 2, 3, 0]), np.array([0, 1, 0, 1, 0], bool)).counts()
    assert (scores.tolist(), true.tolist(), false.tolist()) == ([2, 3], [2, 1], [1, 0])
