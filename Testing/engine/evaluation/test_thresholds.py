"""At or above the threshold: one meaning, also where a float64 threshold lies between two float32 scores."""

import ast
import warnings
from pathlib import Path

import numpy as np
import pytest
from small_models import backbone

from ZSADCLIPLib import Detector, Volume, load_adapter
from ZSADCLIPLib.detection.findings import find
from ZSADCLIPLib.evaluation.case import evaluate_case
from ZSADCLIPLib.evaluation.lesions import froc, froc_case
from ZSADCLIPLib.evaluation.metrics import confusion
from ZSADCLIPLib.evaluation.thresholds import lowest_reaching, reaches
from ZSADCLIPLib.volumes.components import components

ROOT = Path(__file__).resolve().parents[3]


def exactly(scores, threshold):
    """Python compares numbers of any type without rounding."""
    return np.array([score >= threshold for score in scores.ravel().tolist()]).reshape(scores.shape)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int16])
def test_scores_reach_a_threshold_as_real_numbers(kind):
    rng = np.random.default_rng(0)
    numbers = (rng.normal(size=400) * 10.0 ** rng.integers(-4, 4, 400)).astype(kind)
    thresholds = [0.0, -0.0, 0.1, 0.7, -0.7, 1e-60, -1e-60, 1e300, -1e300, np.inf, -np.inf]
    thresholds += [float(n) for n in numbers[:40]]
    thresholds += [np.nextafter(n, side) for n in thresholds[2:] if np.isfinite(n) for side in (-np.inf, np.inf)]
    if np.dtype(kind).kind == "f":
        numbers = np.append(numbers, np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, *np.float32([0.7, -0.7])], kind))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for threshold in thresholds:
            assert np.array_equal(reaches(numbers, threshold), exactly(numbers, threshold)), threshold
    assert not reaches(numbers, np.nan).any()


def test_one_threshold_a_slice_and_a_place_for_the_result():
    scores = np.float32([[0.7, 0.1], [0.7, 0.1]])
    assert reaches(scores, np.array([[0.7], [0.1]])).tolist() == [[False, False], [True, True]]
    out = np.ones(scores.shape, np.uint8)
    reaches(scores, 0.05, out.view(bool))
    assert out.all() and reaches(scores, 0.7, out.view(bool)).base is out and not out.any()
    above = lowest_reaching(0.7, np.float32)
    assert above == np.nextafter(np.float32(0.7), np.float32(1)) and float(np.float32(0.7)) < 0.7 < float(above)


@pytest.fixture(scope="module")
def volume():
    rng = np.random.default_rng(4)
    array = np.zeros((40, 44, 9), np.int16)
    array[6:-6, 5:-5, 1:-1] = rng.integers(20, 900, (28, 34, 7))
    return Volume(array, np.diag([1.0, 1.0, 2.5, 1.0]), "brain")


@pytest.fixture(scope="module")
def between(volume):
    """(a score of the map inside the brain, a threshold a little above it that float32 rounds to it)."""
    found = detect(volume, "quantile:0.9")
    score = np.sort(found.map.array[found.brain])[-300]
    threshold = float(score) + 0.25 * (float(np.nextafter(score, np.float32(np.inf))) - float(score))
    assert np.float32(threshold) == score and float(score) < threshold
    return score, threshold


def detect(volume, threshold):
    model = backbone("vit")
    return Detector(model, load_adapter("vand:random", model), image_size=64, threshold=threshold).detect(volume)


def test_detection_benchmark_and_findings_cut_alike_between_two_scores(volume, between):
    score, threshold = between
    found = detect(volume, repr(threshold))
    scores, brain, stack = found.map.array, found.brain, found.stack
    expected = exactly(scores, threshold) & brain
    assert expected.any() and (scores[brain] == score).any()
    assert np.array_equal(found.mask.array > 0, expected)
    assert not np.array_equal((scores >= threshold) & brain, expected)  # what NumPy makes of it
    again = find(found.map, expected, stack, brain=brain)
    assert found.findings == again and sum(f.voxels for f in again) == expected.sum()

    truth = np.zeros(scores.shape, bool)
    truth[10:20, 10:20, 3:6] = True
    arranged = [stack.arrange(array) for array in (scores, truth, brain)]
    case = evaluate_case(*arranged, {"fixed:1": threshold}, region="brain")["rules"]["fixed:1"]
    counts = confusion(expected, truth, brain)
    assert case["brain"] == {"tp": counts.tp, "fp": counts.fp, "fn": counts.fn, "tn": counts.tn}
    assert sum(case["slices"]["brain"]["tp"]) == counts.tp


def test_lesions_are_found_and_false_parts_counted_at_levels_that_are_reached():
    scores = np.float32([0.7, 0, 0, 0.7]).reshape(1, 1, 4)  # a little below 0.7
    lesions = components(np.array([True, False, False, False]).reshape(1, 1, 4))
    for smallest in (0.0, 1.0):
        case = froc_case(scores, lesions, (0.7, 0.6), min_mm3=smallest)
        assert case.false_positives == (0, 1) and case.peaks[0] < 0.7
        assert froc([case], (0.5, 1.0)) == {0.5: 0.0, 1.0: 1.0}


def test_no_other_place_compares_scores_with_a_threshold():
    names, found = {"threshold", "thresholds", "level", "levels", "cut"}, []
    for path in [*(ROOT / "ZSADCLIPLib").rglob("*.py"), *(ROOT / "ZSADCLIP").rglob("*.py")]:
        if path.name == "thresholds.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            ordered = isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.Gt, ast.GtE, ast.Lt, ast.LtE))
            operands = [node.left, *node.comparators] if ordered else []
            bases = [one.value if isinstance(one, ast.Subscript) else one for one in operands]
            compared = {getattr(base, "attr", getattr(base, "id", "")) for base in bases}
            if compared & names or getattr(node, "attr", "") in ("greater_equal", "less_equal", "greater", "less"):
                found.append(f"{path.name}:{node.lineno}: {ast.unparse(node)}")
    assert not found
