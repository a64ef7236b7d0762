"""The health check: which packages and models are there, what is missing, and how to mend it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from slicer.i18n import tr as _

from . import choices, healthprobe, install
from .process import childEnvironment, hiddenWindow, pythonExecutable

SECONDS = 20  # for an interpreter to answer; a network drive may be slow


def report(python: str = "", weightsFolder: str = "") -> str:
    """The report as text; `python` is an interpreter other than Slicer's own, which is asked in a child process."""
    names = [install.Package(requirement, "", False).name for requirement in install.TORCH + install.OTHERS]
    lines = []
    try:
        facts = _ask(python, names) if python else healthprobe.facts(names)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        lines.append("!! " + _("The interpreter {path} does not answer: {error}.").format(path=python, error=error))
    else:
        lines.append(_("Python: {version}, child process: {path}").format(
            version=facts["python"], path=pythonExecutable(python)))  # fmt: skip
        lines += _packages(facts, python)
    for model in choices.models(weightsFolder):
        lines.append(f"{'-- ' if model.state == 'missing' else 'OK '} {model.label}")
    lines.append(_("Models marked -- are optional: choose one under Model to download it or take it from local files."))
    lines.append(_("Weights folder: {folder}").format(folder=weightsFolder or cacheFolder()))
    offline = os.environ.get("HF_HUB_OFFLINE", "0") == "1"
    lines.append(_("Offline: {state}").format(state=_("yes") if offline else _("no")))
    return "\n".join(lines)


def _packages(facts: dict, python: str) -> list[str]:
    packages = install.check(version=lambda name: facts["versions"].get(name, ""))
    lines = []
    for package in packages:
        state = package.installed if package.good else (
            _("{version} is too old").format(version=package.installed) if package.installed else _("missing"))  # fmt: skip
        lines.append(f"{'OK ' if package.good else '!! '} {package.requirement}: {state}")
    if facts["cuda"]:
        lines.append(_("torch is built for the graphics card (CUDA or ROCm {version}).").format(version=facts["cuda"]))
    elif facts["cuda"] == "" and shutil.which("nvidia-smi"):
        lines.append("!! " + _(
            "torch is built for the CPU only, although this computer has an NVIDIA graphics card: runs will be slow. Install "
            "torch through the PyTorch extension."))  # fmt: skip
    if not all(package.good for package in packages):
        lines.append(_("To mend: install them with the pip of that interpreter.") if python else
                     _("To mend: press 'Install', or give a folder of wheels for a computer without a network."))  # fmt: skip
    return lines


def _ask(python: str, names: list[str]) -> dict:
    """What another interpreter has; raises OSError, ValueError or SubprocessError when it does not say."""
    from slicer.util import startupEnvironment

    done = subprocess.run(
        [python, str(Path(healthprobe.__file__).resolve()), *names],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
        timeout=SECONDS,
        env=childEnvironment(Path(), startupEnvironment()),
        creationflags=hiddenWindow(),
    )
    return json.loads(done.stdout)


def cacheFolder() -> str:
    """Where downloaded weights are kept."""
    from ZSADCLIPLib.backbones.weights import cache_dir

    return str(cache_dir())
