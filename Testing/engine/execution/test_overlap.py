"""Cases that overlap in one process: the same bytes, one thread on the device, an end within a batch, bounded memory."""

import json
import os
import sys
import threading
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from dicom_results import whole_series
from killed_after import killed_after
from small_models import VIT

from ZSADCLIPLib.detection import devices
from ZSADCLIPLib.errors import OutputError, UsageError, WeightsError
from ZSADCLIPLib.execution import execute, processes
from ZSADCLIPLib.execution import shared as sharing_module
from ZSADCLIPLib.execution.base import Execution, Spreadable
from ZSADCLIPLib.execution.overlap import Cases
from ZSADCLIPLib.execution.shared import on_device
from ZSADCLIPLib.jobs.detect import Detect
from ZSADCLIPLib.progress import Cancelled, silent
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.reading import write_volume

pytest_plugins = ["thread_fixtures"]
pytestmark = pytest.mark.usefixtures("no_thread_is_left")
LONG = 300.0  # seconds that nobody waits unless something is broken
NAMES = [f"c{n}" for n in range(5)]
FAULTS = Path(__file__).parents[2] / "support" / "faults"


@dataclass(frozen=True, kw_only=True)
class Job(Execution):
    """A job whose work is a function of (what was loaded, the item's number, progress)."""

    do: object = field(default=None, compare=False)
    most: int = 3
    loading: object = field(default=dict, compare=False)

    kind = "made up"
    key = ""

    def at_once(self):
        return self.most

    def load(self, slot):
        return self.loading()

    def work(self, state, item, progress):
        self.do(state(), item["n"], progress)
        return {"id": item["id"], "status": "done", "error": ""}


def run(job, count, progress=silent, settle=None):
    """The numbers of the items in the order of finishing."""
    done = []
    items = [{"id": f"c{n}", "n": n} for n in range(count)]
    execute(job, items, settle or (lambda n, row: done.append(n)), progress)
    return done


def test_another_case_is_read_while_one_is_on_the_device():
    read = [threading.Event() for _ in range(3)]

    def do(_, n, progress):
        read[n].set()
        if n:
            assert on_device(read[2].wait, LONG)  # never, if the third waited for the second

    assert isinstance(Job(), Spreadable) and sorted(run(Job(do=do, most=2), 3)) == [0, 1, 2]


def test_the_first_case_is_alone_and_then_as_many_as_said_are_under_way():
    """Alone on the thread of the caller: it loads the model, once."""
    under_way, seen, threads, loaded, lock = set(), {}, {}, [], threading.Lock()
    three = threading.Barrier(3, timeout=LONG)

    def do(model, n, progress):
        with lock:
            under_way.add(n)
            seen[n] = len(under_way)
            threads[n] = threading.current_thread()
        if 1 <= n <= 3:
            three.wait()
        on_device(lambda: None)
        with lock:
            under_way.remove(n)

    assert sorted(run(Job(do=do, most=3, loading=lambda: loaded.append(1)), 12)) == list(range(12))
    assert seen[0] == 1 and max(seen.values()) == 3 and loaded == [1]
    assert threads.pop(0) is threading.current_thread() not in threads.values()


def test_cases_that_are_kept_are_looked_at_one_after_the_other():
    """Nothing is imported for them, so nothing says yet how many the device needs."""

    @dataclass(frozen=True, kw_only=True)
    class Kept(Job):
        def at_once(self):
            raise AssertionError("asked")

        def work(self, state, item, progress):
            return super().work(state, item, progress) | {"kept": True}

    assert run(Kept(do=lambda *_: None), 4) == [0, 1, 2, 3]


def test_rows_and_progress_come_on_the_thread_of_the_caller_and_never_fall():
    told, settled, here = [], [], threading.current_thread()

    def do(_, n, progress):
        for part in (0.0, 0.5, 1.0):
            on_device(progress, part, f"case {n}", n, 9)

    def progress(fraction, text, done=None, total=None):
        told.append(fraction)
        assert threading.current_thread() is here and (total is None or text == f"case {done}")

    def settle(n, row):
        assert threading.current_thread() is here
        settled.append((n, row["id"]))

    run(Job(do=do), 7, progress, settle)
    assert sorted(settled) == [(n, f"c{n}") for n in range(7)]
    assert told == sorted(told) and told[0] >= 0 and told[-1] <= 1.0


