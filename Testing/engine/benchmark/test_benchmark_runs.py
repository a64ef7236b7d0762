"""Whole benchmark runs on tiny models: all rows, worker processes, a real process killed in the middle and between rows."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import forked
import pytest
from benchmark_cases import contents, write_brains, write_profile

from ZSADCLIPLib.benchmark.rows import ROWS
from ZSADCLIPLib.jobs.benchmark import Benchmark
from ZSADCLIPLib.report.results import Choice, read_run

ROOT = Path(__file__).resolve().parents[3]
KILLED_ROWS = ("vand-finetune", "vand-brats", "intensity-baseline")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    write_brains(root / "data")
    write_profile(root / "tiny.json", keep={"panels": False})
    return root


@pytest.fixture(scope="module")
def whole(place):
    """All 13 rows and the baseline, in this process."""
    out = place / "whole"
    events = []
    result = Benchmark(str(out), str(place / "tiny.json"), str(place / "data")).run(report=events.append)
    return out, result, events


@pytest.fixture(scope="module")
def three(place):
    """KILLED_ROWS alone, in this process."""
    out = place / "three"
    assert Benchmark(str(out), str(place / "tiny.json"), str(place / "data"), KILLED_ROWS).run()["failed"] == 0
    return out


def test_all_rows_finish_with_their_own_models_and_trainings(whole):
    out, result, events = whole
    assert (result["rows"], result["failed"]) == (14, 0)
    assert {event["id"] for event in events} == {row.id for row in ROWS} | {"intensity-baseline"}
    results = {found.row.id: found for found in read_run(out).results}
    for row in ROWS:
        manifest = results[row.id].files.manifest
        assert (manifest["training"] is not None) == (row.trained_on == "brain"), row.id
        assert manifest["backbone"]["kind"] == ("resnet" if row.backbone == "pmc" else "vit")
        assert bool(results[row.id].files.training) == (row.trained_on == "brain")
        assert len(results[row.id].values("auroc", Choice())) == 2
    assert "synthetic industrial images" in results["vand-finetune"].files.manifest["method"]["start"]
    assert results["vand-brats"].files.manifest["method"]["start"] == "random"
    assert results["adaclip-finetune"].files.manifest["training"]["slices"] == 8
    assert results["intensity-baseline"].files.manifest["backbone"] is None


def test_the_industrial_adapter_of_a_method_is_trained_once(whole):
    out, _, _ = whole
    names = sorted(p.name.split("-")[0] for p in (out / "adapters").iterdir())
    assert names == ["adaclip", "anomalyclip", "vand"]


def test_outputs_are_there(whole):
    out, result, _ = whole
    assert (out / "report.html").stat().st_size > 10_000
    files = [Path(path) for path in result["files"].values()]
    assert {out / "report.html", out / "tables", out / "figures"} <= set(files) and all(path.exists() for path in files)


@pytest.mark.long
def test_worker_processes_give_the_same_bytes(place, whole):
    out = place / "workers"
    job = Benchmark(str(out), str(place / "tiny.json"), str(place / "data"), KILLED_ROWS, workers=2, outputs=False)
    assert job.run()["failed"] == 0
    alone, spread = contents(whole[0]), contents(out)
    names = [name for name in spread if name.startswith(("rows/", "adapters/"))]
    assert len(names) > 20
    assert [name for name in names if spread[name] != alone[name]] == []


def test_shards_give_the_same_tables_and_the_last_one_writes_them(place, three, one_figure):
    out = place / "shards"

    def run(shard):
        return Benchmark(str(out), str(place / "tiny.json"), str(place / "data"), KILLED_ROWS, shard=shard).run()

    first = run("2/2")
    assert (first["failed"], first["files"]) == (0, {}) and not (out / "report.html").exists()
    second = run("1/2")
    assert second["failed"] == 0 and first["rows"] + second["rows"] == 3
    alone, spread = contents(three), contents(out)
    drawn = [name for name in alone if not name.startswith("figures/") or name.startswith("figures/fig1-dice")]
    assert spread == {name: alone[name] for name in drawn} and "figures/fig1-dice.png" in drawn
    assert run("6/9")["rows"] == 0


def run_three(place, out):
    """KILLED_ROWS, in a process that does nothing else."""
    Benchmark(str(out), str(place / "tiny.json"), str(place / "data"), KILLED_ROWS).run()


def kill_when(place, out, seen):
    """Start a run and end it by SIGKILL as soon as `seen()` holds."""
    process = forked.start(run_three, place, out)
    while not seen():
        assert process.is_alive(), f"it ended by itself with code {process.exitcode}"
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def the_command(place, out):
    """The same by the script, from another folder."""
    command = [sys.executable, str(ROOT / "scripts" / "benchmark"), "--profile", str(place / "tiny.json")]
    command += ["--data", str(place / "data"), "--out", str(out), "--rows", *KILLED_ROWS]
    done = subprocess.run(command, cwd="/", env={**os.environ, "PYTHONPATH": ""}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_killed_in_the_middle_of_a_row_and_between_rows_it_ends_with_the_same_tables(place, three):
    out = place / "killed"

    def count(pattern):
        return len(list(out.glob(pattern)))

    kill_when(place, out, lambda: count("rows/vand-*/training/last.pt") >= 1)  # while an adapter trains
    kill_when(place, out, lambda: count("rows/*/cases/*.json") >= 1)  # in the middle of a row
    assert count("rows/*/done.json") < len(KILLED_ROWS)
    kill_when(place, out, lambda: count("rows/*/done.json") >= 1)  # between rows
    kept = {path: path.stat().st_mtime_ns for path in out.glob("rows/*/cases/*.json")}
    the_command(place, out)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert contents(out) == contents(three)
    assert any(name.startswith("tables/") for name in contents(out))


def test_a_bad_test_case_fails_its_rows_and_names_it(place, tmp_path):
    write_brains(tmp_path / "data")
    bad = tmp_path / "data" / "BraTS-MET-00005-000" / "BraTS-MET-00005-000-seg.nii.gz"
    bad.write_bytes(bad.read_bytes()[:200])
    split = {"train": [f"BraTS-MET-0000{n}" for n in range(4)], "test": ["BraTS-MET-00004", "BraTS-MET-00005"]}
    (tmp_path / "split.json").write_text(json.dumps(split))
    profile = write_profile(tmp_path / "tiny.json", split={"file": str(tmp_path / "split.json")})
    events = []
    job = Benchmark(str(tmp_path / "out"), str(profile), str(tmp_path / "data"), ("intensity-baseline",), outputs=False)
    result = job.run(report=events.append)
    assert result["failed"] == 1 and events[0]["status"] == "failed"
    assert "BraTS-MET-00005-000" in events[0]["error"]
    assert list((tmp_path / "out").glob("rows/*/cases/BraTS-MET-00004-000.json"))


@pytest.mark.long
def test_a_dask_cluster_gives_the_same_bytes(place, whole):
    pytest.importorskip("distributed")
    out, rows = place / "dask", ("vand-brats", "intensity-baseline")
    job = Benchmark(
        str(out), str(place / "tiny.json"), str(place / "data"), rows, executor="dask", workers=2, outputs=False
    )
    assert job.run()["failed"] == 0
    alone, spread = contents(whole[0]), contents(out)
    names = [name for name in spread if name.startswith("rows/")]
    assert len(names) > 10
    assert [name for name in names if spread[name] != alone[name]] == []
