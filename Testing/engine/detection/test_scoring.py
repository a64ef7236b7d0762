"""Ways of scoring: several planes, smoothing and support, what they must not change, and which threshold is theirs."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import ORIENTATIONS, stored_as
from small_models import backbone

from ZSADCLIPLib import Detector, Volume, load_adapter
from ZSADCLIPLib.adapters.base import Scores
from ZSADCLIPLib.detection.scoring import PLAIN, Scoring, stored_threshold
from ZSADCLIPLib.errors import InputError, UsageError, WeightsError
from ZSADCLIPLib.volumes.components import components

THREE = ("axial", "coronal", "sagittal")


def detector(method="vand:random", scoring=PLAIN, **options):
    model = backbone("vit")
    return Detector(model, load_adapter(method, model), **{"image_size": 64, "scoring": scoring, **options})


@pytest.fixture(scope="module")
def brain():
    rng = np.random.default_rng(4)
    array = np.zeros((30, 34, 18), np.int16)
    array[4:-4, 5:-5, 2:-2] = rng.integers(20, 900, (22, 24, 14))
    return Volume(array, np.array([[-1.0, 0, 0, 19], [0, -1, 0, 30], [0, 0, 1.5, -4], [0, 0, 0, 1]]), "brain")


@pytest.mark.parametrize("orientation", ORIENTATIONS[::9], ids=str)
@pytest.mark.parametrize(
    "scoring", [Scoring(THREE, smooth_mm=2.0), Scoring(THREE, "mean", 2.0, "3d"), Scoring(smooth_mm=2.0)], ids=str
)
def test_the_same_patient_stored_otherwise_gives_the_same_bits(brain, orientation, scoring):
    found = detector(scoring=scoring, threshold="quantile:0.9", min_depth_mm=3).detect(brain)
    other = detector(scoring=scoring, threshold="quantile:0.9", min_depth_mm=3).detect(stored_as(brain, *orientation))
    assert np.array_equal(other.map.array, stored_as(found.map, *orientation).array)
    assert np.array_equal(other.mask.array, stored_as(found.mask, *orientation).array)
    assert np.array_equal(other.slice_scores, found.slice_scores) and other.findings
    assert [f.slices for f in other.findings] == [f.slices for f in found.findings]


class Isotropic:
    """A stand-in for a model: a symmetric 3 x 3 filter of the pixels, the same in every plane."""

    method, resample, provenance, context, normalised = "isotropic", "bicubic", {}, (), True

    def features(self, backbone, images):
        return {"images": images[:, :1]}

    def feature_settings(self):
        return {}

    def predict(self, backbone, features, size):
        kernel = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])[None, None] / 16
        maps = torch.nn.functional.conv2d(features["images"], kernel, padding=1)[:, 0] + 4
        return Scores(maps, maps.flatten(1).amax(1))

    def volume_scores(self, scores, maxima):
        return scores

    def score_range(self, backbone):
        return 0.0, 8.4

    display_range = score_range

    def describe(self):
        return {}

    def adaptations(self, backbone):
        return []


@pytest.mark.parametrize("fuse", ["mean", "min", "geometric", "median"])
@pytest.mark.parametrize("axes", [(0, 1), (1, 2), (0, 2)], ids=str)
def test_a_turned_patient_turns_the_map_of_an_isotropic_model(fuse, axes):
    rng = np.random.default_rng(1)
    array = np.zeros((32, 32, 32), np.int16)
    array[5:-5, 6:-6, 7:-7] = rng.integers(20, 900, (22, 20, 18))
    d = Detector(backbone("vit"), Isotropic(), image_size=32, crop="none", scoring=Scoring(THREE, fuse))
    straight = d.detect(Volume(array, np.eye(4)))
    turned = d.detect(Volume(np.ascontiguousarray(np.rot90(array, axes=axes)), np.eye(4)))
    assert np.ptp(straight.map.array) > 1
    np.testing.assert_allclose(turned.map.array, np.rot90(straight.map.array, axes=axes), rtol=0, atol=2e-6)


@pytest.mark.parametrize("fuse", ["geometric", "mean", "logit", "median", "min"])
def test_three_planes_are_the_fusion_of_each_alone(brain, fuse):
    fused = detector(scoring=Scoring(THREE, fuse)).detect(brain)
    alone = [detector(plane=plane).detect(brain) for plane in THREE]
    maps = np.stack([each.map.array for each in alone]).astype(np.float64)
    top = detector().adapter.score_range(backbone("vit"))[1]
    expected = {
        "geometric": maps.prod(0) ** (1 / 3),
        "mean": maps.mean(0),
        "logit": top / (1 + np.prod(top / maps - 1, axis=0) ** (1 / 3)),
        "median": np.median(maps, 0),
        "min": maps.min(0),
    }[fuse]
    np.testing.assert_allclose(fused.map.array, expected, rtol=0, atol=1e-5)
    assert np.array_equal(fused.slice_scores, alone[0].slice_scores) and fused.stack.plane == "axial"
    assert np.array_equal(fused.image, alone[0].image) and fused.display == alone[0].display


def test_one_plane_named_is_that_plane_bit_for_bit(brain):
    named = detector(scoring=Scoring(("coronal",))).detect(brain)
    assert np.array_equal(named.map.array, detector(plane="coronal").detect(brain).map.array)
    assert named.provenance["planes"] == ["coronal"] and named.provenance["fuse"] is None
    assert detector(plane="sagittal", scoring=Scoring(("coronal", "axial"))).detect(brain).stack.plane == "coronal"


def test_support_of_one_slice_changes_nothing_and_of_two_removes_what_lies_in_one(brain):
    every, one, two = (detector(threshold="quantile:0.9", min_depth_mm=mm).detect(brain) for mm in (0, 1.5, 1.6))
    assert np.array_equal(every.mask.array, one.mask.array) and every.findings == one.findings
    labels = components(every.mask.array > 0)
    deep = [label for label in range(1, labels.max() + 1) if np.unique(np.nonzero(labels == label)[2]).size > 1]
    assert np.array_equal(two.mask.array > 0, np.isin(labels, deep)) and 0 < len(deep) < labels.max()
    assert all(f.slices[1] > f.slices[0] for f in two.findings) and len(two.findings) == len(deep)
    assert two.provenance["min_depth_mm"] == 1.6


def test_a_single_slice_may_hold_findings(brain):
    slab = Volume(np.ascontiguousarray(brain.array[:, :, 6:7]), brain.affine)
    assert detector(threshold="quantile:0.9", min_depth_mm=3).detect(slab).findings


def test_smoothing_acts_inside_the_scored_brain_alone(brain):
    plain, smooth = detector().detect(brain), detector(scoring=Scoring(smooth_mm=2.0)).detect(brain)
    assert np.array_equal(plain.map.array[~plain.brain], smooth.map.array[~plain.brain])
    steps = [np.abs(np.diff(each.map.array[:, :, 2:-2], axis=2)).mean() for each in (plain, smooth)]
    assert steps[1] < 0.7 * steps[0]  # neighbouring slices agree better
    narrow = detector(crop=16, scoring=Scoring(smooth_mm=2.0)).detect(brain)
    outside = detector(crop=16).detect(brain).map.array == narrow.map.array
    assert outside.any() and narrow.map.array[outside].min() == narrow.map.array.min()


def test_provenance_says_how(brain):
    found = detector(scoring=Scoring(THREE, smooth_mm=2.0, smooth="3d"), min_depth_mm=3, fast=True).detect(brain)
    record = json.loads(json.dumps(found.to_dict()))["provenance"]
    assert record["scoring"] == "axial+coronal+sagittal/geometric/smooth2-3d"
    assert (record["planes"], record["fuse"], record["smooth_mm"], record["smooth"]) == (
        list(THREE),
        "geometric",
        2.0,
        "3d",
    )
    coronal, sagittal = record["further_planes"]
    assert (coronal["plane"], coronal["slices"], sagittal["slices"]) == ("coronal", [34, 18, 30], [30, 18, 34])
    assert len(coronal["boxes"]) == 5 and len(record["fast"]["boxes"]) == 3  # of eight slices each
    plain = detector().detect(brain).provenance
    assert (plain["scoring"], plain["planes"], plain["further_planes"], plain["fuse"]) == ("axial", ["axial"], [], None)


def test_planes_of_long_pixels_are_left_out_unless_forced():
    rng = np.random.default_rng(2)
    array = np.zeros((30, 30, 10), np.int16)
    array[5:-5, 5:-5, 2:-2] = rng.integers(20, 900, (20, 20, 6))
    thick = Volume(array, np.diag([1.0, 1, 4, 1]), "thick")
    found = detector(scoring=Scoring(THREE)).detect(thick)
    assert found.provenance["planes"] == ["axial"] and found.provenance["scoring"] == "axial"
    assert np.array_equal(found.map.array, detector().detect(thick).map.array)
    notes = [note for note in found.notes if note.code == "planes"]
    assert len(notes) == 2 and notes[0].severity == "warning" and "coronal slices are left out" in notes[0].text
    assert "1 x 4 mm; --force-planes" in notes[0].text
    forced = detector(scoring=Scoring(THREE, force=True)).detect(thick)
    assert forced.provenance["planes"] == list(THREE) and not forced.notes
    with pytest.raises(InputError, match="coronal, sagittal have pixels more than 3 times longer than wide"):
        detector(scoring=Scoring(("coronal", "sagittal"))).detect(thick)


def test_a_threshold_belongs_to_its_way_of_scoring(brain):
    d = detector()
    d.adapter.provenance = {"threshold": 2.0, "thresholds": {"axial/smooth2": 1.5, "axial+coronal/mean": 1.25}}
    ways = {
        Scoring(): (2.0, "checkpoint"),
        Scoring(smooth_mm=2.0): (1.5, "checkpoint"),
        Scoring(("axial", "coronal"), "mean"): (1.25, "checkpoint"),
    }
    for scoring, expected in ways.items():
        d.scoring = scoring
        found = d.detect(brain)
        assert (found.threshold, found.threshold_rule) == expected and not found.notes
    for scoring in (
        Scoring(smooth_mm=1.0),
        Scoring(smooth_mm=2.0, smooth="3d"),
        Scoring(("axial", "coronal")),
        Scoring(THREE),
    ):
        d.scoring = scoring
        found = d.detect(brain)
        (note,) = found.notes
        assert (note.code, note.severity) == ("threshold", "warning") and "no threshold for axial" in note.text
        assert found.threshold_rule == "quantile:0.995 over brain voxels"
        assert found.threshold == pytest.approx(np.quantile(found.map.array[found.brain], 0.995))
    d.adapter.provenance["thresholds"]["axial"] = 1.75  # stands before the older entry
    d.scoring = Scoring()
    assert d.detect(brain).threshold == 1.75


def test_the_usual_smoothing_needs_a_threshold_for_it(brain):
    auto = Scoring(smooth_mm=None)
    d = detector(scoring=auto)
    for provenance, mm in (({}, 0), ({"threshold": 2.0}, 0), ({"thresholds": {"axial/smooth2": 1.5}}, 2.0)):
        d.adapter.provenance = provenance
        found = d.detect(brain)
        assert found.provenance["smooth_mm"] == mm and not found.notes
        assert (found.threshold_rule == "checkpoint") == bool(provenance)
    assert auto.settled(("coronal",), provenance).smooth_mm == 0 and auto.settled(THREE, provenance).smooth_mm == 0


def test_the_usual_smoothing_is_in_3d_where_there_is_a_threshold_for_that():
    both = {"thresholds": {"axial/smooth2": 1.5, "axial/smooth2-3d": 1.25}}
    auto, through = Scoring(smooth_mm=None), Scoring(smooth_mm=None, smooth="through")
    assert auto.settled(("axial",), both).way == "axial/smooth2-3d"
    assert through.settled(("axial",), both).way == "axial/smooth2"
    only = {"thresholds": {"axial/smooth2": 1.5}}
    assert auto.settled(("axial",), only).way == "axial/smooth2"
    assert Scoring(smooth_mm=None, smooth="3d").settled(("axial",), only).smooth_mm == 0
    assert (
        Scoring(smooth_mm=2.0).settled(("axial",), both).way == "axial/smooth2"
    )  # a width of one's own is no choice of ours


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"planes": ("axial", "oblique")}, "plane 'oblique' is not one of"),
        ({"planes": ("axial", "axial")}, "expected each plane once"),
        ({"fuse": "max"}, "fusion 'max' is unknown"),
        ({"smooth_mm": -1.0}, "smoothing of -1.0 mm: expected 0 or more"),
        ({"smooth": "2d"}, "smoothing '2d' is unknown"),
    ],
)
def test_wrong_ways_are_named(values, words):
    with pytest.raises(UsageError, match=words):
        replace(PLAIN, **values)


def test_damaged_thresholds_are_named():
    for provenance in ({"thresholds": [1]}, {"thresholds": {"axial": "high"}}, {"threshold": {}}):
        with pytest.raises(WeightsError, match="thresholds are damaged"):
            stored_threshold(provenance, Scoring(("axial",)))


def test_wrong_depths_are_named():
    with pytest.raises(UsageError, match="least depth of a finding is -1 mm"):
        detector(min_depth_mm=-1)


def test_progress_never_goes_back(brain):
    seen = []
    detector(scoring=Scoring(THREE)).detect(brain, progress=lambda f, text, *count: seen.append((f, text)))
    assert [f for f, _ in seen] == sorted(f for f, _ in seen) and seen[-1][0] == 1
    assert seen[0][1].startswith("axial slice 0 of") and seen[-1][1].startswith("sagittal slice")
