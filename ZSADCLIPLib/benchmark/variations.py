"""The same benchmark several times: over seeds of the split, over industrial adapters, and how far results lie apart."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from ..errors import UsageError
from .identity import published
from .rows import METHOD_LABELS, Row
from .settings import Profile


@dataclass(frozen=True)
class Variation:
    """One run of several: the folder's name, what is run, and in words what sets it apart."""

    label: str
    profile: Profile
    rows: tuple[Row, ...]
    words: str


def variations(profile: Profile, rows: tuple[Row, ...]) -> list[Variation]:
    """A profile with several split seeds, or several industrial files for a method, as the runs it stands for.

    A further industrial file concerns the rows that start from it only. A profile without either is one run of no label.
    """
    seeds = profile.split.seeds or (None,)
    industrial_files = {name: _files(method.industrial) for name, method in profile.methods.items()}
    runs = []
    for seed, index in product(seeds, range(max([1, *map(len, industrial_files.values())]))):
        label, words, changed = [], [], profile
        if seed is not None:
            changed = replace(changed, split=replace(profile.split, seed=seed, seeds=()))
            label.append(f"split-{seed}")
            words.append(f"split seed {seed}")
        chosen = {name: files[min(index, len(files) - 1)] for name, files in industrial_files.items() if files}
        methods = {n: replace(m, industrial=chosen.get(n)) for n, m in profile.methods.items()}
        run_rows = rows
        if any(len(files) > 1 for files in industrial_files.values()):
            named = {name: file for name, file in chosen.items() if index < len(industrial_files[name])}
            label.append(f"industrial-{index + 1}")
            words.append(", ".join(f"{METHOD_LABELS[name]} from {Path(file).name}" for name, file in named.items()))
            run_rows = rows if index == 0 else tuple(r for r in rows if r.start == "industrial" and r.method in named)
        if run_rows:
            runs.append(Variation("-".join(label), replace(changed, methods=methods), run_rows, "; ".join(words)))
    return runs


def _files(files: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (files,) if isinstance(files, str) else files or ()


def check_variations(runs: list[Variation], data: str | None, weights_dir: str | None) -> None:
    """Raise UsageError for another split of the embedded brains, whose seeds are fixed, WeightsError for a missing file."""
    split = runs[0].profile.split
    asked = {
        "seeds": any(v.label.startswith("split-") for v in runs),
        "file": split.file is not None,
        "stratify": split.stratify != "none",
    }
    if data is None and any(asked.values()):
        name = next(name for name, is_asked in asked.items() if is_asked)
        raise UsageError(
            f"split.{name} needs a data set to split: give --data; the embedded brains have one fixed split"
        )
    for variation in runs if len(runs) > 1 else ():
        for method in dict.fromkeys(row.method for row in variation.rows if row.start == "industrial"):
            file = variation.profile.method(method).industrial
            if file is not None:
                published(method, file, weights_dir)
