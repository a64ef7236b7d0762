"""The scripts' environment: every installed file is held against the pinned hashes before anything of it runs."""

import importlib.machinery
import importlib.util
import json
import os
import re
import shutil
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
    other = checked(lock, tmp_path, item("nibabel", "0" * 64, "file:///mirror/x.whl"), item("pywin32", "1" * 64))
    assert other.returncode == 0
    assert "not that of the lock's index: nibabel" in other.stderr
    assert "not in requirements.lock (another system or Python): pywin32" in other.stderr


def test_cpu_builds_of_torch_alone_may_be_others_than_the_lock_s(lock, tmp_path):
    version = lock.read(lock.LOCK)["torch"][0].split()[-1]
    good = checked(lock, tmp_path, item("torch", "2" * 64, version=f"{version}+cpu"))
    assert good.returncode == 0 and f"CPU build, not that of the lock's index: torch {version}+cpu" in good.stderr
    for name, other in (("torch", f"{version}+evil"), ("torch", "0.1+cpu"), ("numpy", f"{version}+cpu")):
        assert checked(lock, tmp_path, item(name, "2" * 64, version=other)).returncode == 1


PYTHON = """#!/bin/bash
echo "$*" >> "{log}"
[[ "$*" == *+cpu* ]] && [ "$CPU_BUILD" != 1 ] && exit 1
while [ $# -gt 0 ]; do [ "$1" = --report ] && echo '{{"install": []}}' > "$2"; shift; done
exit 0
"""


@pytest.mark.skipif(
    sys.platform != "linux"
    or os.uname().machine != "x86_64"
    or bool(shutil.which("nvidia-smi"))
    or Path("/proc/driver/nvidia/version").exists(),
    reason="CUDA comes with torch on such machines alone, and this one must have no GPU",
)
@pytest.mark.parametrize("gpu, build", [(False, True), (False, False), (True, True)])
def test_without_a_gpu_the_cpu_build_is_tried_and_the_rest_goes_on(gpu, build, tmp_path):
    for name in (
        "constraints.txt",
        "requirements.lock",
        "pyproject.toml",
        "scripts/make/environment",
        "scripts/make/lock",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    programs = {".venv/bin/python": PYTHON.format(log=tmp_path / "log")} | (
        {"bin/nvidia-smi": "#!/bin/sh\n"} if gpu else {}
    )
    for name, text in programs.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHON": sys.executable, "CPU_BUILD": str(int(build))}
    environment.pop("ZSADCLIP_CUDA", None)
    command = ["bash", "-c", f"source {tmp_path}/scripts/make/environment"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and (tmp_path / ".venv" / ".ready").is_file(), done.stderr
    calls = (tmp_path / "log").read_text("utf-8").splitlines()
    assert [("+cpu" in call, "--editable" in call) for call in calls] == [(True, False)] * (not gpu) + [(False, True)]
    assert gpu or re.search(r"torch==[\d.]+\+cpu torchvision==[\d.]+\+cpu$", calls[0])
    assert (tmp_path / ".venv" / "cpu.json").exists() == (build and not gpu)


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
