"""A data set, models and a profile so small that a whole benchmark runs in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import patch

import numpy as np
from small_models import config

from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.reading import write_volume

SUBJECTS = 6


def write_brains(folder: Path, subjects: int = SUBJECTS, shape=(40, 44, 12)) -> Path:
    """Noise brains with one bright box each, in BraTS-MET layout."""
    for n in range(subjects):
        rng = np.random.default_rng(n)
        image, mask = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
        image[4:-4, 4:-4, 1:-1] = rng.uniform(100, 200, np.array(shape) - (8, 8, 2))
        x, y = rng.integers(8, 24, 2)
        mask[x : x + 9, y : y + 9, 3:7] = 2
        image[mask > 0] += 150
        name = f"BraTS-MET-{n:05d}-000"
        for kind, array in (("t2w", image), ("seg", mask)):
            write_volume(folder / name / f"{name}-{kind}.nii.gz", Volume(array, np.diag([-1.0, -1, 1, 1])))
    return folder


def tiny_profile(**sections) -> dict:
    """Changes of the ci profile: random models of a few thousand numbers, one or two epochs."""
    adaclip = {"epochs": 1, "max_slices": 8, "settings": {"dice": "batch", "clusters": 3}}
    return {
        "base": "ci",
        "backbones": {
            "default": {"name": config("vit"), "weights": "random:3"},
            "pmc": {"name": config("pmc"), "weights": "random:3"},
        },
        "slices": {"image_size": 64, "every": 1},
        "industrial": {"images": 8},
        "threshold": {"max_subjects": 2},
        "methods": {"vand": {"epochs": 2}, "anomalyclip": {"epochs": 2}, "adaclip": adaclip},
        **sections,
    }


def write_profile(path: Path, **sections) -> Path:
    """The tiny profile as a file."""
    path.write_text(json.dumps(tiny_profile(**sections)))
    return path


def figures(*names: str):
    """A context in which reports get these figures alone: drawing takes most of their time, and is tested elsewhere."""
    from ZSADCLIPLib.report import figures as all_of_them

    return patch.object(all_of_them, "FIGURES", {name: all_of_them.FIGURES[name] for name in names})


def contents(out: Path) -> dict[str, bytes]:
    """Every file of a run by name, but for what holds times: the notes, the table of times, the report that shows it."""
    skip = {"hashes.json", "report.html"}
    files = [p for p in sorted(out.rglob("*")) if p.is_file() and p.name not in skip and p.stem != "runtime"]
    files = [p for p in files if "seconds" not in p.parts]
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in files}