@pytest.mark.parametrize("kind", [Cancelled, KeyboardInterrupt, OutputError])
@pytest.mark.parametrize("where", ["progress", "settle"])
def test_whatever_ends_a_run_ends_it_within_a_batch_of_each_case(kind, where, monkeypatch):
    """Once the run has heard of it no case goes further than to its next word of progress, and none is handed out."""
    stopped, after, begun, stop = threading.Event(), [], [], Cases.stop
    monkeypatch.setattr(Cases, "stop", lambda self: (stop(self), stopped.set()))

    def do(_, n, progress):
        if n == 0:
            return
        begun.append(n)
        if where == "settle" and n == 1:
            return
        while True:
            late = stopped.is_set()
            progress(0.1, "batch")
            if late:
                after.append(n)
                return
            on_device(stopped.wait, 0.001)

    def end(n, *_):
        if len(begun) == 3 or (where == "settle" and n):
            raise kind("enough")

    where_to = {"progress": end if where == "progress" else silent, "settle": end if where == "settle" else None}
    with pytest.raises(kind):
        run(Job(do=do, most=3), 9, **where_to)
    assert stopped.is_set() and not after and len(begun) <= 3


def test_a_model_that_cannot_be_loaded_ends_the_run():
    def load():
        raise WeightsError("none")

    begun = []
    with pytest.raises(WeightsError, match="none"):
        run(Job(do=lambda *_: begun.append(1), loading=load), 4)
    assert not begun


def test_a_job_whose_cases_do_not_overlap_stays_on_the_thread_of_the_caller():
    found = []

    def do(_, n, progress):
        found.append(threading.current_thread())

    run(Job(do=do, most=1), 3)
    assert found == [threading.current_thread()] * 3


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Five small volumes, one of them broken, and a tiny model."""
    folder, rng = tmp_path_factory.mktemp("overlap"), np.random.default_rng(3)
    (folder / "tiny.json").write_text(json.dumps(VIT))
    for n, name in enumerate(NAMES):
        array = np.zeros((20, 24, 5 + n), np.int16)
        array[3:-3, 3:-3, 1:-1] = rng.integers(50, 500, (14, 18, 3 + n))
        write_volume(folder / "in" / f"{name}.nii", Volume(array, np.eye(4)))
    (folder / "in" / "broken.nii").write_bytes(b"no volume")
    return folder


def detect(data, out, *inputs, **changes):
    values = dict(backbone=str(data / "tiny.json"), weights="random", checkpoint="vand:random", image_size=64)
    inputs = inputs or (data / "in",)
    return Detect(tuple(map(str, inputs)), str(out), **values | {"device": "cpu", "pictures": False} | changes)


def bytes_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


SETTINGS = {
    "plain": {},
    "pictures": {"pictures": True},
    "three planes": {"planes": ("axial", "coronal", "sagittal")},
    "shifts": {"shifts": 4, "batch_size": 2},
    "fast": {"fast": True},
    "adaclip": {"method": "adaclip", "checkpoint": "adaclip:random"},
    "anomalyclip": {"method": "anomalyclip", "checkpoint": "anomalyclip:random"},
    "anovl": {"method": "anovl", "checkpoint": "anovl:random", "settings": {"score_views": "identity"}},
    "winclip": {"method": "winclip", "checkpoint": "winclip:random"},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_overlapping_cases_give_the_same_bytes(data, tmp_path, name):
    found = []
    for overlap in (1, 4):
        job = detect(data, tmp_path / str(overlap), overlap=overlap, **SETTINGS[name])
        result = job.run()
        assert (result["cases"], result["failed_ids"]) == (6, ["broken"])
        found.append(bytes_of(tmp_path / str(overlap)))
    assert found[0] == found[1] and len(found[0]) == 1 + 5 * len(job.paths("c0"))


def test_overlapping_dicom_cases_give_the_same_bytes(data, tmp_path):
    for n in range(2):
        whole_series(tmp_path / "in" / f"s{n}", slices=5 + n, SeriesInstanceUID=f"1.2.3.{n}")
    found = []
    for overlap in (1, 4):
        settings = {
            "dicom": "all",
            "pictures": True,
            "overlap": overlap,
            "threshold": "quantile:0.9",
            "min_size_mm3": 0.0,
        }
        job = detect(data, tmp_path / str(overlap), tmp_path / "in", min_depth_mm=0.0, **settings)
        assert job.run()["failed"] == 0
        found.append(bytes_of(tmp_path / str(overlap)))
    assert found[0] == found[1] and sum(name.endswith(".dcm") for name in found[0]) == 8


def test_a_batch_that_does_not_fit_is_halved_for_all(data, tmp_path, monkeypatch):
    from ZSADCLIPLib.adapters.vand import VAND

    features, sizes = VAND.features, []

    def small(self, backbone, images):
        sizes.append((len(images), threading.current_thread().name))
        if len(images) > 2:
            raise MemoryError("out of memory")
        return features(self, backbone, images)

    monkeypatch.setattr(VAND, "features", small)
    detect(data, tmp_path / "2", overlap=3).run()
    monkeypatch.undo()
    detect(data, tmp_path / "1", overlap=1).run()
    assert "device" in {name for _, name in sizes} and max(size for size, _ in sizes) > 2
    assert bytes_of(tmp_path / "1") == bytes_of(tmp_path / "2")


def test_a_cancelled_run_leaves_nothing_half_written_and_goes_on(data, tmp_path):
    detect(data, tmp_path / "whole", overlap=1).run()

    def progress(fraction, text, done=None, total=None):
        if any((tmp_path / "out").glob("*.json")):
            raise Cancelled

    with pytest.raises(Cancelled):
        detect(data, tmp_path / "out", overlap=3).run(progress)
    assert not [p for p in (tmp_path / "out").iterdir() if p.name.startswith(".")]
    assert not (tmp_path / "out" / "summary.csv").exists()
    assert 1 <= detect(data, tmp_path / "out", overlap=3, skip_existing=True).run()["skipped"] < 5
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")


@pytest.mark.long
@pytest.mark.parametrize("count", [0, 1, 4, 8, 14])
def test_a_run_that_is_killed_goes_on_to_the_same_bytes(data, tmp_path, count):
    detect(data, tmp_path / "whole", overlap=1).run()
    job = detect(data, tmp_path / "out", overlap=3)
    (tmp_path / "job.json").write_text(json.dumps({"job": "detect", **asdict(job)}))
    assert killed_after(count, tmp_path / "job.json")
    again = replace(job, skip_existing=True).run()
    assert again["skipped"] <= count // 3
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")


@pytest.fixture
def with_poison(data, tmp_path, monkeypatch):
    """The inputs, and one that kills the process that reads it."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FAULTS), *sys.path]))
    (tmp_path / "poison.nii").write_bytes((data / "in" / "c0.nii").read_bytes())
    return [data / "in", tmp_path / "poison.nii"]


