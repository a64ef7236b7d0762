"""Profiles: the paper's protocol as values, files that change a base, and errors that name the key."""

import json

import pytest

from ZSADCLIPLib.benchmark.profiles import PROFILES, load_profile
from ZSADCLIPLib.benchmark.settings import MethodSettings, Profile, Thresholds, slice_rule
from ZSADCLIPLib.errors import UsageError
from ZSADCLIPLib.fields import from_dict


def test_the_paper_profile_is_the_papers_protocol():
    paper = PROFILES["paper"]
    assert paper.slices.image_size == 240 and paper.slices.intensity == "per-slice-minmax" and paper.slices.every == 1
    assert paper.backbone("default", "vand").name == "ViT-L-14-336"
    assert paper.backbone("default", "anovl").name == "ViT-B-16-plus-240"
    assert paper.backbone("pmc", "adaclip").name == "PMC-CLIP"
    assert (paper.split.fraction, paper.split.seed) == (0.7, 2024)
    adaclip = paper.method("adaclip")
    assert (adaclip.batch_size, adaclip.max_subjects, adaclip.settings) == (1, 50, {"dice": "rows"})
    assert paper.train.slices == "brain" and paper.train.augment == "none" and paper.score.scale == "layers"
    assert paper.metrics.region == "all" and paper.metrics.slice_policy == "lesion" and paper.metrics.bins == 20
    assert paper.threshold.rule == "f1max-pooled-train" and "f1max-per-volume" in paper.threshold.rules


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_survives_json(name):
    assert from_dict(Profile, json.loads(json.dumps(PROFILES[name].to_dict()))) == PROFILES[name]


def test_a_file_changes_a_base(tmp_path):
    path = tmp_path / "mine.json"
    changes = {"split": {"seed": 7}, "methods": {"vand": {"epochs": 3}}, "threshold": {"rules": ["f1max-pooled-train"]}}
    path.write_text(json.dumps({"base": "mini", **changes}))
    mine = load_profile(path)
    assert mine.name == "mine" and mine.split.seed == 7 and mine.split.fraction == 0.7
    assert mine.method("vand") == MethodSettings(3, 8, {"dice": "batch"}) and mine.method("adaclip").max_slices == 72
    assert mine.threshold.rules == ("f1max-pooled-train",) and PROFILES["mini"].split.seed == 2024


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"slices": {"size": 240}}, "slices has no field 'size'; known are image_size"),
        ({"slice": {}}, "has no field 'slice'; known are name"),
        ({"slices": {"every": "two"}}, "slices.every is 'two'; expected a whole number"),
        ({"slices": {"every": True}}, "slices.every is True"),
        ({"methods": {"vand": {"epoch": 3}}}, "methods.vand has no field 'epoch'"),
        ({"methods": 3}, "methods is 3; expected an object"),
        ({"score": {"planes": ["coronal", "axial"]}}, "score.planes is ['coronal', 'axial']; expected axial"),
        ({"score": {"planes": ["axial", "axial"]}}, "each once"),
        ({"score": {"fuse": "max"}}, "score.fuse is 'max'"),
        ({"score": {"smooth_mm": -1}}, "score.smooth_mm is -1"),
        ({"threshold": {"rule": "best"}}, "unknown threshold rule 'best'"),
        ({"threshold": {"rule": "fixed:0.4"}}, "threshold.rule 'fixed:0.4' is not among threshold.rules"),
        ({"score": {"scale": "sigmoid"}}, "score.scale is 'sigmoid'; choose one of raw"),
        ({"train": {"slices": "some"}}, "train.slices is 'some'; expected all, brain or lesion"),
        (
            {"methods": {"vandd": {"epochs": 3}}},
            "methods has no field 'vandd'; known are adaclip, anomalyclip, anovl, bank, cohort, linear-probe, madclip, mediclip",
        ),
        (
            {"backbones": {"pcm": {"name": "mini"}}},
            "backbones has no field 'pcm'; known are default, pmc, biomedclip, adaclip",
        ),
        ({"data": {"channel": "t2"}}, "data.channel is 't2'; choose one of t1n, t1c, t2w, t2f, image"),
        ({"data": {"label_rule": "2032"}}, "data.label_rule is '2032'; choose one of auto, 2018-2021"),
        ({"metrics": {"bins": 0}}, "metrics.bins is 0; expected 1 or more"),
        ({"metrics": {"froc_levels": -1}}, "metrics.froc_levels is -1; expected 0 or more"),
        ({"metrics": {"min_component_mm3": -2}}, "metrics.min_component_mm3 is -2.0; expected 0 or more"),
        ({"threshold": {"max_subjects": 0}}, "threshold.max_subjects is 0; expected 1 or more"),
        ({"score": {"gaussian_sigma": -1}}, "score.gaussian_sigma is -1.0; expected 0 or more"),
        ({"methods": {"vand": {"max_slices": -5}}}, "methods.vand.max_slices is -5; expected 1 or more"),
        ({"methods": {"vand": {"epochs": 0}}}, "methods.vand.epochs is 0; expected 1 or more"),
        ({"split": {"fraction": 1}}, "split.fraction is 1.0; expected a number between 0 and 1"),
        ({"data": {"ignore": ["four"]}}, "data.ignore[0] is 'four'; expected a whole number"),
        ({"keep": {"maps": True}}, "keep.maps needs slices.every 1"),
    ],
)
def test_errors_name_the_key(tmp_path, changes, words):
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps({"base": "mini", **changes}))
    with pytest.raises(UsageError) as caught:
        load_profile(path)
    assert words in str(caught.value)


def test_unknown_profiles_and_damaged_files(tmp_path):
    with pytest.raises(UsageError, match="choose mini, ci, paper, extended or give a .json file"):
        load_profile("best")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UsageError, match="cannot read the profile"):
        load_profile(tmp_path / "a.json")
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(UsageError, match='needs "base"'):
        load_profile(tmp_path / "b.json")
    with pytest.raises(UsageError, match="has no backbone for biomedclip"):
        PROFILES["mini"].backbone("biomedclip", "vand")


def test_slice_rules():
    assert [slice_rule(text) for text in ("all", "brain", "lesion+8")] == [("all", 0), ("brain", 0), ("lesion", 8)]
    assert Thresholds().rule in Thresholds().rules
