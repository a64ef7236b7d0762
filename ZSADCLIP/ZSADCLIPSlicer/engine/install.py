"""The Python packages that the engine needs: what is there, what is missing, and how to get it without harm.

Nothing is imported to be checked (an imported library cannot be replaced on Windows), nothing is installed without being
asked for, and what Slicer itself builds on is pinned to what is installed so that pip cannot replace it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import slicer
from slicer.i18n import tr as _

TORCH = ("torch>=2.6", "torchvision")
OTHERS = ("open_clip_torch>=3.3", "nibabel", "safetensors", "scipy", "tqdm", "matplotlib", "jinja2")
PINNED = ("numpy", "scipy", "requests", "SimpleITK", "pydicom", "Pillow", "torch", "torchvision", "setuptools")


@dataclass(frozen=True)
class Package:
    """A requirement and its state: `installed` is the version or empty; `good` whether it satisfies."""

    requirement: str
    installed: str
    good: bool

    @property
    def name(self) -> str:
        return re.split(r"[<>=!~ ]", self.requirement, maxsplit=1)[0]


def installedVersion(name: str) -> str:
    """The version of a package in Slicer's own Python, or empty."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def check(requirements=TORCH + OTHERS, version: Callable[[str], str] = installedVersion) -> list[Package]:
    """The state of every requirement; `version(name)` tells what is installed."""
    return [_state(requirement, version) for requirement in requirements]


def _state(requirement: str, version: Callable[[str], str] = installedVersion) -> Package:
    name, _sign, least = requirement.partition(">=")
    installed = version(name)
    return Package(requirement, installed, bool(installed) and _numbers(installed) >= _numbers(least))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version.split("+")[0])[:3])


def missing() -> list[Package]:
    """The requirements that are absent or too old."""
    return [package for package in check() if not package.good]


def impossible() -> str:
    """Why the packages cannot be installed into this Slicer, or empty."""
    if (sys.platform, platform.machine()) == ("darwin", "x86_64"):
        return _("PyTorch is no longer made for Intel processors on macOS, for which this Slicer is built. Name the Python of an "
                 "environment with the engine under Advanced; on Apple silicon one for arm64.")  # fmt: skip
    return ""


def explanation(packages: list[Package]) -> str:
    """What will be installed and from where, for the one dialog before the first run."""
    names = ", ".join(package.requirement for package in packages)
    return _("To run, this module needs Python packages that are not installed: {names}.\n\n"
             "They will be downloaded from the Python Package Index into Slicer's own Python (torch is large, up to "
             "several GB). What is installed of these is not replaced: {pinned}.\n\nInstall them now?").format(
        names=names, pinned=", ".join(PINNED))  # fmt: skip


def install(wheels: str = "", again: bool = False) -> None:
    """Install what is missing: torch through the PyTorch extension where it is there, the rest through Slicer's pip.

    Where the extension fails, torch comes through pip, too. `wheels` is a folder of wheel files for computers without a
    network. With `again` what is there is installed anew, but for what Slicer itself builds on. Raises RuntimeError or
    CalledProcessError as pip does.
    """
    if again:
        _anew(wheels)
    absent = missing()
    torch = [package.requirement for package in absent if package.requirement in TORCH]
    others = [package.requirement for package in absent if package.requirement not in TORCH]
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("\n".join(pins()), encoding="utf-8")
        if torch and not wheels and importlib.util.find_spec("PyTorchUtils"):
            torch = [] if _installTorch(constraints) else torch
        for group in (torch, others):  # torch first, so that the others find it and do not choose another one
            if group:
                constraints.write_text("\n".join(pins()), encoding="utf-8")
                pip(group, constraints, wheels)
    importlib.invalidate_caches()


def _anew(wheels: str) -> None:
    """Install packages that are there once more, without their requirements: a file of theirs may be damaged.

    A build of torch for a graphics card (such as 2.8+cu128) stays: the package index has none, the PyTorch extension has.
    """
    kept = set(PINNED) - {Package(requirement, "", False).name for requirement in TORCH}
    there = [package for package in check() if package.good and package.name not in kept]
    names = [f"{package.name}=={package.installed}" for package in there if "+" not in package.installed]
    if names:
        offline = ["--no-index", "--find-links", wheels] if wheels else []
        slicer.util.pip_install(["--force-reinstall", "--no-deps", *offline, *names])


def _installTorch(constraints: Path) -> bool:
    """torch by the PyTorch extension, whose pip reads the constraints from the environment; False when it failed."""
    import PyTorchUtils

    before = os.environ.get("PIP_CONSTRAINT")
    os.environ["PIP_CONSTRAINT"] = constraints.as_uri()  # pip splits this variable at blanks, which a URI has none of
    try:
        done = PyTorchUtils.PyTorchUtilsLogic().installTorch(
            askConfirmation=False, torchVersionRequirement=TORCH[0].removeprefix("torch")
        )
    except Exception:  # whatever another extension raises, pip is the second way
        logging.exception("ZSADCLIP: the PyTorch extension could not install torch; trying pip")
        return False
    finally:
        if before is None:
            del os.environ["PIP_CONSTRAINT"]
        else:
            os.environ["PIP_CONSTRAINT"] = before
    if done is None:
        logging.warning("ZSADCLIP: the PyTorch extension brought no torch; trying pip")
    return done is not None


def pins() -> list[str]:
    """Constraint lines that keep what is installed of the packages that must not change."""
    lines = []
    for name in PINNED:
        package = _state(name)
        wanted = [requirement for requirement in TORCH + OTHERS if Package(requirement, "", False).name == name]
        if package.installed and all(_state(requirement).good for requirement in wanted):
            lines.append(f"{name}=={package.installed}")
    return lines


def pip(requirements: list[str], constraints: Path, wheels: str = "") -> None:
    """Run Slicer's pip with constraints; slicer.packaging where it exists (5.11 and later), else slicer.util."""
    offline = ["--no-index", "--find-links", wheels] if wheels else []
    if importlib.util.find_spec("slicer.packaging") and not offline:
        from slicer import packaging

        packaging.pip_install(requirements, constraints=constraints, requester="ZSADCLIP")
    else:
        slicer.util.pip_install([*requirements, *offline, "-c", str(constraints)])
