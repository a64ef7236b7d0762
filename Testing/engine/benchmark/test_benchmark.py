"""The benchmark on tiny models: every kind of row, resuming, failing, and what a run leaves behind."""

import errno
import json
import os
import re
import shutil
import zlib

import numpy as np
import pytest
from benchmark_cases import contents, write_brains, write_profile
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ZSADCLIPLib.benchmark import steps, tasks
from ZSADCLIPLib.benchmark.specs import IndustrialSlices
from ZSADCLIPLib.benchmark.steps import Step, Steps
from ZSADCLIPLib.errors import InputError, OutputError
from ZSADCLIPLib.files import atomic
from ZSADCLIPLib.files.locks import NAME
from ZSADCLIPLib.jobs.benchmark import Benchmark
from ZSADCLIPLib.progress import silent
from ZSADCLIPLib.report.results import Choice, read_run


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
    assert "nose up" in row.files.manifest["slice_orientation"]
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


@pytest.mark.parametrize(
    "damaged", ["adapter.safetensors", "cases/*.json", "sketches/*.npz", "panels/*.npz", "threshold/*.npz", "done.json"]
)
def test_a_damaged_file_is_refused_by_reports_and_made_anew_by_a_run(place, one, damaged):
    out, _, _ = one
    before = contents(out)
    folder = next(path for path in (out / "rows").iterdir() if (path / "done.json").is_file())
    file = sorted(folder.glob(damaged))[0]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    if damaged != "done.json":
        with pytest.raises(InputError, match=f"{file.name} has changed since its row was finished"):
            read_run(out)
    trained = (folder / "adapter.safetensors").stat().st_mtime_ns
    other = sorted((folder / "cases").iterdir())[1]
    scored = other.stat().st_mtime_ns
    assert job(place, out, "vand-brats").run()["kept"] == 0
    assert contents(out) == before
    assert ((folder / "adapter.safetensors").stat().st_mtime_ns == trained) == (damaged != "adapter.safetensors")
    if damaged != "done.json":  # there a seal may be what changed
        alone = damaged.startswith(("cases", "sketches", "panels"))
        assert (other.stat().st_mtime_ns == scored) == alone


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"schema": 1, "cases": ["a"], "files": []}'])
def test_a_damaged_seal_finishes_the_row_again_without_work(place, one, text):
    out, _, _ = one
    before = contents(out)
    folder = next(path for path in (out / "rows").iterdir() if (path / "done.json").is_file())
    stamps = {path: path.stat().st_mtime_ns for path in (folder / "cases").iterdir()}
    (folder / "done.json").write_text(text)
    with pytest.raises(InputError):
        read_run(out)
    assert job(place, out, "vand-brats").run()["failed"] == 0
    assert contents(out) == before and stamps == {path: path.stat().st_mtime_ns for path in stamps}


def test_settings_that_matter_make_another_row(place, one, tmp_path):
    out, _, _ = one
    write_profile(tmp_path / "other.json", score={"background": "keep"})
    job(place, out, "vand-brats", profile=tmp_path / "other.json").run()
    assert len(list((out / "rows").iterdir())) == 2
    listed = json.loads((out / "run.json").read_text("utf-8"))["rows"]
    assert len(listed) == 1 and read_run(out).results[0].files.folder.name == listed[0]


def test_the_time_out_is_for_cases_and_not_for_trainings(tmp_path):
    found, steps = {}, Steps(time_out=0.01)
    assert [steps.limit({"step": name}) for name in ("train", "test-case", "threshold-case")] == [None, 0.01, 0.01]
    step = Step("slices", "slices", (IndustrialSlices(str(tmp_path / "slices"), 60, 1, 240), ()))
    steps.run_all([step], lambda step, why, failed: found.update({step.id: why}), silent)
    assert found == {"slices": ""} and (tmp_path / "slices" / "info.json").is_file()


def test_no_step_begins_where_the_output_is_gone(tmp_path):
    out, found = tmp_path / "out", {}
    step = Step("slices", "slices", (IndustrialSlices(str(out / "slices"), 4, 1, 64), ()))

    def note(step, why, failed):
        found[step.id] = why

    Steps(home=str(out), patience=0).run_all([step], note, silent)
    assert found["slices"] == f"OutputError: the output folder {out} is gone; is its share still connected?"
    assert not out.exists()

    def comes_back(fraction, text, *count):
        if "waiting" in text:
            out.mkdir()
            (out / NAME).touch()

    Steps(home=str(out)).run_all([step], note, comes_back)
    assert found["slices"] == "" and (out / "slices" / "info.json").is_file()


