"""The folder of one benchmark row: what is written there, in which order, and how it is read (docs/reference/files.md).

Every file appears complete or not at all, and done.json comes last, so that a run killed anywhere goes on where it was.
"""

from __future__ import annotations

import csv
import shutil
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from ..errors import InputError, UsageError
from ..evaluation.sketches import ScoreSketch
from ..files.atomic import atomic_path
from ..files.digests import content_key, is_intact, seal
from ..files.names import safe_ids
from ..files.text import parse_json, write_json

SCHEMA = 1
REQUIRED = ("manifest.json", "threshold.json")
TRAINED = ("adapter.safetensors", "training.csv")
OF_A_CASE = {"cases": ".json", "sketches": ".npz", "panels": ".npz", "maps": ".nii.gz"}
SEALED = (*REQUIRED, *TRAINED, "threshold/*.npz", *(f"{folder}/*{end}" for folder, end in OF_A_CASE.items()))


def row_folder(out: str | Path, row_id: str, settings: Mapping) -> Path:
    """Where the row with these settings lives: OUT/rows/ROW-KEY."""
    return Path(out) / "rows" / f"{row_id}-{content_key(settings)}"


def write_case(
    folder: str | Path,
    case_id: str,
    subject: str,
    evaluation: Mapping,
    sketches: Mapping[str, ScoreSketch] | None = None,
    panel: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write one test case: sketches and panel first, cases/CASE.json last, whose presence means the case is done.

    `evaluation` is the dictionary of `evaluation.case.evaluate_case`; `sketches` are by region; `panel` as `make_panel` gives
    it. Raises UsageError for a case id that is not a plain file name.
    """
    if safe_ids([case_id]) != [case_id]:
        raise UsageError(f"the case id {case_id!r} cannot be a file name; use letters, digits, '.', '_' and '-'")
    folder = Path(folder)
    if sketches:
        write_sketches(folder / "sketches" / f"{case_id}.npz", sketches)
    if panel:
        _write_arrays(folder / "panels" / f"{case_id}.npz", panel)
    write_json(folder / "cases" / f"{case_id}.json", {"case": case_id, "subject": subject, **evaluation})


def write_sketches(path: str | Path, sketches: Mapping[str, ScoreSketch]) -> None:
    """Write sketches of one range by name, complete or not at all; `read_sketch` reads one of them."""
    first = next(iter(sketches.values()))
    arrays = {"range": np.array([first.lo, first.hi])}
    for name, sketch in sketches.items():
        arrays[f"{name}_positives"] = sketch.positives.astype(np.uint32)
        arrays[f"{name}_negatives"] = sketch.negatives.astype(np.uint32)
    _write_arrays(Path(path), arrays)


def make_panel(image: np.ndarray, scores: np.ndarray, truth: np.ndarray, brain: np.ndarray) -> dict[str, np.ndarray]:
    """The slice with most lesion (or the middle of the brain), cropped to the brain, for the qualitative figure.

    `image` uint8, `scores` float, `truth` and `brain` boolean, all (N, R, C). Gives image uint8, scores float16-safe
    float32, truth and brain boolean, all of one 2D shape, and the slice's index.
    """
    area = truth.sum(axis=(1, 2)) if truth.any() else brain.sum(axis=(1, 2))
    n = int(np.argmax(area))
    extent = brain if brain.any() else np.ones_like(brain)
    rows, columns = (np.flatnonzero(extent.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    crop = (n, slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    return {
        "image": image[crop].astype(np.uint8),
        "scores": scores[crop].astype(np.float32),
        "truth": truth[crop].astype(bool),
        "brain": brain[crop].astype(bool),
        "index": np.array(n),
    }


def finish_row(folder: str | Path, case_ids: list[str]) -> None:
    """Declare the row complete and seal its files; raises UsageError when a required file or a listed case is missing."""
    folder = Path(folder)
    wanted = [folder / name for name in REQUIRED] + [folder / "cases" / f"{case}.json" for case in case_ids]
    missing = [path.relative_to(folder).as_posix() for path in wanted if not path.is_file()]
    if missing or not case_ids:
        raise UsageError(f"the row {folder.name} is not complete: missing {', '.join(missing) or 'test cases'}")
    paths = [path for name in SEALED for path in sorted(folder.glob(name))]
    files = {path.relative_to(folder).as_posix(): seal([path])[path.name] for path in paths}
    write_json(folder / "done.json", {"schema": SCHEMA, "cases": sorted(case_ids), "files": files})


def damaged_files(folder: Path, done: Mapping) -> list[str]:
    """Names of files that are not as `done`, the content of done.json, has sealed them; earlier versions sealed none."""
    files = done.get("files", {})
    if not isinstance(files, dict) or not isinstance(done.get("cases"), list):
        return ["done.json"]
    return [name for name, sealed in files.items() if not is_intact(folder, {name: sealed})]


def reopen_if_damaged(folder: str | Path) -> list[str]:
    """Remove what is not as it was when the row was finished, and done.json, so that a run makes it anew.

    Of a damaged case its JSON goes; of a damaged threshold or manifest everything but the adapter, and with a damaged
    adapter all. Returns the names of the damaged files.
    """
    folder = Path(folder)
    try:
        done = read_json(folder / "done.json")
        damaged = set(damaged_files(folder, done))
    except InputError:
        damaged = {"done.json"}
    if not damaged:
        return []
    cases = () if "done.json" in damaged else done["cases"]
    (folder / "done.json").unlink()
    own = {f"{part}/{case}{end}": case for case in cases for part, end in OF_A_CASE.items()}
    for name in damaged & own.keys():
        (folder / "cases" / f"{own[name]}.json").unlink(missing_ok=True)
    if shared := damaged - own.keys() - {"done.json"}:
        unharmed = set() if shared & set(TRAINED) else {*TRAINED, "seconds"}
        for path in folder.iterdir():
            if path.name not in unharmed:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    return sorted(damaged)


def is_finished(folder: str | Path) -> bool:
    """True when done.json is there."""
    return (Path(folder) / "done.json").is_file()


@dataclass(frozen=True)
class RowFiles:
    """A finished row as read: manifest, thresholds, runtime (may be empty), training log rows and cases by id."""

    folder: Path
    manifest: dict
    threshold: dict
    runtime: dict
    training: tuple[dict, ...]
    cases: tuple[dict, ...]

    @property
    def sketched(self) -> bool:
        """True when every case has a sketch."""
        return all(path.is_file() for path in self._sketch_paths())

    def sketches(self, region: str) -> list[ScoreSketch] | None:
        """One sketch per case in the order of `cases`, None unless every case has one."""
        return [read_sketch(path, region) for path in self._sketch_paths()] if self.sketched else None

    def _sketch_paths(self) -> list[Path]:
        return [self.folder / "sketches" / f"{case['case']}.npz" for case in self.cases]

    def panel(self, case_id: str) -> dict[str, np.ndarray] | None:
        """The arrays of `make_panel`, None when the row kept none."""
        path = self.folder / "panels" / f"{case_id}.npz"
        return _arrays(path) if path.is_file() else None


def read_row(folder: str | Path) -> RowFiles:
    """Read a finished row; raises InputError when it is not finished or a file is damaged."""
    folder = Path(folder)
    if not is_finished(folder):
        raise InputError(f"{folder} is not a finished row: there is no done.json; run the benchmark again to finish it")
    done = read_json(folder / "done.json")
    if done.get("schema") != SCHEMA:
        raise InputError(f"{folder} has schema {done.get('schema')!r}, expected {SCHEMA}; run the benchmark again")
    if damaged := damaged_files(folder, done):
        raise InputError(f"{folder / damaged[0]} has changed since its row was finished; run the benchmark again")
    training = folder / "training.csv"
    return RowFiles(
        folder=folder,
        manifest=read_json(folder / "manifest.json"),
        threshold=read_json(folder / "threshold.json"),
        runtime=read_json(folder / "runtime.json") if (folder / "runtime.json").is_file() else {},
        training=tuple(_read_csv(training)) if training.is_file() else (),
        cases=tuple(read_json(folder / "cases" / f"{case}.json") for case in sorted(done["cases"])),
    )


def read_json(path: Path) -> dict:
    """A JSON object from a file; raises InputError naming the file when it is missing or damaged."""
    try:
        data = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}; delete the folder {path.parent} and run again") from error
    if not isinstance(data, dict):
        raise InputError(f"{path} holds a {type(data).__name__}, expected a JSON object")
    return data


def _read_csv(path: Path) -> list[dict]:
    with open(path, encoding="utf-8", newline="") as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def _arrays(path: Path, names: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """The named arrays of a file, all without names."""
    try:
        with np.load(path, allow_pickle=False) as data:
            return {name: data[name] for name in names or data.files}
    except (OSError, ValueError, EOFError, KeyError, BadZipFile, zlib.error) as error:
        raise InputError(f"cannot read {path}: {error}; delete the folder of the row and run again") from error


def read_sketch(path: Path, region: str) -> ScoreSketch:
    """One sketch of a file of `write_sketches`; raises InputError when the file is damaged."""
    data = _arrays(path, ("range", f"{region}_positives", f"{region}_negatives"))
    sketch = ScoreSketch(*data["range"].tolist(), bins=data[f"{region}_positives"].size)
    sketch.positives += data[f"{region}_positives"]
    sketch.negatives += data[f"{region}_negatives"]
    return sketch
