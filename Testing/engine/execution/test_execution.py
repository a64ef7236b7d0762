"""Cases spread over processes, shards and a Dask cluster: the same bytes, and whatever dies costs one case at most."""

import contextlib
import csv
import errno
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from small_models import VIT

from ZSADCLIPLib.benchmark.steps import Step, Steps
from ZSADCLIPLib.cli import main
from ZSADCLIPLib.detection.devices import choose_device
from ZSADCLIPLib.errors import InputError, OutputError, UsageError, WeightsError, ZSADCLIPError
from ZSADCLIPLib.execution import cluster, kept, processes
from ZSADCLIPLib.execution.base import Execution, Spreadable
from ZSADCLIPLib.files.locks import folder_lock, is_held
from ZSADCLIPLib.jobs.detect import Detect
from ZSADCLIPLib.progress import Cancelled, silent
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.reading import write_volume

ROOT = Path(__file__).resolve().parents[3]
FAULTS = Path(__file__).parents[2] / "support" / "faults"
NAMES = [f"c{n}" for n in range(5)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Five small volumes, a tiny model, and the results of a plain run over them in `here`."""
    folder, rng = tmp_path_factory.mktemp("many"), np.random.default_rng(3)
    (folder / "tiny.json").write_text(json.dumps(VIT))
    for name in NAMES:
        array = np.zeros((20, 24, 5), np.int16)
        array[3:-3, 3:-3, 1:-1] = rng.integers(50, 500, (14, 18, 3))
        write_volume(folder / "in" / f"{name}.nii", Volume(array, np.eye(4)))
    assert detect(folder, folder / "here").run()["failed"] == 0
    return folder


@pytest.fixture(scope="module")
def shown(data):
    """The same results with their pictures, which take most of the time."""
    assert detect(data, data / "shown", pictures=True).run()["failed"] == 0
    return data / "shown"


def detect(data, out, *inputs, **changes):
    values = dict(backbone=str(data / "tiny.json"), weights="random", checkpoint="vand:random", image_size=64)
    inputs = inputs or (data / "in",)
    return Detect(tuple(map(str, inputs)), str(out), **values | {"device": "cpu", "pictures": False} | changes)


@pytest.fixture
def with_faults(data, monkeypatch):
    """Volumes that kill or stop the process that reads them, besides the good ones; gives all inputs."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FAULTS), *sys.path]))
    for name in ("poison", "hang"):
        (data / f"{name}.nii").write_bytes((data / "in" / "c0.nii").read_bytes())
    return [data / "in", data / "poison.nii", data / "hang.nii"]


def bytes_of(folder, but=("shards", "summary.csv")):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name not in but}


def rows(out):
    with open(out / "summary.csv", newline="") as stream:
        return {row["id"]: row for row in csv.DictReader(stream)}


def no_worker_is_left():
    return not [
        p for p in psutil.Process().children(recursive=True) if "ZSADCLIPLib.jobs.worker" in " ".join(p.cmdline())
    ]


def test_what_is_spread_keeps_to_the_protocol(data, tmp_path):
    assert isinstance(detect(data, tmp_path), Spreadable) and isinstance(Steps(), Spreadable)
    assert not isinstance(Execution(), Spreadable)


@pytest.mark.long
def test_worker_processes_survive_what_kills_and_stops_them(data, shown, with_faults, tmp_path, monkeypatch):
    job, limit = detect(data, tmp_path, *with_faults, workers=2, time_out=900, pictures=True), Detect.limit
    assert job.limit({"id": "c0"}) == 900
    # Only the one that never ends is late, however busy the machine is.
    monkeypatch.setattr(Detect, "limit", lambda self, item: 1.0 if item["id"] == "hang" else limit(self, item))
    result = job.run()
    assert (result["cases"], result["failed"], sorted(result["failed_ids"])) == (7, 2, ["hang", "poison"])
    found = rows(tmp_path)
    assert list(found) == [*NAMES, "poison", "hang"]
    assert found["poison"]["error"].startswith("WorkerDied") and found["hang"]["error"].startswith("TimeOut")
    assert bytes_of(tmp_path) == bytes_of(shown) and no_worker_is_left()


