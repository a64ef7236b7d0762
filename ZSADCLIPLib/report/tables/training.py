"""Table 2: how each model was trained, from the manifests; what it cost, from the clocks, stands in a table of its own."""

from __future__ import annotations

from ..results import Run
from ..sections import Section
from ..typeset import Table

_SETTINGS = {
    "Epochs": "epochs",
    "Batch": "batch_size",
    "Learning rate": "learning_rate",
    "Optimiser": "optimizer",
    "Seed": "seed",
    "Precision": "precision",
    "Augmentation": "augment",
    "Domain": "domain",
    "Subjects": "subjects",
    "Slices": "slices",
    "Slices seen": "slices_seen",
}


def training_table(run: Run) -> Table:
    """Table 2: backbone, trainable parameters and settings of each row; untrained rows have dashes."""
    rows = []
    for result in run.results:
        manifest = result.files.manifest
        training = manifest.get("training") or {}
        rows.append(
            (
                result.row.label,
                (manifest.get("backbone") or {}).get("name"),
                (manifest.get("method") or {}).get("trainable_parameters"),
                *(_plain(training.get(key)) for key in _SETTINGS.values()),
            )
        )
    return Table(
        "table2-training",
        "Table 2. Training settings",
        ("Row", "Backbone", "Trainable parameters", *_SETTINGS),
        tuple(rows),
        (
            "CLIP's own weights are frozen. A dash: the row trains nothing itself. Slices seen: epochs times slices. Seed: of "
            "the order of the slices; all else in the rows' manifests.",
        ),
        section=Section.TRAINING,
        see="Rows of one setup should agree in what they saw; where they do not, their results are not of equal effort.",
        short="Table 2, training settings",
    )


def runtime_table(run: Run) -> Table:
    """Times and memory of each row as runtime.json has them; they differ from run to run."""
    measured = ((key, value) for result in run.results for key, value in result.files.runtime.items())
    keys = list(
        dict.fromkeys(key for key, value in measured if not isinstance(value, (list, dict)) and value not in ("", None))
    )
    rows = tuple((result.row.label, *(_plain(result.files.runtime.get(key)) for key in keys)) for result in run.results)
    return Table(
        "runtime",
        "Time and memory",
        ("Row", *(key.replace("_seconds", " (s)").replace("_mb", " (MB)").replace("_", " ") for key in keys)),
        rows,
        ("Measured on the machine of the run; the only table that differs between two runs of the same settings.",),
        digits=1,
        section=Section.TRAINING,
    )


def _plain(value: object) -> str | int | float | None:
    if isinstance(value, float) and 0 < abs(value) < 0.1:
        return f"{value:g}"  # a learning rate of 0.001 would print as 0.0
    return value if value is None or isinstance(value, (str, int, float)) else str(value)
