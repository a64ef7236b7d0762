"""The scripts' environment: every installed file is held against the pinned hashes before anything of it runs."""

import importlib.machinery
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "make" / "lock"


@pytest.fixture(scope="module")
def lock():
    loader = importlib.machinery.SourceFileLoader("lock_script", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("lock_script", loader))
    loader.exec_module(module)
    return module


def item(name, digest, url="https://files.example/x.whl", version="1.0"):
    download = {"url": url, "archive_info": {"hashes": {"sha256": digest} if digest else {}}}
    return {"metadata": {"name": name, "version": version}, "download_info": download}


def checked(lock, tmp_path, *items):
    (tmp_path / "report.json").write_text(json.dumps({"install": list(items)}))
    command = [sys.executable, str(SCRIPT), "--check", str(tmp_path / "report.json")]
    return subprocess.run(command, capture_output=True, text=True)


def test_files_are_held_against_the_lock(lock, tmp_path):
    known = lock.read(lock.LOCK)
    right = sorted(known["nibabel"][1])[0]
    project = {"metadata": {"name": "zsadclip", "version": "0"}, "download_info": {"url": "file:///x", "dir_info": {}}}
    good = checked(lock, tmp_path, item("NiBabel", right), project)
    assert (good.returncode, good.stderr) == (0, "")
    for digest in ("0" * 64, ""):
        bad = checked(lock, tmp_path, item("nibabel", digest))
        assert bad.returncode == 1 and "nibabel 1.0: SHA-256" in bad.stderr and (digest or "none stated") in bad.stderr
    other = checked(lock, tmp_path, item("nibabel", "0" * 64, "file:///mirror/x.whl"), item("colorama", "1" * 64))
    assert other.returncode == 0
    assert "a local file, not that of the index: nibabel" in other.stderr
    assert "not in requirements.lock (another system or Python): colorama" in other.stderr


def test_the_lock_holds_every_pinned_package_with_its_version(lock):
    known = lock.read(lock.LOCK)
    pinned = re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.M)
    assert len(pinned) > 80
    missing = {
        lock.normal(name) for name, version in pinned if version not in known.get(lock.normal(name), ("",))[0].split()
    }
    assert not missing
    assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for _, hashes in known.values() for digest in hashes)
    assert {"torch", "numpy", "open-clip-torch", "slicer-core"} <= set(known)


def test_wheels_are_told_from_those_of_other_pythons(lock):
    for name, fits in (
        ("numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.whl", True),
        ("psutil-7.2.2-cp36-abi3-manylinux2010_x86_64.whl", True),
        ("dask-2026.8.0-py3-none-any.whl", True),
        ("numpy-2.4.6-cp313-cp313-manylinux_2_27_x86_64.whl", False),
        ("numpy-2.4.6-pp311-pypy311_pp73-manylinux_2_27_x86_64.whl", False),
        ("numpy-2.4.6.tar.gz", False),
    ):
        assert bool(lock.WHEEL.search(name)) == fits, name