def test_kept_workers_stay_from_run_to_run_and_one_that_died_between_them_is_replaced(monkeypatch):
    started, told = [], []
    first = processes.Worker.__init__
    monkeypatch.setattr(processes.Worker, "__init__", lambda self, *all: (started.append(self), first(self, *all))[1])
    job, other = Steps(workers=1, retries=0), Steps(workers=1, threads=2)
    steps = [Step(name, "unheard of", ()) for name in "ab"]

    def run(job, steps=steps):
        job.run_all(steps, lambda step, why, failed: told.append(why), silent)

    with kept(job):
        run(Steps(workers=1, retries=0))
        run(job)
        run(job, [])
        assert len(started) == 1 and started[0].process.poll() is None
        started[0].process.kill()
        started[0].process.wait()
        run(job)
        run(other, steps[:1])
        assert len(started) == 3 and started[1].process.poll() is None
    assert told == ["KeyError: 'unheard of'"] * 7 and no_worker_is_left()


@pytest.mark.long
def test_a_dask_cluster_gives_the_same_bytes(data, shown, with_faults, tmp_path):
    result = detect(data, tmp_path, *with_faults[:2], executor="dask", workers=2, retries=0, pictures=True).run()
    assert (result["cases"], result["failed_ids"]) == (6, ["poison"])
    assert rows(tmp_path)["poison"]["error"].startswith("WorkerDied")
    assert bytes_of(tmp_path) == bytes_of(shown)


SBATCH = """#!/bin/sh
# Takes a job script on standard input or as a file and runs it at once, in a session of its own.
id=$$
cat "$@" > "{folder}/job.$id"
setsid sh "{folder}/job.$id" > "{folder}/job.$id.log" 2>&1 &
echo $! > "{folder}/pid.$id"
echo "Submitted batch job $id"
"""
SCANCEL = """#!/bin/sh
for id in "$@"; do kill -TERM -- "-$(cat "{folder}/pid.$id")"; done
"""


def documented_cluster(tmp_path):
    """The lines of docs/tutorials/cluster.md that start a cluster on a batch system, with settings that the stand-in can meet."""
    text = (ROOT / "docs" / "tutorials" / "cluster.md").read_text(encoding="utf-8")
    code = next(block for block in re.findall(r"```python\n(.*?)```", text, re.S) if "SLURMCluster" in block)
    for wanted, here in (("cores=4", "cores=1, interface='lo'"), ('"16GB"', '"2GB"'), ("=8", "=1")):
        assert wanted in code
        code = code.replace(wanted, here)
    path = tmp_path / "start_cluster.py"
    path.write_text(code)
    return path


@pytest.mark.long
def test_the_documented_lines_start_a_batch_system_that_gives_the_same_bytes(data, tmp_path):
    pytest.importorskip("dask_jobqueue")
    (tmp_path / "bin").mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tmp_path / "bin" / name).write_text(text.replace("{folder}", str(tmp_path)))
        (tmp_path / "bin" / name).chmod(0o755)
    path = os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]])
    python_path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PATH": path, "PYTHONPATH": python_path}
    command = [sys.executable, "-u", str(documented_cluster(tmp_path))]
    cluster = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
    )
    try:
        scheduler = cluster.stdout.readline().strip()
        result = detect(data, tmp_path / "out", executor="dask", scheduler=scheduler).run()
    finally:
        cluster.communicate("\n", timeout=600)
    assert (result["cases"], result["failed"]) == (5, 0)
    assert bytes_of(tmp_path / "out", []) == bytes_of(data / "here", [])
    scripts = [p.read_text("utf-8") for p in tmp_path.glob("job.*") if p.suffix != ".log"]
    assert scripts and all("#SBATCH -t 04:00:00" in text and "--resources GPU=1" in text for text in scripts)
    leaders = [int(p.read_text("utf-8")) for p in tmp_path.glob("pid.*")]
    assert leaders and wait_until(lambda: not any(psutil.pid_exists(pid) and still_runs(pid) for pid in leaders))


