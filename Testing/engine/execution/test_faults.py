"""Full disks, read-only folders, shares that go and come back, damage in the middle: a clear error, or the right go on."""

import errno
import hashlib
import json
import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from ZSADCLIPLib.backbones import textcache
from ZSADCLIPLib.benchmark import rowfolder
from ZSADCLIPLib.detection import case as detect_case
from ZSADCLIPLib.detection.caserun import is_lost
from ZSADCLIPLib.detection.inputs import Case
from ZSADCLIPLib.detection.outputs import check_space
from ZSADCLIPLib.detection.pictures import montage
from ZSADCLIPLib.detection.summary import settler
from ZSADCLIPLib.errors import InputError, OutputError
from ZSADCLIPLib.files import atomic
from ZSADCLIPLib.files.atomic import atomic_path, clear_temporaries
from ZSADCLIPLib.files.digests import content_hash, is_intact, seal
from ZSADCLIPLib.files.locks import NAME, folder_lock, is_held
from ZSADCLIPLib.files.text import write_csv, write_json, write_text
from ZSADCLIPLib.jobs.detect import Detect
from ZSADCLIPLib.neighbours.storing import write_arrays
from ZSADCLIPLib.training import fit
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.reading import write_map, write_volume

VOLUME = Volume(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4))
WRITERS = {
    "a.nii.gz": lambda p: write_volume(p, VOLUME),
    "a.nii": lambda p: write_volume(p, VOLUME),
    "a.nrrd": lambda p: write_volume(p, VOLUME),
    "a.json": lambda p: write_json(p, {"a": 1}),
    "a.csv": lambda p: write_csv(p, [{"a": 1}]),
    "a.txt": lambda p: write_text(p, "a"),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_writer_that_fails_leaves_the_old_file(tmp_path, monkeypatch, name, call, code):
    path = tmp_path / name
    path.write_bytes(b"old")

    def fail(*_, **__):
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(atomic.os, call, fail)
    with pytest.raises(OutputError) as caught:
        WRITERS[name](path)
    assert name in str(caught.value) and str(tmp_path) not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == [name] and path.read_bytes() == b"old"


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 kB."""
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "zsadclip-test", str(small)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs root to mount a small disk")
    try:
        yield small
    finally:
        subprocess.run(["umount", str(small)], check=True)


def random_values(*shape):
    return np.random.default_rng(0).random(shape, np.float32)


def training_state(path):
    layer = torch.nn.Linear(300, 300)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    fit._save(path.parent, layer, torch.optim.AdamW(layer.parameters()), scaler, "identity", [{"epoch": 1}], {})


BIG = Volume((random_values(60, 60, 40) * 30000).astype(np.int16), np.eye(4))
TOO_MUCH = {
    **dict.fromkeys(("a.nii", "a.nii.gz", "a.nrrd", "a.mha"), lambda p: write_volume(p, BIG)),
    "map.nii.gz": lambda p: write_map(p, BIG.with_array(random_values(60, 60, 40)), "int16"),
    "a.safetensors": lambda p: write_arrays(p, {"a": random_values(40000)}, {}),
    "a.npz": lambda p: rowfolder._write_arrays(p, {"a": random_values(40000)}),
    "last.pt": training_state,
    "a.png": lambda p: montage(p, np.zeros((4, 200, 200), np.uint8), random_values(4, 200, 200)),
    "a.json": lambda p: write_json(p, ["x" * 100] * 2000),
    "a.csv": lambda p: write_csv(p, [{"a": "x" * 100}] * 2000),
    "a.txt": lambda p: write_text(p, "x" * 200000),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_a_full_disk_leaves_nothing_half_written(small_disk, name):
    empty = os.statvfs(small_disk).f_bfree
    with pytest.raises(OutputError, match=rf"cannot write {name}: No space left on device; free some space") as caught:
        TOO_MUCH[name](small_disk / name)
    assert not list(small_disk.iterdir())
    # Also while somebody holds the error, and with it what the library had opened.
    assert os.statvfs(small_disk).f_bfree == empty and caught.value is not None
    write_volume(small_disk / "y.nii.gz", VOLUME)
    with pytest.raises(OutputError, match="MB left"):
        check_space(small_disk, 10**6)


def test_texts_are_not_kept_on_a_full_disk_and_the_run_goes_on(small_disk, monkeypatch):
    monkeypatch.setenv("ZSADCLIP_TEXT_CACHE", str(small_disk / "texts"))
    textcache.remember("key", torch.zeros(100, 300))
    assert textcache.recall("key", (100, 300)) is None and not list((small_disk / "texts").iterdir())
    textcache.remember("key", torch.ones(2, 300))
    assert torch.equal(textcache.recall("key", (2, 300)), torch.ones(2, 300))


@pytest.mark.parametrize("error", [ZeroDivisionError, InputError, RuntimeError])
def test_an_error_that_is_not_the_disks_stays_what_it_is(tmp_path, error):
    with pytest.raises(error, match="^mine$"), atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("x")
        raise error("mine")
    assert not list(tmp_path.iterdir())


def test_what_killed_writers_left_is_cleared_but_nothing_else(tmp_path):
    ours = [".a_anomaly.0123456789ab.tmp.nii.gz", ".a.0123456789ab.tmp.json"]
    others = [".b.0123456789ab.tmp.png", ".a.tmp.json", "a.json", ".a.0123456789AB.tmp.json"]
    for name in ours + others:
        (tmp_path / name).write_text("x")
    assert clear_temporaries(tmp_path, lambda name: name in ("a.json", "a_anomaly.nii.gz")) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(others)
    assert clear_temporaries(tmp_path / "gone", lambda name: True) == 0


def test_a_share_that_refuses_modes_can_be_written_to(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    with atomic_path(tmp_path / "a.txt") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "a.txt").read_text("utf-8") == "x"


def test_a_temporary_name_is_recognised_as_such(tmp_path):
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / ("é" * 110 + ".nii.gz")) as temporary:
        assert atomic.TEMPORARY.fullmatch(temporary.name) and len(temporary.name.encode()) < 255
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_seals_notice_every_change_but_not_the_time(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"1234")
    sealed = json.loads(json.dumps(seal([path])))
    os.utime(path, (0, 0))
    assert is_intact(tmp_path, sealed) and content_hash(path) == sealed["a"]["sha256"]
    for content in (b"1235", b"123", b"12345"):
        path.write_bytes(content)
        assert not is_intact(tmp_path, sealed)
    assert not is_intact(tmp_path, {"a": {}}) and not is_intact(tmp_path, {"gone": sealed["a"]})


def test_a_lock_ends_with_its_process(tmp_path):
    code = "import os; from ZSADCLIPLib.files.locks import folder_lock\n"
    code += f"with folder_lock({str(tmp_path)!r}): os.kill(os.getpid(), 9)"
    assert subprocess.run([os.sys.executable, "-c", code], cwd=Path(__file__).parents[3]).returncode == -9
    assert (tmp_path / NAME).exists()
    with folder_lock(tmp_path):
        assert is_held(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/self").exists(), reason="no /proc to try")
def test_a_folder_that_cannot_be_written_is_said_before_any_work(tmp_path):
    volume = tmp_path / "a.nii"
    write_volume(volume, VOLUME)
    (tmp_path / "file").write_text("x")
    for out in (tmp_path / "file" / "out", Path("/proc/self/out")):
        with pytest.raises(OutputError, match="choose another"):
            Detect((str(volume),), str(out)).run()


class Recorder:
    """A detector that works, once the share is there."""

    def __init__(self, error, times):
        self.error, self.times, self.calls = error, times, 0

    def detect(self, *_):
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        raise ZeroDivisionError("got here")


@pytest.fixture
def one(tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    write_volume(tmp_path / "in" / "DOE" / "a.nii", VOLUME)
    job = Detect(("x",), str(tmp_path / "out"), patience=60.0)

    def run(detector, lock=True):
        item = {"id": "a", "image": str(tmp_path / "in" / "DOE" / "a.nii"), "mask": None, "settings": job.key}
        if not lock:
            return detect_case.run_case(job.case_run, lambda: detector, item, lambda *_: None)
        with folder_lock(job.output) as item["run"]:
            return detect_case.run_case(job.case_run, lambda: detector, item, lambda *_: None)

    run.job, run.folder = job, tmp_path
    return run


def test_a_share_that_comes_back_is_waited_for(one):
    detector = Recorder(OSError(errno.ESTALE, "Stale file handle"), 3)
    assert one(detector)["error"] == "Unexpected: ZeroDivisionError: got here" and detector.calls == 4


def test_an_output_that_comes_back_is_waited_for(one, monkeypatch):
    out, away, naps = Path(one.job.output), one.folder / "away", []

    def sleep(seconds):
        naps.append(seconds)
        if len(naps) == 3:
            away.rename(out)

    class Mover(Recorder):
        def detect(self, *_):
            if not self.calls:
                out.rename(away)
            return super().detect()

    monkeypatch.setattr(time, "sleep", sleep)
    detector = Mover(ValueError("the share went away meanwhile"), 1)
    assert one(detector)["error"] == "Unexpected: ZeroDivisionError: got here" and len(naps) == 3


def test_a_lock_that_nobody_else_may_read_is_held(tmp_path, monkeypatch):
    """As on a CIFS share, whose locks hold up every other reader."""
    with folder_lock(tmp_path) as token:
        monkeypatch.setattr(
            Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(PermissionError(errno.EACCES, "no"))
        )
        assert is_held(tmp_path, token)


def test_a_marker_stays_while_results_of_other_settings_are_there(tmp_path):
    job = Detect(("x",), str(tmp_path), compress=False)
    (tmp_path / "a_mask.nii.gz").write_text("x")
    for left in (1, 0):
        with pytest.raises(OutputError), detect_case._begun(job.case_run, Case("a", tmp_path / "a.nii")):
            raise OutputError("full")
        assert (tmp_path / ".a.unfinished").exists() == left
        (tmp_path / "a_mask.nii.gz").unlink(missing_ok=True)


def test_a_share_that_stays_away_is_given_up(one, monkeypatch):
    ticks = iter(range(0, 1000, 2))
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks))
    row = one(Recorder(OSError(errno.EIO, "Input/output error"), 99))
    assert row["status"] == "failed" and "Input/output error" in row["error"]


def test_an_output_folder_that_vanishes_is_not_made_anew(one, monkeypatch):
    ticks = iter(range(0, 1000, 2))
    monkeypatch.setattr(time, "monotonic", lambda: next(ticks))
    row = one(Recorder(None, 0), lock=False)
    assert row["unwritable"] and "is its share still connected" in row["error"] and not Path(one.job.output).exists()


def test_lost_shares_and_removed_files_are_told_apart(tmp_path):
    out, folder = tmp_path / "out", tmp_path / "in"
    folder.mkdir()

    def held():
        return is_held(out)

    with folder_lock(out):
        assert is_lost(None, folder / "a.nii", held)  # an empty mount point
        (folder / "b.nii").write_text("x")
        assert not is_lost(FileNotFoundError(errno.ENOENT, "gone"), folder / "a.nii", held)
        assert is_lost(ValueError(), tmp_path / "nowhere" / "a.nii", held)
    assert is_lost(None, folder / "b.nii", held)


def test_errors_of_a_case_name_no_folder(one):
    row = one(Recorder(RuntimeError(f"bad file {one.folder}/in/DOE/a.nii in /usr/lib/x/y.py"), 1))
    assert row["error"] == "Unexpected: RuntimeError: bad file a.nii in y.py"


def test_unwritable_cases_end_a_run():
    settle = settler(type("T", (), {"kept": 0, "put": lambda *a: None})(), lambda event: None)
    row = {"id": "a", "status": "failed", "error": "OutputError: disk full", "unwritable": True}
    settle(0, dict(row))
    settle(1, {**row, "unwritable": False})
    settle(2, dict(row))
    settle(3, dict(row))
    with pytest.raises(OutputError, match="nothing can be written"):
        settle(4, dict(row))


def test_an_input_is_known_by_its_content_and_not_by_the_clock(one):
    case = Case("a", one.folder / "in" / "DOE" / "a.nii")
    content, found = case.image.read_bytes(), []
    for data, stamp in ((content, 2**31), (content, 0), (content[:-1] + b"\xff", 0)):
        case.image.write_bytes(data)
        os.utime(case.image, (stamp, stamp))
        found.append(detect_case._inputs(case))
    assert found[0] == found[1] == {"image": hashlib.sha256(content).hexdigest()}
    assert set(found[2]) == {"image"} and found[2] != found[0]


def test_a_folder_that_cannot_be_listed_is_said(tmp_path, monkeypatch):
    from ZSADCLIPLib.detection.inputs import expand_inputs
    from ZSADCLIPLib.errors import InputError

    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_volume(tmp_path / name / f"{name}.nii", VOLUME)
    scan = os.scandir

    def stale(path):
        if Path(path).name == "two":
            raise OSError(errno.ESTALE, "Stale file handle", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", stale)
    with pytest.raises(InputError, match="cannot read a folder below .*: Stale file handle") as caught:
        expand_inputs(tmp_path)
    assert "two" not in str(caught.value).replace(str(tmp_path), "")
    for given in ({"inputs": tmp_path / "two"}, {"inputs": tmp_path, "keep_identifiers": True}):
        with pytest.raises(InputError, match="cannot read the folder .*two: Stale file handle"):
            expand_inputs(**given)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_holds_nothing_up(tmp_path):
    from ZSADCLIPLib.detection.inputs import expand_inputs
    from ZSADCLIPLib.errors import InputError

    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="holds no volume"):
        expand_inputs(tmp_path)


def test_many_equal_names_take_no_square_of_them():
    from ZSADCLIPLib.detection.inputs import _unique

    cases = [Case("t2", Path(f"/{n}/anat/t2.nii")) for n in range(20_000)]
    named = _unique(cases, keep_identifiers=False)
    assert len({case.id for case in named}) == len(named) and named[1].id.endswith("-2")