@pytest.mark.long
def test_what_kills_a_worker_is_found_among_what_it_had_at_once(data, tmp_path, with_poison):
    """Even without retries: what only was there when the process died is not what killed it."""
    detect(data, tmp_path / "whole", *with_poison[:1], overlap=1).run()
    spread = {"workers": 1, "overlap": 4, "retries": 0}
    result = detect(data, tmp_path / "out", *with_poison, **spread).run()
    assert (result["cases"], sorted(result["failed_ids"])) == (7, ["broken", "poison"])
    found, whole = bytes_of(tmp_path / "out"), bytes_of(tmp_path / "whole")
    assert b"WorkerDied" in found.pop("summary.csv") and whole.pop("summary.csv") and found == whole


@pytest.mark.long
def test_a_worker_has_several_cases_at_once_as_soon_as_its_model_is_there(data, tmp_path, monkeypatch):
    handed, give = [], processes.Run._give

    def watched(self, worker, item):
        give(self, worker, item)
        handed.append((worker.loaded, len(worker.items)))

    monkeypatch.setattr(processes.Run, "_give", watched)
    detect(data, tmp_path / "whole", overlap=1).run()
    assert detect(data, tmp_path / "out", workers=2, overlap=3).run()["failed"] == 1
    assert max(items for _, items in handed) == 3 and all(items == 1 for loaded, items in handed if not loaded)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")


@pytest.mark.parametrize("wrong", [{"time_out": 9.0}, {"executor": "dask"}])
def test_what_does_not_go_with_several_at_once_is_said(data, tmp_path, wrong):
    with pytest.raises(UsageError, match="overlap 2 and .*; leave out"):
        detect(data, tmp_path / "out", overlap=2, **wrong).run()
    assert {detect(data, tmp_path, **alone).at_once() for alone in ({"workers": 2}, {"time_out": 9.0}, {})} == {1}


def test_a_card_gets_more_volumes_at_once_than_a_cpu(data, tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "cores", lambda: 16)
    monkeypatch.setattr(devices, "choose_device", lambda name: name)
    assert [devices.volumes_at_once(name) for name in ("cpu", "cuda", "cuda:1", "mps")] == [1, 4, 4, 4]
    monkeypatch.setattr(devices, "cores", lambda: 2)
    assert devices.volumes_at_once("cuda") == 2
    assert detect(data, tmp_path, overlap=7, device="cuda").at_once() == 7


def test_large_volumes_are_scored_one_after_the_other(data, tmp_path, monkeypatch):
    from ZSADCLIPLib.detection.detector import Detector

    inner, under_way, most = Detector.detect, [], []

    def watched(self, *all):
        under_way.append(1)
        most.append(len(under_way))
        try:
            return inner(self, *all)
        finally:
            under_way.pop()

    monkeypatch.setattr(Detector, "detect", watched)
    monkeypatch.setattr(sharing_module, "VOXELS", 100)
    assert detect(data, tmp_path, overlap=4).run()["failed"] == 1
    assert set(most) == {1} and len(most) == 5