def still_runs(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(condition, seconds=600.0):
    end = time.monotonic() + seconds
    while not (held := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return held


@pytest.mark.long
def test_workers_end_when_their_parent_is_killed(data, tmp_path):
    command = [sys.executable, "-m", "ZSADCLIPLib", "detect", str(data / "in"), "-o", str(tmp_path), "--workers", "2"]
    command += ["--backbone", str(data / "tiny.json"), "--weights", "random", "--checkpoint", "vand:random"]
    command += ["--image-size", "64", "--device", "cpu", "--no-pictures"]
    (
        held := tmp_path.with_suffix(".held")
    ).touch()  # the last cases wait, so that the run cannot end before it is killed
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(FAULTS), *sys.path]),
        "ZSADCLIP_TEST_HELD": str(held),
    }
    run = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert wait_until(lambda: len(list(tmp_path.glob("*.json"))) >= 1)
    workers = psutil.Process(run.pid).children(recursive=True)
    run.kill()
    run.wait()
    held.unlink()
    assert len(workers) == 2 and not psutil.wait_procs(workers, timeout=600)[1]
    assert not (tmp_path / "summary.csv").exists()
    result = detect(data, tmp_path, skip_existing=True).run()
    assert 1 <= result["skipped"] < 5 and bytes_of(tmp_path, []) == bytes_of(data / "here", [])


def test_workers_take_the_gpus_in_turn(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert [choose_device("auto", slot) for slot in range(4)] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert (choose_device("cuda:1", 4), choose_device("cpu", 3)) == ("cuda:1", "cpu")
    assert choose_device("auto") == "cuda:1"  # a step of the benchmark stays on the GPU its process was given


def test_shards_make_the_same_whole(data, tmp_path):
    assert detect(data, tmp_path, shard="2/2").run()["cases"] == 2
    assert not (tmp_path / "summary.csv").exists()
    assert detect(data, tmp_path, shard="1/2").run()["cases"] == 3
    assert bytes_of(tmp_path, ["shards"]) == bytes_of(data / "here", ["shards"])
    assert detect(data, tmp_path, shard="7/9").run()["cases"] == 0


@pytest.mark.long
def test_cancelling_stops_all_workers(data, tmp_path):
    def progress(fraction, text, done=None, total=None):
        if done == 1:
            raise Cancelled

    with pytest.raises(Cancelled):
        detect(data, tmp_path, workers=2).run(progress)
    assert no_worker_is_left() and not (tmp_path / "summary.csv").exists()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    assert detect(data, tmp_path, skip_existing=True).run()["skipped"] >= 1
    assert bytes_of(tmp_path, []) == bytes_of(data / "here", [])


def test_an_error_of_the_model_ends_the_run(data, tmp_path):
    (tmp_path / "wrong.pth").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="wrong.pth"):
        detect(data, tmp_path / "out", workers=1, checkpoint=str(tmp_path / "wrong.pth")).run()


def test_a_finished_run_needs_no_model(data, tmp_path):
    kept = detect(data, data / "here", skip_existing=True)
    key = kept.key
    object.__setattr__(kept, "load", lambda slot: pytest.fail("the model was loaded"))
    assert kept.run() == {"cases": 5, "failed": 0, "skipped": 5, "output": str(data / "here")}
    assert key == detect(data, "elsewhere", workers=3, threads=1, device="cuda", executor="dask").key
    for other in ({"plane": "coronal"}, {"crop": "none"}, {"window": ("brain",)}, {"intensity": "per-volume-zscore"}):
        assert key != detect(data, "elsewhere", **other).key


def test_files_in_settings_and_folders_of_weights_enter_the_key_by_content(data, tmp_path):
    (tmp_path / "weights").mkdir()
    files = [tmp_path / "prompts.json", tmp_path / "weights" / "model.bin"]
    settings = {"settings": {"prompts": str(files[0])}, "weights": str(tmp_path / "weights")}
    keys = set()
    for contents in ((b"1", b"1"), (b"2", b"1"), (b"1", b"2")):
        for file, content in zip(files, contents, strict=True):
            file.write_bytes(content)
        keys |= {detect(data, "out", **settings).key for _ in range(2)}
    assert len(keys) == 3


