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
    given = {name: _files(method.industrial) for name, method in profile.methods.items()}
    found = []
    for seed, index in product(seeds, range(max([1, *map(len, given.values())]))):
        label, words, changed = [], [], profile
        if seed is not None:
            changed = replace(changed, split=replace(profile.split, seed=seed, seeds=()))
            label.append(f"split-{seed}")
            words.append(f"split seed {seed}")
        chosen = {name: files[min(index, len(files) - 1)] for name, files in given.items() if files}
        methods = {n: replace(m, industrial=chosen.get(n)) for n, m in profile.methods.items()}
        kept = rows
        if any(len(files) > 1 for files in given.values()):
            named = {name: file for name, file in chosen.items() if index < len(given[name])}
            label.append(f"industrial-{index + 1}")
            words.append(", ".join(f"{METHOD_LABELS[name]} from {Path(file).name}" for name, file in named.items()))
            kept = rows if index == 0 else tuple(r for r in rows if r.start == "industrial" and r.method in named)
        if kept:
            found.append(Variation("-".join(label), replace(changed, methods=methods), kept, "; ".join(words)))
    return found


def _files(given: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else given or ()


def check_variations(found: list[Variation], data: str | None, weights_dir: str | None) -> None:
    """Raise UsageError for another split of the embedded brains, whose seeds are fixed, WeightsError for a missing file."""
    split = found[0].profile.split
    asked = {
        "seeds": any(v.label.startswith("split-") for v in found),
        "file": split.file is not None,
        "stratify": split.stratify != "none",
    }
    if data is None and any(asked.values()):
        name = next(name for name, given in asked.items() if given)
        raise UsageError(
            f"split.{name} needs a data set to split: give --data; the embedded brains have one fixed split"
        )
    for variation in found if len(found) > 1 else ():
        for method in dict.fromkeys(row.method for row in variation.rows if row.start == "industrial"):
            file = variation.profile.method(method).industrial
            if file is not None:
                published(method, file, weights_dir)
