"""One case evaluated whole: every number against a direct computation."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from ZSADCLIPLib.benchmark.rows import ALL_ROWS, BASELINE, ROWS, row_without, select_rows
from ZSADCLIPLib.errors import InputError, UsageError
from ZSADCLIPLib.evaluation.case import evaluate_case, sketch_case, slice_distances
from ZSADCLIPLib.evaluation.intensity_rank import equalised
from ZSADCLIPLib.evaluation.metrics import confusion
from ZSADCLIPLib.evaluation.sketches import ScoreSketch
from ZSADCLIPLib.evaluation.thresholds import froc_levels, from_sketches, parse_rule, volume_threshold
from ZSADCLIPLib.files.text import write_json

SPACING = (0.5, 0.8, 2.0)  # row, column, slice


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    z, y, x = np.ogrid[:20, :40, :36]
    brain = ((z - 10) / 8) ** 2 + ((y - 20) / 17) ** 2 + ((x - 18) / 15) ** 2 < 1
    truth = np.zeros(brain.shape, bool)
    truth[6:9, 15:20, 20:24] = truth[13:15, 25:29, 10:13] = True
    scores = ndimage.gaussian_filter(rng.normal(size=brain.shape), 1) * 0.4 + 0.5 * truth + 0.3
    ignore = np.zeros_like(brain)
    ignore[7, 15:17, 20:24] = True
    return scores.astype(np.float32), truth, brain, ignore


def test_counts_per_rule_and_region_equal_a_direct_count(case):
    scores, truth, brain, ignore = case
    found = evaluate_case(scores, truth, brain, {"fixed:0.5": 0.5}, SPACING, ignore)
    for region, where in (("all", ~ignore), ("brain", brain & ~ignore)):
        counts = confusion(scores >= 0.5, truth & ~ignore, where)
        assert found["rules"]["fixed:0.5"][region] == {
            "tp": counts.tp,
            "fp": counts.fp,
            "fn": counts.fn,
            "tn": counts.tn,
        }
        slices = found["rules"]["fixed:0.5"]["slices"][region]
        assert (sum(slices["tp"]), sum(slices["fp"])) == (counts.tp, counts.fp)
        assert found["regions"][region]["auroc"] == pytest.approx(roc_auc_score(truth[where], scores[where]), abs=1e-12)
        assert found["regions"][region]["n_positive"] == (truth & where).sum()
    n = 7
    assert found["rules"]["fixed:0.5"]["slices"]["all"]["tp"][n] == ((scores[n] >= 0.5) & truth[n] & ~ignore[n]).sum()


def test_ignored_voxels_change_nothing(case):
    scores, truth, brain, ignore = case
    thresholds = {"fixed:0.5": 0.5, "f1max-per-volume": None, "quantile:0.99": None}
    first = evaluate_case(scores, truth, brain, thresholds, SPACING, ignore, levels=(0.9, 0.5), region="brain")
    other = np.where(ignore, 99, scores).astype(np.float32)
    second = evaluate_case(other, truth ^ ignore, brain, thresholds, SPACING, ignore, levels=(0.9, 0.5), region="brain")
    assert first == second


def test_float32_scores_are_cut_where_the_sketch_cuts_them(case):
    _, truth, brain, _ = case
    sketch = ScoreSketch(0.0, 0.7, 997)
    edges = np.array([sketch.edge(b) for b in range(1, 997)])
    scores = np.resize(np.float32(edges), truth.shape)  # half of them lie a little below their edge
    sketch.add(scores, truth)
    below = [edge for edge in edges if float(np.float32(edge)) < edge]
    assert len(below) > 400
    for edge in below[::40]:
        found = evaluate_case(scores, truth, brain, {"fixed:0.5": edge})["rules"]["fixed:0.5"]["all"]
        assert found == asdict(sketch.at(edge))


def test_volumes_lesions_and_slices_are_physical(case):
    scores, truth, brain, _ = case
    found = evaluate_case(scores, truth, brain, {}, SPACING)
    voxel = 0.5 * 0.8 * 2
    assert found["lesion_ml"] == pytest.approx(truth.sum() * voxel / 1000)
    assert [le["volume_mm3"] for le in found["lesions"]] == pytest.approx([60 * voxel, 24 * voxel])
    assert found["lesions"][0]["peak"] == pytest.approx(scores[6:9, 15:20, 20:24].max())
    assert found["lesions"][1]["mean"] == pytest.approx(scores[13:15, 25:29, 10:13].mean(), rel=1e-5)
    assert found["slices"]["lesion"][7] == 20 and found["slices"]["lesion"][0] == 0
    assert found["slices"]["lesion_row_mm"][7] == pytest.approx((17 - 20) * 0.5)
    assert found["slices"]["lesion_column_mm"][7] == pytest.approx((21.5 - 18) * 0.8)
    assert found["slices"]["lesion_row_mm"][0] is None


def test_distance_runs_from_minus_one_to_one_over_the_brain():
    brain = np.zeros((11, 3, 3), bool)
    brain[2:9] = True
    distance = slice_distances(brain)
    assert (distance[2], distance[5], distance[8]) == (-1, 0, 1) and distance[10] > 1
    assert not slice_distances(np.zeros((4, 2, 2), bool)).any()
    brain[:] = False
    brain[4] = True
    assert not slice_distances(brain).any()


def test_lesion_values_and_froc(case):
    scores, truth, brain, _ = case
    found = evaluate_case(scores, truth, brain, {"fixed:0.9": 0.9, "fixed:0.4": 0.4}, SPACING, levels=(2.0, 0.9, 0.4))
    low, high = found["rules"]["fixed:0.4"]["lesions"], found["rules"]["fixed:0.9"]["lesions"]
    assert low["detected"] == [True, True] and low["sensitivity"] == 1
    assert found["froc"]["false_positives"] == [0, high["false_positives"], low["false_positives"]]
    assert found["froc"]["peaks"] == pytest.approx([le["peak"] for le in found["lesions"]])
    bigger = evaluate_case(scores, truth, brain, {"fixed:0.4": 0.4}, SPACING, min_mm3=50)
    assert bigger["rules"]["fixed:0.4"]["lesions"]["false_positives"] < low["false_positives"]


def test_oracle_rules_beat_every_fixed_cut(case):
    scores, truth, brain, _ = case
    found = evaluate_case(scores, truth, brain, {"f1max-per-volume": None, "f1max-per-slice": None}, SPACING)

    def dice(counts):
        return 2 * counts["tp"] / (2 * counts["tp"] + counts["fp"] + counts["fn"])

    volume, slices = (dice(found["rules"][r]["all"]) for r in ("f1max-per-volume", "f1max-per-slice"))
    best = max(2 * (truth & (scores >= t)).sum() / (truth.sum() + (scores >= t).sum()) for t in np.unique(scores))
    assert volume == pytest.approx(best) and volume == pytest.approx(found["regions"]["all"]["f1_max"])
    assert slices >= volume
    clean = [n for n in range(20) if not truth[n].any()]
    assert clean and all(found["rules"]["f1max-per-slice"]["slices"]["all"]["fp"][n] == 0 for n in clean)


def test_a_case_without_lesion_is_undefined_not_zero(case, tmp_path):
    scores, _, brain, _ = case
    found = evaluate_case(
        scores, np.zeros_like(brain), brain, {"f1max-per-volume": None, "fixed:0.9": 0.9}, levels=(0.9,)
    )
    assert found["lesions"] == [] and found["rules"]["f1max-per-volume"]["threshold"] is None
    assert found["rules"]["fixed:0.9"]["all"]["fn"] == 0
    write_json(tmp_path / "case.json", found)
    stored = json.loads((tmp_path / "case.json").read_text("utf-8"))
    assert stored["regions"]["all"]["auroc"] is None and stored["rules"]["fixed:0.9"]["lesions"]["sensitivity"] is None


def test_wrong_grids_are_named(case):
    scores, truth, brain, _ = case
    with pytest.raises(InputError, match="brain has shape"):
        evaluate_case(scores, truth, brain[1:], {})
    with pytest.raises(InputError, match="NaN"):
        evaluate_case(np.where(brain, np.nan, scores), truth, brain, {})
    with pytest.raises(UsageError, match="unknown threshold rule"):
        evaluate_case(scores, truth, brain, {"best": 0.5})


def test_thresholds_from_sketches_reach_the_exact_optimum(case):
    scores, truth, brain, ignore = case
    sketch = sketch_case(scores, truth, brain, ignore)["brain"]
    where = brain & ~ignore
    threshold = from_sketches(parse_rule("f1max-pooled-train"), [sketch])
    exact = volume_threshold(parse_rule("f1max-per-volume"), scores, truth, where)

    def f1(t):
        cut = (scores >= t) & where
        return 2 * (cut & truth).sum() / (cut.sum() + (truth & where).sum())

    assert f1(threshold) == pytest.approx(f1(exact), abs=2e-3) and abs(threshold - exact) < 1e-3
    assert sketch.at(threshold).tp == (truth & where & (scores >= threshold)).sum()


@pytest.mark.parametrize("name", ["f1max-pooled-train", "dice-mean-train", "fpr:1.0"])
def test_a_threshold_below_all_scores_survives_its_file(case, name, tmp_path):
    scores, truth, brain, _ = case
    inverted = np.where(truth, -1, 0).astype(np.float32)  # every lesion voxel lies in the first bin
    sketch, rule = sketch_case(inverted, truth, brain)["brain"], parse_rule(name)
    write_json(tmp_path / "threshold.json", {name: from_sketches(rule, [sketch], sketch)})
    stored = json.loads((tmp_path / "threshold.json").read_text("utf-8"))
    assert np.float32(stored[name]) == stored[name] < inverted.min() and np.isfinite(np.float32(24 * stored[name]))
    counts = evaluate_case(inverted, truth, brain, stored)["rules"][name]["brain"]
    assert counts["fn"] == counts["tn"] == 0 and counts["tp"] == (truth & brain).sum()


def test_mean_dice_weighs_cases_and_pooling_weighs_voxels():
    rng = np.random.default_rng(1)
    large, small = ScoreSketch(), ScoreSketch()
    large.add(np.r_[rng.normal(0.8, 0.05, 5000), rng.normal(0.3, 0.1, 20000)], np.arange(25000) < 5000)
    small.add(np.r_[rng.normal(0.45, 0.02, 20), rng.normal(0.2, 0.05, 20000)], np.arange(20020) < 20)
    pooled = from_sketches(parse_rule("f1max-pooled-train"), [large, small])
    per_case = from_sketches(parse_rule("dice-mean-train"), [large, small])

    def mean_dice(t):
        return np.mean([2 * c.tp / (2 * c.tp + c.fp + c.fn) for c in (large.at(t), small.at(t))])

    assert per_case < pooled - 0.05
    assert mean_dice(per_case) >= max(mean_dice(t) for t in np.linspace(0.01, 0.99, 99)) - 1e-12


def test_false_positive_rate_quantile_and_minmax_rules(case):
    scores, truth, brain, _ = case
    clean = ScoreSketch().add(scores[~truth], np.zeros((~truth).sum(), bool))
    threshold = from_sketches(parse_rule("fpr:0.01"), [], clean)
    assert 0.008 < (scores[~truth] >= threshold).mean() <= 0.01
    assert volume_threshold(parse_rule("quantile:0.9"), scores, truth, brain) == np.quantile(scores[brain], 0.9)
    low, high = scores[brain].min(), scores[brain].max()
    assert volume_threshold(parse_rule("minmax:0.5"), scores, truth, brain) == pytest.approx((low + high) / 2)
    assert from_sketches(parse_rule("fixed:0.25"), []) == 0.25


@pytest.mark.parametrize("name", ["best", "fixed", "fixed:x", "f1max-pooled-train:1", "quantile:2", "fixed:nan"])
def test_unknown_rules_list_the_known_ones(name):
    with pytest.raises(UsageError):
        parse_rule(name)


def test_rules_know_where_they_come_from():
    assert [
        parse_rule(r).oracle for r in ("f1max-pooled-train", "f1max-pooled-test", "f1max-per-volume", "fixed:0.5")
    ] == [
        False,
        True,
        True,
        False,
    ]
    with pytest.raises(UsageError, match="volume_threshold"):
        from_sketches(parse_rule("quantile:0.9"), [])
    with pytest.raises(InputError, match="positive voxels"):
        from_sketches(parse_rule("f1max-pooled-train"), [ScoreSketch()])
    with pytest.raises(InputError, match="lesion-free"):
        from_sketches(parse_rule("fpr:0.01"), [ScoreSketch()])


def test_froc_levels_descend_and_span_the_rates(case):
    scores, truth, brain, _ = case
    sketch = sketch_case(scores, truth, brain)["brain"]
    levels = froc_levels(sketch, 12, 1e-4, 1e-1)
    assert all(a > b for a, b in zip(levels, levels[1:], strict=False)) and len(levels) >= 8
    assert (scores[brain & ~truth] >= levels[-1]).mean() == pytest.approx(0.1, rel=0.05)


def test_the_intensity_baseline_is_a_rank():
    rng = np.random.default_rng(2)
    brain = rng.random((6, 7, 8)) < 0.6
    image = rng.integers(0, 40, brain.shape)
    found = equalised(image, brain)
    assert found.dtype == np.float32 and not found[~brain].any() and 0 < found[brain].min() < found[brain].max() < 1
    assert np.array_equal(found, equalised((image.astype(float) + 3) ** 3, brain))
    value = image[brain][0]
    expected = (image[brain] < value).mean() + (image[brain] == value).mean() / 2
    assert found[brain][0] == pytest.approx(expected)
    with pytest.raises(InputError, match="0 voxels"):
        equalised(image, np.zeros_like(brain))


def test_the_thirteen_rows_are_written_out():
    assert len(ROWS) == 13 and len({row.id for row in ALL_ROWS}) == len(ALL_ROWS)
    assert [r.method for r in ROWS] == ["adaclip"] * 4 + ["anovl"] + ["anomalyclip"] * 4 + ["vand"] * 4
    assert [r.setup for r in ROWS if r.method == "vand"] == ["industrial", "finetune", "brats", "pmc"]
    for row in ROWS:
        assert (row.start == "industrial") == (row.setup in ("industrial", "finetune") and row.method != "anovl")
        assert (row.trained_on == "brain") == (row.setup in ("finetune", "brats", "pmc"))
        assert (row.backbone == "pmc") == (row.setup == "pmc")


def test_rows_are_selected_by_id_method_and_setup():
    assert select_rows() == (*ROWS, BASELINE) and select_rows(baseline=False) == ROWS
    assert [r.id for r in select_rows(methods=("vand",), setups=("brats", "pmc"))] == ["vand-brats", "vand-pmc"]
    assert [r.id for r in select_rows(ids=("vand-pmc", "adaclip-brats"))] == ["adaclip-brats", "vand-pmc"]
    assert len(select_rows(setups=("biomedclip",))) == 4
    assert [r.id for r in select_rows(methods=("winclip", "anovl"))] == ["anovl-industrial", "winclip-industrial"]
    (row,) = select_rows(ids=("winclip-biomedclip",))
    assert (row.backbone, row.start, row.trained_on) == ("biomedclip", None, None)
    assert select_rows(setups=("baseline",)) == (BASELINE,)
    assert [r.id for r in select_rows(setups=("context-brats",))] == ["vand-context-brats"]
    assert [r.id for r in select_rows(setups=("planes-brats",))] == [
        "adaclip-planes-brats",
        "anomalyclip-planes-brats",
        "vand-planes-brats",
    ]
    assert row_without(*select_rows(ids=("vand-smooth-brats",))) == select_rows(ids=("vand-brats",))[0]
    assert all(row_without(row) == row for row in select_rows())
    probe = [r.id for r in select_rows(methods=("linear-probe",))]
    assert probe == [f"linear-probe-{setup}" for setup in ("industrial", "finetune", "brats", "pmc")]
    assert [r.id for r in select_rows(ids=("linear-probe-brats", "vand-pmc"))] == ["vand-pmc", "linear-probe-brats"]
    with pytest.raises(UsageError, match="unknown method clip"):
        select_rows(methods=("clip",))
    with pytest.raises(UsageError, match="has method anovl and setup pmc; a training-free method has industrial"):
        select_rows(methods=("anovl",), setups=("pmc",))


@pytest.mark.parametrize("region", ["all", "brain", "bbox", "lesion-slices"])
def test_support_drops_thin_parts_from_every_count(case, region):
    scores, truth, brain, ignore = case
    cuts, levels = {"fixed:0.5": 0.5}, (0.9, 0.5)
    plain, same, deep = (
        evaluate_case(scores, truth, brain, cuts, SPACING, ignore, levels, region=region, min_slices=n)
        for n in (1, 0, 3)
    )
    assert plain == same
    labels, number = ndimage.label(
        (scores >= 0.5) & ~ignore & (brain if region == "brain" else True), np.ones((3, 3, 3))
    )
    spans = ndimage.find_objects(labels)
    kept = np.isin(labels, [n + 1 for n in range(number) if spans[n][0].stop - spans[n][0].start >= 3])
    if region in ("all", "brain"):
        counts = asdict(confusion(kept, truth & ~ignore, (brain if region == "brain" else True) & ~ignore))
        assert deep["rules"]["fixed:0.5"][region] == counts != plain["rules"]["fixed:0.5"][region]
    lesions = [each["rules"]["fixed:0.5"]["lesions"]["false_positives"] for each in (plain, deep)]
    assert lesions[1] < lesions[0] and deep["froc"]["false_positives"][1] == lesions[1]
