"""How far the results of several runs lie apart."""

from __future__ import annotations

from pathlib import Path
from statistics import mean, stdev

from ..benchmark.rows import METHOD_LABELS, SETUP_LABELS
from ..benchmark.variations import Variation
from ..evaluation.metrics import metrics_in
from ..files.text import write_text
from . import typeset
from .numbers import Numbers, names_of, said
from .page import page
from .results import read_run
from .typeset import FEWEST, Interval, MeanSd, Table


def spread_table(out: Path, variations: list[Variation]) -> Table:
    """Every row's mean over test volumes in each run, and how these means vary; rows of one or two runs have no deviation."""
    runs = {v.label: Numbers(read_run(out / v.label)) for v in variations}
    choice = next(iter(runs.values())).run.choices()[0]
    rows = []
    for row in dict.fromkeys(row for v in variations for row in v.rows):
        for metric in metrics_in("paper"):
            means, names = {}, (METHOD_LABELS[row.method], SETUP_LABELS[row.setup])
            for label, numbers in runs.items():
                result = next((r for r in numbers.run.results if r.row.id == row.id), None)
                if result is not None:
                    names = names_of(result)
                    means[label] = numbers.summary(result, metric.name, choice).mean
            defined = [value for value in means.values() if value == value]
            spread = (
                MeanSd(mean(defined), stdev(defined) if len(defined) >= FEWEST else float("nan")),
                Interval(min(defined), max(defined)),
            )
            cells = spread if defined else (None, None)
            rows.append((*names, metric.label, len(defined), *cells, *(means.get(v.label) for v in variations)))
    return Table(
        "variations",
        f"How results vary over {len(variations)} runs. {said(choice)}",
        ("Model", "Setup", "Metric", "Runs", "Mean ± sd over runs", "Lowest to highest", *runs),
        tuple(rows),
        (
            "Each number is a run's mean over its test volumes; the deviation is that of these means, not of volumes.",
            *(f"{v.label}: {v.words}." for v in variations),
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


def write_variations(out: Path, variations: list[Variation]) -> dict[str, Path]:
    """Write OUT/tables/variations.* and OUT/report.html, which leads to the reports of the runs below OUT."""
    table = spread_table(out, variations)
    typeset.write_table(out / "tables", table)
    title = f"ZSADCLIP benchmark: {len(variations)} runs of {variations[0].profile.name}"
    write_text(out / "report.html", page("runs", title=title, runs=variations, table=table))
    return {"report": out / "report.html", "tables": out / "tables"}
