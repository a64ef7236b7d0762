"""Rows with volumetric evidence beside the 13: what they share with their counterparts, and what is their own."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmark_cases import contents, figures, write_brains, write_profile

from ZSADCLIPLib.benchmark.cohort import read_cohort
from ZSADCLIPLib.benchmark.estimate import estimate
from ZSADCLIPLib.benchmark.plan import Machine, make_plan
from ZSADCLIPLib.benchmark.profiles import load_profile
from ZSADCLIPLib.benchmark.rows import select_rows
from ZSADCLIPLib.benchmark.runner import groups
from ZSADCLIPLib.benchmark.specs import RowSpec, StackSlices, from_json, to_json
from ZSADCLIPLib.files.digests import FileHashes
from ZSADCLIPLib.jobs.benchmark import Benchmark
from ZSADCLIPLib.report.results import Choice, read_run

IDS = ("vand-brats", "linear-probe-brats", "vand-context-brats", "vand-smooth-brats", "vand-planes-brats")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("volumes")
    write_brains(root / "data")
    write_profile(root / "tiny.json", keep={"panels": False})
    return root


def plan_of(place, ids=IDS, **sections):
    base, hashes = load_profile(place / "tiny.json"), FileHashes(place / "hashes.json")
    profile = replace(base, **{name: replace(getattr(base, name), **keys) for name, keys in sections.items()})
    cohort = read_cohort(profile, place / "data", hashes)
    return make_plan(profile, select_rows(ids), cohort, place / "out", Machine(), hashes)


def specs_of(place, ids=IDS, **sections):
    return {spec.row: spec for spec in plan_of(place, ids, **sections).rows}


def test_a_row_that_only_scores_otherwise_has_the_adapter_of_its_counterpart(place):
    specs = specs_of(place)
    plain = specs["vand-brats"]
    for name in ("vand-smooth-brats", "vand-planes-brats"):
        assert specs[name].training == plain.training and specs[name].adapter == plain.adapter
        assert specs[name].folder != plain.folder == plain.training.folder
        assert (
            specs_of(place, (name,))[name].training == plain.training
        )  # trained there if the other row is not asked for
    assert (specs["vand-smooth-brats"].score.smooth_mm, specs["vand-smooth-brats"].score.min_depth_mm) == (2.0, 3.0)
    assert specs["vand-planes-brats"].score.planes == ("axial", "coronal", "sagittal")
    assert plain.score == load_profile(place / "tiny.json").score
    assert len({spec.key for spec in specs.values()}) == len(IDS)


def test_a_row_with_a_context_trains_on_the_same_slices_and_their_neighbours(place):
    specs = specs_of(place)
    plain, deep = specs["vand-brats"].training, specs["vand-context-brats"].training
    assert isinstance(deep.slices, StackSlices) and deep.slices.context == (-8.0, -4.0, 0.0, 4.0, 8.0)
    assert replace(deep.slices, folder="", context=()) == StackSlices(**{**vars(plain.slices), "folder": ""})
    assert deep.folder == specs["vand-context-brats"].folder and deep.settings["context"] == [-8.0, -4.0, 4.0, 8.0]
    assert deep.features != plain.features
    rows = plan_of(place).rows
    assert from_json(tuple[RowSpec, ...], json.loads(json.dumps(to_json(rows)))) == rows


def test_the_other_rows_do_not_depend_on_them(place):
    alone, beside = specs_of(place, ("vand-brats",)), specs_of(place)
    assert alone["vand-brats"] == beside["vand-brats"]
    smooth = specs_of(place, score={"smooth_mm": 2.0, "min_depth_mm": 3.0})
    assert smooth["vand-brats"].score == beside["vand-smooth-brats"].score
    sizes = [len(group) for group in groups([*beside.values()])]
    assert sorted(sizes) == [1, 1, 1, 2]  # plain and context see the same features, each other way of scoring its own


def test_planes_are_priced(place):
    profile = load_profile("mini")
    hours = {line["row"]: line["score_hours"] for line in estimate(profile, select_rows(IDS), None)["rows"]}
    assert hours["vand-planes-brats"] == pytest.approx(3 * hours["vand-brats"])
    assert hours["vand-smooth-brats"] == hours["vand-brats"]


@pytest.fixture(scope="module")
def whole(place):
    out = place / "whole"
    with figures("evidence"):
        return out, Benchmark(str(out), str(place / "tiny.json"), str(place / "data"), IDS).run()


def test_all_of_them_run_and_the_report_compares_them(whole):
    out, result = whole
    assert (result["rows"], result["failed"]) == (5, 0)
    rows = {found.row.id: found for found in read_run(out).results}
    folders = {name: found.files.folder for name, found in rows.items()}
    for name in IDS:
        assert (folders[name] / "adapter.safetensors").is_file() == (
            name not in ("vand-smooth-brats", "vand-planes-brats")
        )
        assert rows[name].files.manifest["training"]["start"] == "random"
    thresholds = {name: found.files.threshold["rules"]["f1max-pooled-train"] for name, found in rows.items()}
    assert len(set(thresholds.values())) == len(IDS)
    assert rows["vand-context-brats"].files.manifest["method"]["adapted"]
    assert rows["linear-probe-brats"].files.manifest["method"]["trainable_parameters"] == 4 * 64 + 1
    figure = (out / "figures" / "evidence.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[0] for line in figure[1:]] == [
        "vand-context-brats",
        "vand-smooth-brats",
        "vand-planes-brats",
    ]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert all(words in page for words in ("VAND Brats, smoothed", "Linear probe Brats", "2D and 3D evidence"))


def test_a_smoothed_row_has_the_numbers_of_a_run_with_these_keys(place, whole):
    write_profile(place / "smooth.json", keep={"panels": False}, score={"smooth_mm": 2.0, "min_depth_mm": 3.0})
    out = place / "keys"
    job = Benchmark(str(out), str(place / "smooth.json"), str(place / "data"), ("vand-brats",), outputs=False)
    assert job.run()["failed"] == 0
    (keys,) = read_run(out).results
    row = next(found for found in read_run(whole[0]).results if found.row.id == "vand-smooth-brats")
    for metric in ("dice", "auroc", "lesion_false_positives"):
        np.testing.assert_array_equal(keys.values(metric, Choice()), row.values(metric, Choice()))


def test_a_second_run_keeps_them_and_one_alone_trains_its_counterpart(place, whole):
    again = Benchmark(str(whole[0]), str(place / "tiny.json"), str(place / "data"), IDS, outputs=False).run()
    assert (again["kept"], again["failed"]) == (5, 0)
    out = place / "alone"
    job = Benchmark(str(out), str(place / "tiny.json"), str(place / "data"), ("vand-smooth-brats",), outputs=False)
    assert job.run()["failed"] == 0
    made, before = contents(out), contents(whole[0])
    smooth = [name for name in made if "/vand-smooth-brats-" in name]
    assert len(smooth) > 5 and [name for name in smooth if made[name] != before[name]] == []
    (folder,) = (out / "rows").glob("vand-brats-*")
    assert (folder / "adapter.safetensors").is_file() and not (folder / "done.json").exists()
    assert [found.row.id for found in read_run(out).results] == ["vand-smooth-brats"]
    assert Path(folder).name in {path.name for path in (whole[0] / "rows").iterdir()}
