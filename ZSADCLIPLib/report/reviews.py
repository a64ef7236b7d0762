"""Review pages of a run's rows: where they lie, which cases they show, and the commands that make one."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from ..review.page import FOLDER as PAGE
from ..review.page import RUN
from .answer import rank_rows
from .figures.qualitative import KINDS, chosen_case
from .numbers import Numbers
from .results import Result

FOLDER = "detect"
"""OUT/detect/ROW is the output folder of a detection with a row's adapter."""
SYNTHETIC_DATA = "data"
_PLAIN = ("raw", "layers")
"""Scales that a raw threshold can be told from."""


@dataclass(frozen=True)
class Reviewed:
    """The review page of a row; `cases` are (id, address, 3D Dice as in the run), the lowest Dice first."""

    row: str
    address: str
    cases: tuple[tuple[str, str, float], ...]


def review_pages(out: Path, numbers: Numbers) -> list[Reviewed]:
    """The pages that lie in OUT/detect, in the order of the rows; a page without a case of the run is none."""
    pages = []
    for result in numbers.run.results:
        folder = out / FOLDER / result.row.id / PAGE
        if not (folder / RUN).is_file():
            continue
        address = f"{FOLDER}/{result.row.id}/{PAGE}/index.html"
        shown = sorted(path.stem for path in (folder / "cases").glob("*.js"))
        cases = [(case, f"{address}#{id}", dice) for id in shown for case, dice in _case_of(id, numbers, result)]
        if cases:
            pages.append(Reviewed(result.row.label, address, tuple(sorted(cases, key=lambda each: each[2]))))
    return pages


def _case_of(id: str, numbers: Numbers, result: Result) -> list[tuple[str, float]]:
    """The test case that an id of a detection means, which may have the sequence at its end, with its Dice."""
    choice = numbers.run.choices()[0]
    if choice.rule not in result.rules:
        return []
    dice = dict(zip((c["case"] for c in result.files.cases), result.values("dice", choice).tolist(), strict=True))
    return [(case, value) for case, value in dice.items() if id == case or id.startswith(f"{case}-")]


def commands(out: Path, numbers: Numbers) -> tuple[str, list[str]] | None:
    """(row, commands) that make the page of the best row with an adapter of its own; None where no row has one.

    They score the volumes of the report's pictures with the row's own settings and threshold.
    """
    for ranked in rank_rows(numbers):
        result = ranked.result
        if (result.files.folder / "adapter.safetensors").is_file():
            return result.row.label, [_detect(numbers, result), "zsadclip report OUT"]
    return None


def _detect(numbers: Numbers, result: Result) -> str:
    cases = dict.fromkeys(chosen_case(numbers, kind)["case"] for kind in KINDS)
    data = f"OUT/{SYNTHETIC_DATA}" if numbers.is_synthetic else "DATA"
    words = ["zsadclip", "detect", *(f"{data}/{case}" for case in cases), "-o", f"OUT/{FOLDER}/{result.row.id}"]
    words += ["--checkpoint", f"OUT/rows/{result.files.folder.name}/adapter.safetensors"]
    words += [*_look(result.files.manifest), *_threshold(numbers, result), "--review"]
    return shlex.join(words)


def _look(manifest: dict) -> list[str]:
    """The settings of a row as those of detection."""
    settings = manifest.get("settings", {})
    slices, score = settings.get("slices", {}), settings.get("score", {})
    flags = {
        "--image-size": slices.get("image_size"),
        "--intensity": slices.get("intensity"),
        "--window": slices.get("window"),
        "--crop": slices.get("crop"),
        "--background": score.get("background"),
        "--planes": score.get("planes") or ["axial"],
        "--fuse": score.get("fuse") if len(score.get("planes") or ()) > 1 else None,
        "--smooth-mm": score.get("smooth_mm"),
        "--smooth": score.get("smooth") if score.get("smooth_mm") else None,
        "--min-size": settings.get("min_component_mm3"),
        "--min-depth": settings.get("min_depth_mm"),
    }
    words = []
    for flag, value in flags.items():
        if value is not None:
            words += [flag, *map(str, value if isinstance(value, (list, tuple)) else [value])]
    overrides = (settings.get("adapter") or {}).get("overrides") or {}
    plain = [f"{key}={value}" for key, value in overrides.items() if isinstance(value, (str, int, float))]
    return [*words, *(["--set", *plain] if plain else [])]


def _threshold(numbers: Numbers, result: Result) -> list[str]:
    """The row's threshold as a raw score, where its scale and its method tell that."""
    manifest = result.files.manifest
    scale = manifest.get("settings", {}).get("score", {}).get("scale")
    value = result.files.threshold.get("rules", {}).get(numbers.run.choices()[0].rule)
    layers = 1 if scale == "raw" else (manifest.get("method") or {}).get("summed_layers")
    return ["--threshold", f"fixed:{value * layers!r}"] if value is not None and layers and scale in _PLAIN else []
