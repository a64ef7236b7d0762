"""The benchmark on tiny models: every kind of row, resuming, failing, and what a run leaves behind."""

import json

import numpy as np
import pytest
from benchmark_cases import contents, write_brains, write_profile

from ZSADCLIPLib.benchmark_job import Benchmark
from ZSADCLIPLib.results import Choice, read_run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("benchmark")
    write_brains(root / "data")
    write_profile(root / "tiny.json")
    return root


def job(place, out, *rows, **options):
    profile = str(options.pop("profile", place / "tiny.json"))
    return Benchmark(str(out), profile, str(place / "data"), rows, outputs=False, **options)


@pytest.fixture(scope="module")
def one(place):
    out = place / "one"
    events = []
    result = job(place, out, "vand-brats").run(report=events.append)
    return out, result, events


def test_a_row_is_trained_cut_scored_and_finished(one):
    out, result, events = one
    assert (result["rows"], result["failed"]) == (1, 0)
    assert events == [{"event": "row", "id": "vand-brats", "status": "done"}]
    found = read_run(out)
    (row,) = found.results
    assert row.subjects == ["BraTS-MET-00004", "BraTS-MET-00005"] or len(row.subjects) == 2
    assert row.files.manifest["training"]["epochs"] == 2
    assert row.files.manifest["training"]["subjects"] == 4
    assert row.files.threshold["rules"]["f1max-pooled-train"] > 0
    assert row.files.runtime["train_seconds"] > 0 and row.files.runtime["peak_memory_mb"] > 10
    dice = row.values("dice", Choice())
    assert np.isfinite(dice).all() and (dice > 0).any()


def test_a_second_run_computes_nothing(place, one):
    out, _, _ = one
    before = {p: p.stat().st_mtime_ns for p in (out / "rows").rglob("*") if p.is_file()}
    events = []
    result = job(place, out, "vand-brats").run(report=events.append)
    assert result["kept"] == 1 and events[0]["status"] == "kept"
    assert before == {p: p.stat().st_mtime_ns for p in (out / "rows").rglob("*") if p.is_file()}


def test_missing_cases_alone_are_computed_again(place, one, tmp_path):
    out, _, _ = one
    before = contents(out)
    (folder,) = (out / "rows").iterdir()
    first, second = sorted((folder / "cases").iterdir())
    (folder / "done.json").unlink()
    second.unlink()
    kept = first.stat().st_mtime_ns
    job(place, out, "vand-brats").run()
    assert contents(out) == before and first.stat().st_mtime_ns == kept


def test_settings_that_matter_make_another_row(place, one, tmp_path):
    out, _, _ = one
    write_profile(tmp_path / "other.json", score={"background": "keep"})
    job(place, out, "vand-brats", profile=tmp_path / "other.json").run()
    assert len(list((out / "rows").iterdir())) == 2
    listed = json.loads((out / "run.json").read_text())["rows"]
    assert len(listed) == 1 and read_run(out).results[0].files.folder.name == listed[0]
