"""Few-shot rows: the same normal slices for all methods, and the support that an adapter trains on; the extended profile."""

import json
from dataclasses import replace

import pytest
from benchmark_cases import write_brains, write_profile

from ZSADCLIPLib.adapters.checkpoint import read_info
from ZSADCLIPLib.benchmark.cohort import read_cohort
from ZSADCLIPLib.benchmark.estimate import estimate
from ZSADCLIPLib.benchmark.plan import Machine, make_plan
from ZSADCLIPLib.benchmark.profiles import load_profile
from ZSADCLIPLib.benchmark.rows import ALL_ROWS, EVIDENCE, FEW_SHOT_ROWS, select_rows
from ZSADCLIPLib.benchmark.slices import build_slices, open_slices
from ZSADCLIPLib.benchmark.specs import TrainingSpec, from_json, to_json
from ZSADCLIPLib.errors import InputError
from ZSADCLIPLib.files.digests import FileHashes
from ZSADCLIPLib.jobs.benchmark import Benchmark

METHODS = {
    "mvfa": {"kshot": 2, "settings": {"epochs": 1, "batch_size": 11, "dice": "batch"}},
    "madclip": {"kshot": 2, "settings": {"epochs": 1, "batch_size": 32, "dice": "batch"}},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("few-shot")
    write_brains(root / "data")
    write_profile(root / "tiny.json", methods=METHODS)
    return root


@pytest.fixture(scope="module")
def plan(place):
    profile, hashes = load_profile(place / "tiny.json"), FileHashes(place / "hashes.json")
    cohort = read_cohort(profile, place / "data", hashes)
    return make_plan(profile, FEW_SHOT_ROWS, cohort, place / "plan", Machine("cpu"), hashes)


def test_those_with_a_memory_have_the_same_kind_and_two_train_on_their_support(plan):
    specs = {spec.method: spec for spec in plan.rows}
    memories = {name: spec.adapter.reference.count for name, spec in specs.items() if spec.adapter.reference}
    assert memories == {"vand": 4, "winclip": 4, "mvfa": 2} and specs.keys() - memories == {"madclip"}
    assert specs["vand"].training is None and specs["vand"].start_label.startswith("trained on 8 synthetic")
    training = specs["mvfa"].training
    assert (training.slices.count, training.slices.abnormal, training.schedule.augment) == (2, 2, "versions")
    assert training.settings["learning_rate"] == 1e-3 and training.settings["epochs"] == 1
    assert training.start == "mvfa:random:111" and training.subjects == 2
    without = specs["madclip"].training
    assert without.slices == training.slices and without.schedule.augment == "versions-16"
    assert from_json(TrainingSpec, json.loads(json.dumps(to_json(training)))) == training


def test_a_support_holds_normal_slices_and_as_many_with_a_lesion(plan, place):
    (spec,) = (spec for spec, _ in plan.slice_sets if getattr(spec, "abnormal", 0))
    (normal,) = (s for s, _ in plan.slice_sets if getattr(s, "count", 0) == 2 and not s.abnormal)
    records = next(records for each, records in plan.slice_sets if each == spec)
    here, there = (replace(one, folder=str(place / name)) for one, name in ((spec, "both"), (normal, "normal")))
    found, alone = (build_slices(one, records) for one in (here, there))
    assert (found["slices"], found["lesion"], alone["lesion"]) == (4, 2, 0)
    assert found["drawn"][:2] == alone["drawn"] and len(set(found["drawn"])) == 4
    images, masks = open_slices(here.folder)
    assert masks.any(axis=(1, 2)).tolist() == [False, False, True, True]
    assert (images[:2] == open_slices(there.folder)[0]).all()
    with pytest.raises(InputError, match="gave 16 abnormal slices and 17 are wanted; give a smaller kshot"):
        build_slices(replace(spec, folder=str(place / "more"), count=2, abnormal=17), records)


def test_few_shot_rows_run_with_a_memory_and_without(place):
    rows = ("mvfa-few-shot", "madclip-few-shot")
    job = Benchmark(str(place / "out"), str(place / "tiny.json"), str(place / "data"), rows, outputs=False)
    assert job.run()["failed"] == 0
    (adapter,) = (place / "out" / "rows").glob("mvfa-few-shot-*/adapter.safetensors")
    info = read_info(adapter)
    training = info.provenance["training"]
    assert (training["slices"], training["lesion_slices"], training["epochs"]) == (4, 2, 1)
    assert training["augment"] == "versions" and info.config["normalise"] == "none"
    manifest = json.loads((adapter.parent / "manifest.json").read_text("utf-8"))
    assert manifest["reference"]["kshot"] == 2
    assert len(list((adapter.parent / "cases").glob("*.json"))) == 2
    (adapter,) = (place / "out" / "rows").glob("madclip-few-shot-*/adapter.safetensors")
    training = read_info(adapter).provenance["training"]
    assert (training["slices"], training["lesion_slices"], training["augment"]) == (4, 2, "versions-16")
    assert "reference" not in json.loads((adapter.parent / "manifest.json").read_text("utf-8"))


def test_the_extended_profile_has_every_method_in_its_setups():
    profile = load_profile("extended")
    rows = select_rows(extended=profile.rows == "extended")
    assert [row.id for row in rows[:-1]] == [
        row.id for row in ALL_ROWS if row.setup not in (*EVIDENCE, "volume", "baseline")
    ] and rows[-1].id == "intensity-baseline"
    assert [row.id for row in select_rows(setups=("few-shot",), baseline=False)] == ["vand-few-shot"]
    assert [row.id for row in select_rows(methods=("mvfa",), setups=("few-shot",))] == ["mvfa-few-shot"]
    lines = {line["row"]: line for line in estimate(profile, rows, None)["rows"]}
    few = lines["mvfa-few-shot"]
    assert len(lines) == len(rows) and (few["train_slices"], few["epochs"]) == (88, 50)
    assert lines["mvfa-brats"]["train_hours"] > few["train_hours"] > 0
    few = lines["madclip-few-shot"]
    assert (few["train_slices"], few["epochs"]) == (128, 60)
    assert load_profile("paper").rows == "paper" and select_rows() == select_rows(extended=False)
