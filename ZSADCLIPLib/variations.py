"""The same benchmark several times: over seeds of the split, over industrial adapters, and how far results lie apart."""

from __future__ import annotations

from dataclasses import dataclass, replace
from html import escape
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from urllib.parse import quote

from . import typeset
from .errors import UsageError
from .numbers import Numbers, names_of, said
from .page import document
from .report import CSS
from .results import METRIC_LABELS, PAPER_METRICS, read_run
from .rows import METHOD_LABELS, SETUP_LABELS, Row
from .settings import Profile
from .sources import published
from .text import write_text
from .typeset import Interval, MeanSd, Table


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


def spread_table(out: Path, found: list[Variation]) -> Table:
    """Every row's mean over test volumes in each run, and how these means vary; rows of one run only have no deviation."""
    runs = {v.label: Numbers(read_run(out / v.label)) for v in found}
    choice = next(iter(runs.values())).run.choices()[0]
    rows = []
    for row in dict.fromkeys(row for v in found for row in v.rows):
        for metric in PAPER_METRICS:
            means, names = {}, (METHOD_LABELS[row.method], SETUP_LABELS[row.setup])
            for label, numbers in runs.items():
                result = next((r for r in numbers.run.results if r.row.id == row.id), None)
                if result is not None:
                    names = names_of(result)
                    means[label] = numbers.summary(result, metric, choice).mean
            known = [value for value in means.values() if value == value]
            spread = (
                MeanSd(mean(known), stdev(known) if len(known) > 1 else float("nan")),
                Interval(min(known), max(known)),
            )
            cells = spread if known else (None, None)
            rows.append((*names, METRIC_LABELS[metric], len(known), *cells, *(means.get(v.label) for v in found)))
    return Table(
        "variations",
        f"How results vary over {len(found)} runs. {said(choice)}",
        ("Model", "Setup", "Metric", "Runs", "Mean ± sd over runs", "Lowest to highest", *(v.label for v in found)),
        tuple(rows),
        (
            "Each number is a run's mean over its test volumes; the deviation is that of these means, not of volumes.",
            *(f"{v.label}: {v.words}." for v in found),
            *_alike(runs),
        ),
        labels=3,
    )


def _alike(runs: dict[str, Numbers]) -> list[str]:
    """A note for each split that several seeds gave: such runs are no independent ones."""
    split: dict[str, list[str]] = {}
    for label, numbers in runs.items():
        if label.startswith("split-"):
            split.setdefault(str(numbers.run.info.get("split")), []).append(label)
    seeds = ({label.removeprefix("split-").split("-")[0] for label in labels} for labels in split.values())
    return [f"The split seeds {', '.join(sorted(same))} gave the same split." for same in seeds if len(same) > 1]


def write_variations(out: Path, found: list[Variation]) -> dict[str, Path]:
    """Write OUT/tables/variations.* and OUT/report.html, which leads to the reports of the runs below OUT."""
    table = spread_table(out, found)
    typeset.write_table(out / "tables", table)
    links = "".join(
        f'<li><a href="{quote(v.label)}/report.html">{escape(v.label)}</a>: {escape(v.words)}</li>' for v in found
    )
    body = f"<p>Runs:</p><ul>{links}</ul><div class='scroll'>{typeset.html(table)}</div>"
    write_text(
        out / "report.html", document(f"ZSADCLIP benchmark: {len(found)} runs of {found[0].profile.name}", body, CSS)
    )
    return {"report": out / "report.html", "tables": out / "tables"}