@pytest.mark.parametrize("whole", [True, False], ids=["the step", "one of its rows"])
def test_a_step_that_fails_while_the_output_goes_is_tried_again(whole, tmp_path, monkeypatch):
    lock, tries, found = tmp_path / NAME, [], {}
    lock.touch()

    def work(progress):
        tries.append(1)
        if len(tries) == 1:
            lock.unlink()
            if whole:
                raise OSError("gone")
            return {"failed": {"vand-brats": "OSError: gone"}}
        return {}

    monkeypatch.setattr(tasks, "work", work, raising=False)
    monkeypatch.setitem(steps.STEPS, "work", ("tasks:work", ()))
    job = Steps(home=str(tmp_path))
    job.run_all([Step("a", "work", ())], lambda step, *rest: found.update(a=rest), lambda f, t, *count: lock.touch())
    assert found == {"a": ("", {})} and len(tries) == 2


def test_feature_folders_of_killed_runs_are_removed(place, one):
    out, _, _ = one
    left, kept = (out / "features" / "key" / name for name in (".0123456789ab.0a1b2c3d", "0123456789ab"))
    for folder in (left, kept):
        folder.mkdir(parents=True)
        (folder / "tokens.npy").write_bytes(b"half")
    job(place, out, "vand-brats").run()
    assert not left.exists() and (kept / "tokens.npy").is_file()
    shutil.rmtree(out / "features")


def fill_with_nan(path):
    """Make an adapter file what a diverged training leaves."""
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        save_file({name: t * np.nan for name, t in tensors.items()}, path, file.metadata())


def test_a_row_that_gives_nan_fails_alone(place, tmp_path, monkeypatch):
    train = tasks.train_adapter

    def diverging(spec, progress):
        train(spec, progress)
        if "vand-brats" in spec.folder:
            fill_with_nan(spec.adapter)
        return {}

    monkeypatch.setattr(tasks, "train_adapter", diverging)
    events = []
    result = job(place, tmp_path, "vand-industrial", "vand-brats").run(report=events.append)
    status = {event["id"]: event for event in events}
    assert result["failed"] == 1 and status["vand-industrial"]["status"] == "done"
    assert re.search(r"map of vand-brats has \d+ values that are not finite", status["vand-brats"]["error"])
    assert status["vand-brats"]["error"].startswith("BraTS-MET-0000")


def test_a_row_that_cannot_be_evaluated_or_finished_fails_alone(place, tmp_path, monkeypatch):
    evaluate, close = tasks._evaluate, tasks.close_row

    def broken(spec, *rest):
        return evaluate(spec, *rest) if spec.row != "vand-brats" else {}["lost"]

    def unclosed(spec, *rest):
        return close(spec, *rest) if spec.row != "intensity-baseline" else [][0]

    monkeypatch.setattr(tasks, "_evaluate", broken)
    monkeypatch.setattr(tasks, "close_row", unclosed)
    events = []
    job(place, tmp_path, "vand-industrial", "vand-brats", "intensity-baseline").run(report=events.append)
    errors = {event["id"]: event.get("error", "") for event in events}
    assert "KeyError: 'lost'" in errors["vand-brats"] and "IndexError" in errors["intensity-baseline"]
    assert errors["vand-industrial"] == ""


@pytest.mark.parametrize("error", [KeyError("x"), TypeError("x"), EOFError(), zlib.error("x"), MemoryError()])
def test_no_error_of_one_step_stops_the_others(error, monkeypatch, capsys):
    def work(number, progress):
        if number == 0:
            raise error
        return {}

    monkeypatch.setattr(tasks, "work", work, raising=False)
    monkeypatch.setitem(steps.STEPS, "work", ("tasks:work", (int,)))
    found = {}
    todo = [Step(str(n), "work", (n,)) for n in range(2)]
    for shown in ("0", "1"):
        monkeypatch.setenv("ZSADCLIP_TRACEBACK", shown)
        Steps().run_all(todo, lambda step, why, failed: found.update({step.id: why}), silent)
        assert found["0"].startswith(type(error).__name__) and found["1"] == ""
        assert ("Traceback" in capsys.readouterr().err) == (shown == "1")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_is_full_or_read_only_fails_rows_clearly_and_the_next_run_finishes(
    code, place, one, tmp_path, monkeypatch
):
    out, writes, flush = tmp_path / "out", [], atomic.os.fsync

    def failing(descriptor):
        writes.append(1)
        if len(writes) > 12:  # somewhere among thresholds and cases
            raise OSError(code, os.strerror(code))
        flush(descriptor)

    monkeypatch.setattr(atomic.os, "fsync", failing)
    events = []
    try:
        result = job(place, out, "intensity-baseline", "vand-brats").run(report=events.append)
        assert result["failed"] >= 1
        errors = " ".join(event.get("error", "") for event in events)
    except OutputError as error:
        errors = str(error)
    assert os.strerror(code) in errors and str(tmp_path) not in errors
    assert not list(out.rglob("*.tmp*"))
    monkeypatch.setattr(atomic.os, "fsync", flush)
    assert job(place, out, "vand-brats").run()["failed"] == 0
    again = {name: data for name, data in contents(out).items() if name.startswith("rows/vand")}
    (folder,) = {name.split("/")[1] for name in again}
    undisturbed = contents(one[0])
    assert again == {name: data for name, data in undisturbed.items() if name.startswith(f"rows/{folder}/")}
