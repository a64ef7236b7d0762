"""The child process: progress, cancelling, errors, and that nothing survives."""

import json
import os
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from slicer_cases import fake, head
from slicer_harness import ROOT
from small_models import VIT

pytest_plugins = ["slicer_fixtures"]


def gone(pid, seconds=300.0):
    """True when a process ended within some seconds, which only one that never ends takes."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def follow(run, until, seconds=300):
    events, end = [], time.monotonic() + seconds
    while not until(run, events):
        assert time.monotonic() < end, "the run did not get there"
        events += run.poll()
        time.sleep(0.005)
    return events


def test_progress_tells_slices_and_time(logic):
    run = logic.process(head(), wait=False, command=fake())
    events = follow(run, lambda r, e: r.done)
    assert run.result is not None
    assert [e["done"] for e in events] == [0, 1, 2, 3] and events[0]["total"] == 4
    assert gone(run.childPid)


def test_cancel_is_answered_by_the_child_itself(logic):
    import slicer
    from ZSADCLIPSlicer.engine.process import GRACE_SECONDS

    before = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") + 1
    run = logic.process(head(), wait=False, command=fake("slow"))
    follow(run, lambda r, e: e)
    assert run._child.grace == GRACE_SECONDS < 1
    run._child.grace = 10_000.0  # it is not ended before it can answer, however busy the machine is
    run.cancel()
    follow(run, lambda r, e: r.done)
    assert run.cancelled and run.result is None and run.error is None
    assert gone(run.childPid)
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == before


def test_a_deaf_child_is_ended_with_its_own_children_after_the_grace(logic, monkeypatch):
    from ZSADCLIPSlicer.engine import process

    run = logic.process(head(), wait=False, command=fake("deaf"))
    events = follow(run, lambda r, e: e)
    grandchild = int(events[0]["text"].split()[-1])
    assert psutil.pid_exists(grandchild)
    clock = [0.0]
    monkeypatch.setattr(process, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=time.sleep))
    run.cancel()
    clock[0] = process.GRACE_SECONDS - 0.01
    run.poll()
    assert not run.done and psutil.pid_exists(grandchild)
    clock[0] = process.GRACE_SECONDS + 0.01
    run.poll()
    assert run.done and run.cancelled
    assert gone(run.childPid) and gone(grandchild)


def test_progress_callback_may_cancel(logic):
    from ZSADCLIPLib.progress import Cancelled

    def stop(fraction, text):
        raise Cancelled("enough")

    with pytest.raises(Cancelled):
        logic.process(head(), command=fake("slow"), progress=stop)


def test_crash_shows_its_cause(logic):
    from ZSADCLIPSlicer.engine.run import EngineError

    with pytest.raises(EngineError, match="code 3.*no module named wonder") as caught:
        logic.process(head(), command=fake("crash"))
    assert any("wonder" in line for line in caught.value.log)


def test_a_missing_package_says_where_to_look(logic):
    from ZSADCLIPSlicer.engine.run import EngineError

    with pytest.raises(EngineError, match="wonder.*health check"):
        logic.process(head(), command=fake("missing"))


@pytest.mark.parametrize("place", ["_read", "_store"])
@pytest.mark.parametrize("error", [AttributeError("wonder"), MemoryError()])
def test_a_result_that_cannot_be_taken_over_ends_the_run(logic, monkeypatch, place, error):
    """Whatever goes wrong, the run ends, so that the panel is not left with 'Cancel' for ever."""
    from ZSADCLIPSlicer.engine.run import EngineRun

    def fails(*_):
        raise error

    monkeypatch.setattr(EngineRun, place, fails)
    run = logic.process(head(), wait=False, command=fake())
    follow(run, lambda r, e: r.done)
    assert (str(error) or "MemoryError") in str(run.error)
    assert any("Traceback" in line for line in run.log)


def test_nothing_half_made_stays_in_the_scene(logic, monkeypatch):
    import slicer
    from ZSADCLIPSlicer.scene.results import ResultNodes

    node, classes = head(), ("ScalarVolume", "Segmentation", "Table", "PlotChart", "PlotSeries")
    count = lambda: [slicer.mrmlScene.GetNumberOfNodesByClass(f"vtkMRML{name}Node") for name in classes]  # noqa: E731
    before = count()
    monkeypatch.setattr(ResultNodes, "refresh", lambda self: np.zeros(1) @ np.zeros(2))
    run = logic.process(node, wait=False, command=fake())
    follow(run, lambda r, e: r.done)
    assert run.error is not None and count() == before


def test_windows_ends_the_tree_without_a_console_window_and_waits_no_longer_than_it_must(slicer_env, monkeypatch):
    import types

    from ZSADCLIPSlicer.engine import process

    def wait(seconds):
        raise subprocess.TimeoutExpired("child", seconds)

    calls = []
    monkeypatch.setattr(process, "os", types.SimpleNamespace(name="nt"))
    monkeypatch.setattr(process.subprocess, "run", lambda command, **options: calls.append((command, options)))
    process._endTree(types.SimpleNamespace(pid=123, poll=lambda: None, wait=wait))
    ((command, options),) = calls
    assert command[0] == "taskkill" and "123" in command and "creationflags" in options


def test_a_download_is_stopped(slicer_env):
    import slicer
    from ZSADCLIPSlicer.engine.download import Fetch

    for stop in (Fetch.cancel, Fetch.abort):
        fetch = Fetch("PMC-CLIP", command=fake("slow"))
        fetch.start()
        while fetch.poll()[0] == 0:
            time.sleep(0.01)
        pid, fetch._child.grace = fetch._child.pid, 10_000.0
        stop(fetch)
        assert fetch.done or stop is Fetch.cancel
        while not fetch.done:
            fetch.poll()
        assert fetch.error == "" and gone(pid)
    assert not [name for name in os.listdir(slicer.app.temporaryPath) if name.startswith("ZSADCLIP-")]


def test_unreadable_result_is_an_error(logic):
    from ZSADCLIPSlicer.engine.run import EngineError

    with pytest.raises(EngineError, match="cannot be read"):
        logic.process(head(), command=fake("broken"))


def test_short_memory_falls_back_to_single_slices(logic):
    run = logic.process(head(), wait=False, command=fake("memory"))
    result = run.wait()
    assert '"batch_size": 1' in result.attribute("Settings")
    assert "one slice" in run.notes[0]


def test_memory_that_stays_short_is_reported(logic):
    run = logic.process(head(), wait=False, command=fake("memory-always"))
    follow(run, lambda r, e: r.done)
    assert run.error.cpuMayHelp and run.settings.batch_size == 1


def test_a_second_try_that_cannot_start_ends_the_run(logic):
    commands = iter([fake("memory"), lambda job: ["/no/python", str(job)]])
    run = logic.process(head(), wait=False, command=lambda job: next(commands)(job))
    follow(run, lambda r, e: r.done)
    assert "/no/python" in str(run.error)


def test_result_for_a_deleted_volume_is_dropped(logic):
    import slicer

    node = head()
    run = logic.process(node, wait=False, command=fake("slow"))
    follow(run, lambda r, e: e)
    slicer.mrmlScene.RemoveNode(node)
    run.abort()
    assert run.dropped and gone(run.childPid)
    second = head()
    run = logic.process(second, wait=False, command=fake())
    slicer.mrmlScene.RemoveNode(second)
    follow(run, lambda r, e: r.done)
    assert run.dropped and run.result is None


def test_temporary_files_are_removed(logic):
    import slicer

    logic.process(head(), command=fake())
    assert not [name for name in os.listdir(slicer.app.temporaryPath) if name.startswith("ZSADCLIP-")]


def test_lines_may_arrive_in_pieces(slicer_env):
    from ZSADCLIPSlicer.engine.process import ChildProcess

    script = (
        "import sys, time\n"
        'line = \'{"event": "progress", "fraction": 0.5, "text": "Größe 1"}\\n\'.encode()\n'
        "for n in range(0, len(line), 3):\n"
        "    sys.stdout.buffer.write(line[n:n+3]); sys.stdout.flush(); time.sleep(0.002)\n"
        "print('noise'); print('{\"event\": \"result\"}')"
    )
    child = ChildProcess([sys.executable, "-u", "-c", script], dict(os.environ))
    child.start()
    events, end = [], time.monotonic() + 300
    while child.running and time.monotonic() < end:
        events += child.poll()
    assert [e["event"] for e in events] == ["progress", "result"]
    assert events[0]["text"] == "Größe 1" and "noise" in child.log


@pytest.mark.long
@pytest.mark.skipif(os.name != "posix", reason="ends a process by a signal")
def test_the_engines_child_ends_when_its_parent_is_killed(slicer_env, tmp_path):
    from ZSADCLIPSlicer.engine.process import childCommand, childEnvironment

    from ZSADCLIPLib.volume import Volume
    from ZSADCLIPLib.volumes.reading import write_volume

    (tmp_path / "tiny.json").write_text(json.dumps(VIT), encoding="utf-8")
    image = np.zeros((64, 64, 400), np.int16)
    image[4:-4, 4:-4, 4:-4] = np.random.default_rng(0).integers(1, 500, (56, 56, 392))
    write_volume(tmp_path / "a.nii", Volume(image, np.eye(4)))
    job = {"job": "detect", "inputs": [str(tmp_path / "a.nii")], "output": str(tmp_path / "out"), "image_size": 240}
    job |= {"backbone": str(tmp_path / "tiny.json"), "weights": "random", "checkpoint": "vand:random", "batch_size": 1}
    (tmp_path / "job.json").write_text(json.dumps(job), encoding="utf-8")
    parent = (
        "import sys, time, slicer\n"
        f"slicer.__path__.append({str(ROOT / 'Testing' / 'support' / 'standins' / 'slicerbase')!r})\n"
        "from ZSADCLIPSlicer.engine.process import ChildProcess\n"
        f"child = ChildProcess({childCommand(tmp_path / 'job.json', sys.executable)!r}, {childEnvironment(ROOT)!r})\n"
        "child.start()\n"
        "while not any(e.get('done') for e in child.poll()): time.sleep(0.01)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(3600)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "ZSADCLIP")])}
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, env=environment)
    child = int(process.stdout.readline())
    assert not gone(child, 0.1)
    process.kill()
    process.wait()
    assert gone(child)


def test_words_for_short_memory(slicer_env):
    from ZSADCLIPSlicer.engine.process import isOutOfMemory

    for message in ("CUDA out of memory.", "MPS backend out of memory", "DefaultCPUAllocator: can't allocate memory",
                    "DefaultCPUAllocator: not enough memory: you tried", "std::bad_alloc", "MemoryError"):  # fmt: skip
        assert isOutOfMemory(message), message
    assert not isOutOfMemory("no module named wonder")


@pytest.mark.skipif(os.name != "posix", reason="the system ends a process by a signal")
def test_a_child_that_the_system_ended_says_so_and_the_cpu_is_no_way_out(logic):
    command = [sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"]
    run = logic.process(head(), wait=False, command=lambda job: command)
    follow(run, lambda r, e: r.done)
    assert "out of memory" in str(run.error) and "smaller model" in str(run.error)
    assert run.settings.batch_size == 1 and not run.error.cpuMayHelp


def test_another_interpreter_gets_a_clean_environment(logic, tmp_path):
    """Slicer's own paths would break it; one that cannot be started is named."""
    from ZSADCLIPSlicer.engine.settings import RunSettings

    from ZSADCLIPLib.errors import InputError

    seen = tmp_path / "seen.json"
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nenv > '{seen}'\n", encoding="utf-8")
    python.chmod(0o755)
    os.environ["PYTHONHOME_OF_SLICER"] = "/slicer"
    try:
        run = logic.start(head(), RunSettings(), python=str(python))
        follow(run, lambda r, e: r.done)
    finally:
        del os.environ["PYTHONHOME_OF_SLICER"]
    text = seen.read_text(encoding="utf-8")
    assert f"PYTHONPATH={ROOT}\n" in text and "PYTHONUTF8=1" in text and "OF_SLICER" not in text
    with pytest.raises(InputError, match="/no/python.*Advanced"):
        logic.start(head(), RunSettings(), python="/no/python")
    assert not [name for name in os.listdir(run._folder.parent) if name.startswith("ZSADCLIP-")]
