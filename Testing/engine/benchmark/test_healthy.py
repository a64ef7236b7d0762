"""The setup healthy: slices without lesion train, synthetic anomalies are their truth and give the threshold."""

import json

import numpy as np
import pytest
from benchmark_cases import contents, write_brains, write_profile

from ZSADCLIPLib.benchmark.anomalies import with_anomalies
from ZSADCLIPLib.benchmark.cohort import read_cohort
from ZSADCLIPLib.benchmark.estimate import estimate
from ZSADCLIPLib.benchmark.plan import Machine, make_plan
from ZSADCLIPLib.benchmark.profiles import load_profile
from ZSADCLIPLib.benchmark.rows import HEALTHY_ROWS, select_rows
from ZSADCLIPLib.benchmark.slices import build_slices, open_slices, read_slices
from ZSADCLIPLib.benchmark.specs import HealthySlices, RowSpec, from_json, to_json
from ZSADCLIPLib.errors import UsageError
from ZSADCLIPLib.files.digests import FileHashes
from ZSADCLIPLib.jobs.benchmark import Benchmark

ROWS = ("vand-healthy", "vand-brats")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("healthy")
    write_brains(root / "data")
    write_profile(root / "tiny.json", healthy={"slices": 3, "variants": 2})
    return root


def plan_of(place, **sections):
    write_profile(place / "other.json", healthy={"slices": 3, "variants": 2}, **sections)
    profile, hashes = load_profile(place / "other.json"), FileHashes(place / "hashes.json")
    cohort = read_cohort(profile, place / "data", hashes)
    return make_plan(profile, select_rows(ROWS), cohort, place / "out", Machine(), hashes)


def test_its_rows_come_by_id_or_by_naming_the_setup():
    named = {row.method for row in select_rows(setups=("healthy",))}
    assert (
        named == {row.method for row in HEALTHY_ROWS} >= {"vand", "anomalyclip", "adaclip", "linear-probe", "mediclip"}
    )
    assert not [row for row in select_rows() if row.setup == "healthy"]


def test_its_slices_hold_no_lesion_and_the_cases_of_the_threshold_do_not_train(place):
    plan = plan_of(place)
    row = next(spec for spec in plan.rows if spec.row == "vand-healthy")
    assert from_json(RowSpec, json.loads(json.dumps(to_json(row)))) == row
    ((spec, records),) = [each for each in plan.slice_sets if isinstance(each[0], HealthySlices)]
    assert row.training.slices == spec and row.training.domain == "healthy"
    assert len(records) == 2 and not {record.id for record in records} & set(row.threshold.cases)
    assert len(row.threshold.cases) == 2
    info = build_slices(spec, records)
    images, masks = open_slices(spec.folder)
    assert len(masks) == info["slices"] == 2 * 3 * 2 and 0 < info["lesion"] < len(masks)
    case = read_slices(records[0], spec.data, spec.slices)
    lesion = case.fit(64).apply(case.image[case.truth.any(axis=(1, 2))])
    plain = images[~masks.any(axis=(1, 2))]
    assert not any(np.array_equal(one, other) for one in plain for other in lesion)


def test_the_threshold_sees_anomalies_of_its_own_in_slices_without_lesion(place):
    plan = plan_of(place)
    ((spec, records),) = [each for each in plan.slice_sets if isinstance(each[0], HealthySlices)]
    case = read_slices(records[0], spec.data, spec.slices)
    made, again = with_anomalies(case, spec), with_anomalies(case, spec)
    assert np.array_equal(made.image, again.image) and made.truth.any() and not made.truth[~made.brain].any()
    assert (
        len(made.image) == len(case.image) - case.truth.any(axis=(1, 2)).sum() - 2
    )  # and the two slices that are empty


def test_what_single_slices_cannot_show_is_refused(place):
    for sections in ({"score": {"smooth_mm": 2}}, {"methods": {"vand": {"settings": {"context": [4]}}}}):
        with pytest.raises(UsageError, match="vand-healthy: synthetic anomalies are drawn in single axial slices"):
            plan_of(place, **sections)


def test_the_estimate_counts_its_versions(place):
    lines = estimate(load_profile(place / "tiny.json"), select_rows(ROWS), str(place / "data"))["rows"]
    assert {line["row"]: line["train_slices"] for line in lines}["vand-healthy"] == 4 * 3 * 2


def test_it_runs_beside_other_rows_and_comes_out_the_same_again(place, tmp_path, one_figure):
    runs = []
    for name in ("first", "second"):
        job = Benchmark(str(tmp_path / name), str(place / "tiny.json"), str(place / "data"), ROWS, device="cpu")
        result = job.run()
        assert (result["rows"], result["failed"]) == (2, 0)
        runs.append(contents(tmp_path / name))
    assert runs[0] == runs[1]
    manifest = next(
        json.loads(data) for name, data in runs[0].items() if "healthy" in name and name.endswith("manifest.json")
    )
    assert manifest["training"]["domain"] == "healthy" and manifest["settings"]["adapter"]["training"]["variants"] == 2
    assert "VAND Healthy" in (tmp_path / "first" / "report.html").read_text(encoding="utf-8")