@pytest.mark.parametrize("damage", ["map", "mask", "png", "json", "input", "gone"])
def test_damaged_results_are_made_again(data, tmp_path, damage):
    source = tmp_path / "c0.nii"
    source.write_bytes((data / "in" / "c0.nii").read_bytes())
    first = detect(data, tmp_path / "out", source, pictures=True)
    first.run()
    paths = first.paths("c0")
    before = {key: path.read_bytes() for key, path in paths.items()}
    if damage == "input":
        source.write_bytes((data / "in" / "c1.nii").read_bytes())
    elif damage == "gone":
        paths["mask"].unlink()
    else:  # one byte, the length and the time stay
        times = paths[damage].stat()
        content = bytearray(before[damage])
        content[len(content) // 2] ^= 1
        paths[damage].write_bytes(content)
        os.utime(paths[damage], ns=(times.st_atime_ns, times.st_mtime_ns))
    result = detect(data, tmp_path / "out", source, skip_existing=True, pictures=True).run()
    assert result["skipped"] == 0
    after = {key: path.read_bytes() for key, path in paths.items()}
    assert (after == before) == (damage != "input")


@pytest.mark.parametrize("change", ['"status": "statur"', '"volume_score": 94.0', '"files": []'])
def test_a_json_that_was_changed_is_made_again(data, tmp_path, change):
    source = tmp_path / "c0.nii"
    source.write_bytes((data / "in" / "c0.nii").read_bytes())
    first = detect(data, tmp_path / "out", source)
    first.run()
    path = first.paths("c0")["json"]
    before, (key, value) = path.read_text("utf-8"), change.split(": ")
    done = json.loads(before)
    place = done if key == '"files"' else done["summary"]
    place[json.loads(key)] = json.loads(value)
    path.write_text(json.dumps(done))
    result = detect(data, tmp_path / "out", source, skip_existing=True).run()
    assert result["skipped"] == 0 and path.read_text("utf-8") == before


def test_an_input_that_is_replaced_while_it_is_read_is_made_again(data, tmp_path, monkeypatch):
    from ZSADCLIPLib.volumes import reading

    source, other, read = tmp_path / "c0.nii", (data / "in" / "c1.nii").read_bytes(), reading.read_volume
    source.write_bytes((data / "in" / "c0.nii").read_bytes())

    def replaced(path, *choices):
        volume = read(path, *choices)
        Path(path).write_bytes(other)
        return volume

    monkeypatch.setattr(reading, "read_volume", replaced)
    assert detect(data, tmp_path / "out", source).run()["failed"] == 0
    monkeypatch.undo()
    assert detect(data, tmp_path / "out", source, skip_existing=True).run()["skipped"] == 0


def test_settings_that_name_a_header_depend_on_its_data(data, tmp_path):
    (tmp_path / "m.raw").write_bytes(bytes(8))
    (tmp_path / "m.mhd").write_text("NDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = m.raw\n")
    before = detect(data, "out", brain_mask=str(tmp_path / "m.mhd")).key
    (tmp_path / "m.raw").write_bytes(bytes([1] * 8))
    assert detect(data, "out", brain_mask=str(tmp_path / "m.mhd")).key != before


def test_results_depend_on_code_and_embedded_models(data, monkeypatch):
    from ZSADCLIPLib.jobs import keys

    before = detect(data, "out").key
    monkeypatch.setattr(keys, "code_version", lambda: "0.1.0+other")
    assert detect(data, "out").key != before


def test_without_locks_the_first_to_end_does_not_stop_the_others(data, tmp_path, monkeypatch):
    import fcntl

    def none(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", none)
    with folder_lock(tmp_path, "1/2"):
        with folder_lock(tmp_path, "2/2"):
            pass
        assert is_held(tmp_path)
        assert detect(data, tmp_path, shard="2/2").run()["failed"] == 0
        assert is_held(tmp_path)


def test_shards_outlive_locks_that_do_not_reach_other_machines(data, tmp_path, monkeypatch):
    """As with locks that each node of a cluster keeps to itself: every shard takes itself for the last one."""
    import fcntl

    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    with folder_lock(tmp_path, "1/2") as token:
        assert detect(data, tmp_path, shard="2/2").run()["failed"] == 0
        assert is_held(tmp_path, token, "1/2") and is_held(tmp_path, shard="1/2")
        assert not is_held(tmp_path, shard="2/2")


def test_one_run_at_a_time_on_an_output_folder(data, tmp_path):
    with folder_lock(tmp_path), pytest.raises(OutputError, match="another run .process"):
        detect(data, tmp_path).run()
    with folder_lock(tmp_path, "1/2"):
        assert detect(data, tmp_path, shard="2/2").run()["cases"] == 2
        with pytest.raises(OutputError, match="another run"):
            detect(data, tmp_path, shard="1/2").run()
        with pytest.raises(OutputError, match="another run"):
            detect(data, tmp_path).run()
    assert detect(data, tmp_path, skip_existing=True).run()["skipped"] == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"executor": "cloud"}, "choose one of local, dask"),
        ({"workers": -1}, "workers is -1"),
        ({"time_out": 0}, "more than 0"),
        ({"shard": "3/2"}, "I/N"),
        ({"shard": "0/2"}, "I/N"),
        ({"scheduler": "tcp://x"}, "belongs to --executor dask"),
    ],
)
def test_wrong_settings(data, tmp_path, changes, words):
    with pytest.raises(UsageError, match=words):
        detect(data, tmp_path / "out", **changes).run()
    assert not (tmp_path / "out").exists()


