"""What users install: wheel and sdist hold the engine with its data, and the installed command works outside the checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import affine

from ZSADCLIPLib import Volume, write_volume
from ZSADCLIPLib.files.digests import code_version

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "ZSADCLIPLib"
NEW = {f"{PACKAGE}/newpart/__init__.py", f"{PACKAGE}/newpart/deeper/data-1/table.bin"}
"""A package with data that nothing lists: it must be found."""
LEFT = {f"{PACKAGE}/newpart/__pycache__/__init__.cpython-311.pyc", f"{PACKAGE}/newpart/CMakeLists.txt"}
"""What lies in a checkout and belongs into no wheel."""


def run(*command, cwd, **environment) -> str:
    """Standard output of a command that must succeed and sees no package of the checkout."""
    own = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | environment
    done = subprocess.run([*map(str, command)], cwd=cwd, env=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def names_in(archive: Path) -> set[str]:
    if archive.suffix == ".whl":
        return set(zipfile.ZipFile(archive).namelist())
    with tarfile.open(archive) as stream:
        return {member.name.partition("/")[2] for member in stream if member.isfile()}


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> tuple[Path, set[str]]:
    """(a copy of the checkout without what git ignores, the paths of its files of the engine)."""
    if not (ROOT / ".git").exists():
        pytest.skip("only git says which files are the project's")
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
    files = [name for name in listed if name and (ROOT / name).is_file()]
    folder = tmp_path_factory.mktemp("tree")
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    for name in NEW | LEFT:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    engine = {name for name in files if name.startswith(f"{PACKAGE}/") and Path(name).name != "CMakeLists.txt"}
    assert len(engine) > 100
    return folder, engine | NEW


@pytest.fixture(scope="module")
def wheel(tree, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    run(*pip, "--wheel-dir", out, ".", cwd=tree[0])
    return next(out.glob("*.whl"))


def test_the_wheel_holds_the_engine_and_nothing_else(tree, wheel):
    names = names_in(wheel)
    assert {name for name in names if ".dist-info/" not in name} == tree[1]
    assert {"LICENSE", "NOTICE"} <= {Path(name).name for name in names if ".dist-info/licenses/" in name}


def test_the_sdist_holds_the_engine_and_what_its_build_needs(tree, tmp_path):
    build = "import sys, setuptools.build_meta as backend; backend.build_sdist(sys.argv[1])"
    run(sys.executable, "-c", build, tmp_path, cwd=tree[0])
    names = names_in(next(tmp_path.glob("*.tar.gz")))
    assert {name for name in names if name.startswith(f"{PACKAGE}/")} == tree[1]
    beside = {name for name in names if "/" not in name}
    assert beside == {"pyproject.toml", "README.md", "LICENSE", "NOTICE", "PKG-INFO", "setup.cfg"}


def test_the_installed_command_detects_outside_the_checkout(wheel, tmp_path, rng):
    environment = tmp_path / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=tmp_path)
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps"]
    run(*pip, wheel, cwd=tmp_path)
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    # The packages that the engine needs, from here: as paths only, so that an editable engine among them stays unseen.
    needed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "needed.pth").write_text("\n".join(sorted(needed)) + "\n")
    imported = run(python, "-c", f"import {PACKAGE}; print({PACKAGE}.__file__)", cwd=tmp_path).strip()
    assert Path(imported) == site / PACKAGE / "__init__.py"
    version = f"from {PACKAGE}.files.digests import code_version; print(code_version())"
    assert run(python, "-c", version, cwd=tmp_path).strip() == code_version()  # keys are those of the checkout

    volume = Volume(rng.uniform(10, 200, (16, 16, 3)).astype("float32"), affine(), "head")
    write_volume(tmp_path / "head.nii.gz", volume, "float32")
    run(scripts / "zsadclip", "detect", "head.nii.gz", "-o", "out", cwd=tmp_path)
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"head_anomaly.nii.gz", "head_mask.nii.gz", "head.json", "head.png", "summary.csv"} <= written
