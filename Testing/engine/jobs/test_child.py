"""The child process: JSON lines, cancelling, and what happens when the parent dies."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from small_models import VIT

from ZSADCLIPLib.backbones.base import Backbone
from ZSADCLIPLib.jobs import child
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.reading import write_volume


@pytest.fixture
def job(tmp_path):
    (tmp_path / "tiny.json").write_text(json.dumps(VIT))
    rng = np.random.default_rng(1)
    array = rng.integers(1, 500, (40, 40, 60)).astype(np.int16)
    write_volume(tmp_path / "a.nii", Volume(array, np.eye(4)))
    data = {
        "job": "detect",
        "inputs": [str(tmp_path / "a.nii")],
        "output": str(tmp_path / "out"),
        "backbone": str(tmp_path / "tiny.json"),
        "weights": "random",
        "checkpoint": "vand:random",
        "image_size": 64,
        "batch_size": 1,
        "device": "cpu",
        "pictures": False,
        "compress": False,
    }

    def write(**changes):
        path = tmp_path / "job.json"
        path.write_text(json.dumps(data | changes))
        return path

    return write


def start(path):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "ZSADCLIPLib", "run", str(path)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment)


def events(text):
    return [json.loads(line) for line in text.splitlines()]


def test_a_run_speaks_json_lines(job, tmp_path):
    process = start(job())
    out = process.stdout.read()
    assert process.wait(600) == 0
    spoken = events(out)
    assert spoken[0]["event"] == "started" and spoken[0]["pid"] == process.pid
    assert spoken[-1] == {"event": "result", "cases": 1, "failed": 0, "skipped": 0, "output": str(tmp_path / "out")}
    fractions = [e["fraction"] for e in spoken if e["event"] == "progress"]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert any(e.get("total") == 60 and e["eta"] is not None for e in spoken if e["event"] == "progress")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a_anomaly.nii", "a_mask.nii", "a.json", "summary.csv"}


@pytest.mark.long
@pytest.mark.parametrize("how", ["cancel", "parent gone"])
def test_cancelling(job, tmp_path, how):
    process = start(job(image_size=240))
    while json.loads(process.stdout.readline())["event"] != "progress":
        pass
    if how == "cancel":
        process.stdin.write("cancel\n")
        process.stdin.flush()
    else:
        process.stdin.close()
    assert process.wait(600) == 130
    assert events(process.stdout.read())[-1] == {"event": "cancelled"}
    out = tmp_path / "out"
    assert not out.exists() or not list(out.iterdir())


def test_errors_are_events(job):
    for changes, kind, words in (
        ({"method": "magic"}, "UsageError", "magic"),
        ({"inputs": ["/nowhere.nii"]}, "InputError", "nowhere"),
        ({"colour": 1}, "UsageError", "no field 'colour'"),
    ):
        process = start(job(**changes))
        spoken = events(process.stdout.read())
        assert process.wait(600) == 1
        assert spoken[-1]["event"] == "error" and spoken[-1]["kind"] == kind and words in spoken[-1]["message"]


def test_at_most_one_batch_is_scored_after_a_cancel(job, monkeypatch):
    hear, spoken, scored = [], [], []
    encode = Backbone.encode_image

    def emit(event):
        spoken.append(event)
        if event.get("done") == 3:
            scored.clear()
            hear[0](io.StringIO("cancel\n"))

    def counted(self, images, **options):
        scored.append(len(images))
        return encode(self, images, **options)

    monkeypatch.setattr(child, "listen", hear.append)
    monkeypatch.setattr(child, "take_output", lambda: emit)
    monkeypatch.setattr(Backbone, "encode_image", counted)
    assert child.run(str(job())) == 130
    assert spoken[-1] == {"event": "cancelled"} and scored in ([], [1])


@pytest.mark.parametrize("platform", ["win32", "linux"])
def test_on_windows_libraries_are_loaded_before_a_thread_waits_for_input(platform):
    """Loading them afterwards would wait for that input (numpy issue 24290)."""
    code = (
        "import sys\nimport ZSADCLIPLib.jobs.child as child, ZSADCLIPLib.jobs.lines as lines\n"
        "early = sys.version_info < (3, 11)  # SciPy for it loads its algebra with its image functions\n"
        "assert early or 'scipy.linalg' not in sys.modules\n"
        "sys.modules.pop('scipy.linalg', None)\n"
        f"lines.sys = type('sys', (), {{'platform': '{platform}', 'stdin': None}})\n"
        "class Stop(Exception): pass\n"
        "def thread(**options):\n    print('scipy.linalg' in sys.modules, file=sys.stderr)\n    raise Stop\n"
        "child.threading.Thread = thread\nchild.run('none.json')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[0] == str(platform == "win32"), done.stderr