def test_workers_that_cannot_start_are_not_tried_for_ever(data, tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("import os, sys\nif '-m' in sys.orig_argv: os._exit(9)\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    with pytest.raises(ZSADCLIPError, match="before the model is loaded .exit code 9"):
        detect(data, tmp_path / "out", workers=1, retries=5).run()


def test_a_damaged_file_with_a_strange_name_ends_no_run(data, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.nii").write_bytes((data / "in" / "c0.nii").read_bytes())
    (folder / os.fsdecode(b"z\xff.nii")).write_bytes(b"broken")
    result = detect(data, tmp_path / "out", folder).run()
    assert (result["cases"], result["failed"]) == (2, 1)
    with open(tmp_path / "out" / "summary.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["status"] for row in rows] == ["done", "failed"] and "z\\udcff.nii" in rows[1]["error"]


def test_a_case_tells_the_name_of_its_prompts_and_not_their_folder(data, tmp_path):
    prompts = tmp_path / "DOE_JANE" / "p.json"
    prompts.parent.mkdir()
    prompts.write_text(json.dumps({"normal": ["a {}"], "abnormal": ["a damaged {}"], "templates": ["{}."]}))
    source = data / "in" / "c0.nii"
    for keep in (False, True):
        job = detect(data, tmp_path / f"out-{keep}", source, prompts=str(prompts), keep_identifiers=keep)
        assert job.run()["failed"] == 0
        assert ("DOE_JANE" in job.paths("c0")["json"].read_text("utf-8")) == keep


def test_any_error_while_a_worker_loads_ends_the_run_with_its_cause(data, tmp_path):
    job = detect(
        data, tmp_path / "out", data / "in" / "c0.nii", checkpoint="vand:random:99999999999999999999999", workers=1
    )
    with pytest.raises(ZSADCLIPError, match="unexpected|seed|random") as caught:
        job.run()
    assert "memory" not in str(caught.value)


def test_shards_whose_inputs_changed_say_so_until_all_ran_again(data, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    content = (data / "in" / "c0.nii").read_bytes()
    for name in "abcd":
        (folder / f"{name}.nii").write_bytes(content)
    shards = [detect(data, tmp_path / "out", folder, shard=f"{n}/2", skip_existing=True) for n in (1, 2)]
    shards[0].run()
    (folder / "aa.nii").write_bytes(content)
    with pytest.raises(InputError, match="shard 1/2 worked on other cases"):
        shards[1].run()
    for shard in shards:
        with contextlib.suppress(InputError):
            shard.run()
    with open(tmp_path / "out" / "summary.csv", newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == ["a", "aa", "b", "c", "d"]


@pytest.mark.parametrize("shard", [None, "1/1"])
def test_a_case_that_was_given_up_elsewhere_writes_nothing_into_the_next_run(data, tmp_path, shard):
    """As a task that runs on in a cluster after its client was killed."""
    source, out = data / "in" / "c0.nii", tmp_path / "out"
    old = detect(data, out, source, threshold="0.1", patience=600.0, shard=shard)
    with folder_lock(out, shard) as token:
        item = {"id": "c0", "image": str(source), "mask": None, "settings": old.key, "run": token}
    detector = old.load(0)
    with folder_lock(out, shard):
        row = old.work(lambda: detector, item, lambda *_: None)
        assert row["status"] == "failed" and "holds another run by now" in row["error"]
    assert not old.paths("c0")["json"].exists()


def test_a_result_never_takes_the_place_of_an_input(data, tmp_path):
    content = (data / "in" / "c0.nii").read_bytes()
    for name in ("x.nii", "x_mask.nii.gz"):
        (tmp_path / name).write_bytes(content)
    for inputs, changes, word in (
        ([tmp_path], {}, "x_mask.nii.gz"),
        ([tmp_path / "x.nii"], {"brain_mask": str(tmp_path / "x_mask.nii.gz")}, "x_mask.nii.gz"),
    ):
        with pytest.raises(UsageError, match=word):
            detect(data, tmp_path, *inputs, **changes).run()
    (tmp_path / "summary.csv").write_text("id,image\none,x.nii\n")
    with pytest.raises(UsageError, match=r"place of summary\.csv, which is read; choose another output folder"):
        detect(data, tmp_path, tmp_path / "summary.csv").run()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["summary.csv", "x.nii", "x_mask.nii.gz"]


@pytest.mark.parametrize("name", ["a.json", "a.png", "a_mask.nii", "a_anomaly.nii.gz", "summary.csv"])
def test_a_result_never_takes_the_place_of_a_file_that_no_run_wrote(data, tmp_path, name):
    (tmp_path / "a.nii").write_bytes((data / "in" / "c0.nii").read_bytes())
    (tmp_path / name).write_text('{"RepetitionTime": 2.0}')
    with pytest.raises(UsageError, match=rf"place of {re.escape(name)}, which is no result of an earlier run; move it"):
        detect(data, tmp_path, tmp_path / "a.nii", pictures=True).run()
    assert (tmp_path / name).read_text("utf-8") == '{"RepetitionTime": 2.0}' and len(list(tmp_path.iterdir())) == 2
    (tmp_path / name).rename(tmp_path / f"other.{name}")
    for _ in range(2):
        assert detect(data, tmp_path, tmp_path / "a.nii", pictures=True).run()["failed"] == 0


def test_a_linked_input_is_not_replaced(data, tmp_path):
    out = tmp_path / "out"
    (tmp_path / "in").mkdir()
    write_volume(out / "a_mask.nii.gz", Volume(np.ones((8, 8, 2), np.int16), np.eye(4)))
    (tmp_path / "in" / "a.nii.gz").symlink_to(out / "a_mask.nii.gz")
    with pytest.raises(UsageError, match=r"place of a_mask\.nii\.gz, which is read"):
        detect(data, out, tmp_path / "in").run()


def test_an_output_inside_the_input_is_begun_again_after_a_kill(data, tmp_path):
    (tmp_path / "a.nii").write_bytes((data / "in" / "c0.nii").read_bytes())
    job = detect(data, tmp_path / "results", tmp_path, skip_existing=True)
    assert job.run()["cases"] == 1
    before = bytes_of(tmp_path / "results", ("summary.csv",))
    job.paths("a")["json"].rename(tmp_path / "results" / ".a.unfinished")
    (tmp_path / "results" / ".a.unfinished").write_bytes(b"")
    assert job.run() == {"cases": 1, "failed": 0, "skipped": 0, "output": str(tmp_path / "results")}
    assert bytes_of(tmp_path / "results", ("summary.csv",)) == before


def test_a_stopped_run_leaves_no_old_summary(data, tmp_path):
    job = detect(data, tmp_path)
    assert job.run()["failed"] == 0

    def stop_at_the_third(fraction, text, *count):
        if fraction > 0.5:
            raise Cancelled

    with pytest.raises(Cancelled):
        replace(job, threshold="0.2").run(stop_at_the_third)
    assert not (tmp_path / "summary.csv").exists()
    assert detect(data, tmp_path, skip_existing=True).run()["skipped"] < 5

    def stop(event):
        raise Cancelled

    with pytest.raises(Cancelled):
        detect(data, tmp_path, skip_existing=True).run(report=stop)
    assert (tmp_path / "summary.csv").is_file()  # still true: nothing was written


def test_temporary_files_of_other_shards_stay(data, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    for name in ("x", "x_anomaly"):
        write_volume(folder / f"{name}.nii", Volume(np.ones((8, 8, 2), np.int16), np.eye(4)))
    out.mkdir()
    ours = [".x_anomaly.0123456789ab.tmp.nii.gz", ".x.0123456789ab.tmp.json"]
    others = [
        ".x_anomaly.0123456789ab.tmp.json",
        ".x_anomaly_mask.0123456789ab.tmp.nii.gz",
        ".summary.0123456789ab.tmp.csv",
    ]
    for name in ours + others:
        (out / name).write_text("x")
    shard = detect(data, out, folder, shard="1/2")
    assert shard.run()["cases"] == 1
    assert {p.name for p in out.iterdir() if ".tmp" in p.name} == set(others)
    detect(data, out, folder).run()
    assert not [p for p in out.iterdir() if ".tmp" in p.name]


def test_a_whole_run_clears_the_parts_of_shards(data, tmp_path):
    shards = tmp_path / "shards"
    for n in (1, 2):
        detect(data, tmp_path, shard=f"{n}/2").run()
    key = detect(data, tmp_path).key
    parts = [f"{n}-of-2-{key}.csv" for n in (1, 2)]
    temporary = [f".{name.removesuffix('.csv')}.0123456789ab.tmp.csv" for name in parts]
    for name in temporary:
        (shards / name).write_text("half")
    detect(data, tmp_path, shard="1/2", skip_existing=True).run()
    assert sorted(p.name for p in shards.iterdir()) == sorted([*parts, temporary[1]])
    (shards / "mine.csv").write_text("")
    detect(data, tmp_path, skip_existing=True).run()
    assert [p.name for p in shards.iterdir()] == ["mine.csv"]
    (shards / "mine.csv").unlink()
    detect(data, tmp_path, skip_existing=True).run()
    assert not shards.exists()


def test_results_depend_on_weights_found_by_name_that_nothing_pins(data, tmp_path):
    from ZSADCLIPLib.backbones.registry import BACKBONES

    job = detect(data, "out", backbone="PMC-CLIP", weights=None, weights_dir=str(tmp_path))
    with pytest.raises(WeightsError, match="weights of PMC-CLIP are missing"):
        _ = job.key
    for name in BACKBONES["PMC-CLIP"].files:
        (tmp_path / name).write_bytes(b"one")
    before = replace(job).key
    assert before == replace(job).key
    (tmp_path / "text_encoder.pth").write_bytes(b"two")
    assert replace(job).key != before


def test_weights_whose_share_comes_back_are_waited_for(data, tmp_path):
    job, calls = detect(data, tmp_path, data / "in" / "c0.nii", patience=600.0), []
    loaded = job.load(0)

    def state():
        calls.append(1)
        if len(calls) < 3:
            raise WeightsError("cannot read the weights") from OSError(errno.ESTALE, "Stale file handle")
        return loaded

    item = {"id": "c0", "image": str(data / "in" / "c0.nii"), "mask": None, "settings": job.key}
    with folder_lock(tmp_path):
        assert job.work(state, item, lambda *_: None)["status"] == "done" and len(calls) == 3
        calls.clear()
        with pytest.raises(WeightsError):
            replace(job, patience=0.0).work(state, item, lambda *_: None)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """A scheduler and a worker that were started in another folder; gives the scheduler's file."""
    folder = tmp_path_factory.mktemp("elsewhere")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(FAULTS.parents[1]), *filter(None, sys.path)])}
    common = ["--scheduler-file", str(folder / "s.json"), "--no-dashboard"]
    commands = (
        ["dask_scheduler", *common, "--port", "0", "--host", "127.0.0.1"],
        ["dask_worker", *common, "--nthreads", "1", "--no-nanny"],
    )
    processes = []
    for command in commands:
        run = [sys.executable, "-m", f"distributed.cli.{command[0]}", *command[1:]]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        processes.append(subprocess.Popen(run, cwd=folder, env=environment, **quiet))
        assert wait_until((folder / "s.json").exists)
    yield str(folder / "s.json")
    for process in processes:
        for child in [*psutil.Process(process.pid).children(recursive=True), process]:
            child.kill()
        process.wait()


@pytest.mark.long
def test_relative_paths_are_those_of_the_client(data, tmp_path, scheduler, monkeypatch):
    monkeypatch.chdir(data)
    name = os.path.relpath(tmp_path / "out", data)
    job = detect(data, name, "in", backbone="tiny.json", executor="dask", scheduler=scheduler)
    assert job.run()["failed"] == 0
    assert bytes_of(tmp_path / "out") == bytes_of(data / "here")


@pytest.mark.long
def test_a_kept_model_follows_the_device(data, tmp_path, scheduler):
    run = {"executor": "dask", "scheduler": scheduler}
    assert detect(data, tmp_path / "a", **run).run()["failed"] == 0
    with pytest.raises(ZSADCLIPError, match="nowhere"):
        detect(data, tmp_path / "b", **run | {"device": "nowhere"}).run()


@pytest.mark.long
def test_errors_that_end_a_dask_run_are_said_without_a_traceback(data, tmp_path, scheduler, capfd):
    command = ["detect", str(data / "in"), "-o", str(tmp_path), "--executor", "dask", "--scheduler", scheduler]
    assert main([*command, "--checkpoint", "nothere.safetensors"]) == 1
    said = capfd.readouterr().err
    assert "nothere.safetensors" in said and "Traceback" not in said and len(said.strip().splitlines()) == 1


def test_a_case_that_only_waited_beside_a_deadly_one_is_tried_alone():
    """Dask blames every case of a worker that died."""
    from distributed.scheduler import KilledWorker

    class Future:
        status = "error"

        def exception(self):
            return KilledWorker("x", None, 1)

    class Client:
        status = "running"

        def scheduler_info(self, n_workers):
            return {"workers": {"one": {}}}

        def submit(self, work, job, item, place, **_):
            submitted.append([item["id"]])
            future = Future()
            together = sum(len(each) for each in submitted) - settled()
            if item["id"] != "poison" and together == 1:
                future.status, future.result = "finished", lambda: {"id": item["id"], "status": "done", "error": ""}
            future.add_done_callback = lambda then: then(future)
            return future

    submitted, rows_, run = [], {}, None

    def settled():
        return len(submitted) - 1 - len(run.futures) if run else 0

    items = [{"id": name} for name in ("a", "poison", "b")]
    run = cluster.Run(
        Execution(), items, lambda n, row: rows_.update({items[n]["id"]: row["status"]}), lambda *_: None, Client()
    )
    run.run()
    assert rows_ == {"a": "done", "poison": "failed", "b": "done"}


def test_shards_of_another_number_wait(data, tmp_path):
    with folder_lock(tmp_path, "1/2"):
        with pytest.raises(OutputError, match="shards of another number are writing .*1-of-2"):
            detect(data, tmp_path, shard="1/3").run()
        assert detect(data, tmp_path, shard="2/2").run()["cases"] == 2
    assert detect(data, tmp_path, shard="1/3").run()["cases"] == 2


def test_a_summary_describes_what_is_there(data, tmp_path):
    """Shards of other settings replaced the results; the part of one that did not run again is worth nothing."""
    for threshold in ("checkpoint", "0.1"):
        for n in (1, 2):
            detect(data, tmp_path, threshold=threshold, shard=f"{n}/2").run()
    detect(data, tmp_path, shard="1/2").run()
    assert not (tmp_path / "summary.csv").exists()
    detect(data, tmp_path, shard="2/2").run()
    assert rows(tmp_path) == rows(data / "here")


def test_no_summary_is_written_into_the_mount_point_of_a_lost_share(data, tmp_path):
    share, away = tmp_path / "share", tmp_path / "away"

    def report(event):
        share.rename(away)

    with pytest.raises(OutputError, match="connect its share, then the same command with --skip-existing"):
        detect(data, share / "out", data / "in" / "c0.nii", patience=0.2).run(report=report)
    assert not share.exists() and not (away / "out" / "summary.csv").exists()


def test_a_full_folder_for_temporary_files_is_said(data, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(OutputError, match="cannot write temporary rows to .*: No space left on device; .*TMPDIR"):
        detect(data, tmp_path, data / "in" / "c0.nii").run()
