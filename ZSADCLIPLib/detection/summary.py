"""The rows of a run in the order of its cases, kept on disk so that memory does not grow with their number."""

from __future__ import annotations

import csv
import json
import re
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from ..errors import InputError, OutputError
from ..files.atomic import clear_temporaries
from ..files.text import write_csv
from ..notes import Note, sentences
from ..progress import Report
from .outputs import SUMMARY

COLUMNS = ("id", "status", "error", "volume_score", "threshold", "threshold_rule", "findings", "volume_mm3", "sequence")
COLUMNS += (
    "dice",
    "sensitivity",
    "specificity",
    "ppv",
    "auroc",
    "average_precision",
    "f1_max",
    "auroc_brain",
    "average_precision_brain",
    "notes",
)
PART = re.compile(r"\d+-of-\d+-[0-9a-f]{16}\.csv")
REMEMBERED = 20  # failed ids
UNWRITABLE = 3  # cases in a row that cannot be written end a run


class SummaryRows:
    """One row for each of `length` cases, put in any order, read in theirs."""

    def __init__(self, length: int):
        self._at = array("q", [-1]) * length
        try:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115
        except OSError as error:
            raise _no_space(error) from error
        self.columns: set[str] = set()
        self.failed = self.kept = 0
        self.failed_ids: list[str] = []

    def put(self, n: int, row: dict) -> None:
        """Store the row of case `n`, its notes as one line."""
        if isinstance(notes := row.get("notes", ""), list):
            row = {**row, "notes": sentences(Note(**note) for note in notes)}
        try:
            self._at[n] = self._file.seek(0, 2)
            self._file.write(json.dumps(row).encode() + b"\n")
            self._file.flush()
        except OSError as error:
            raise _no_space(error) from error
        self.columns |= set(row)
        if row["status"] == "failed":
            self.failed += 1
            self.failed_ids += [row["id"]] if len(self.failed_ids) < REMEMBERED else []

    def rows(self) -> Iterator[dict]:
        """All rows that were put, in the order of the cases."""
        for at in self._at:
            if at >= 0:
                self._file.seek(at)
                yield json.loads(self._file.readline())

    def write(self, path: Path) -> None:
        """Write the rows as CSV, complete or not at all."""
        columns = [name for name in COLUMNS if name in self.columns]
        write_csv(path, self.rows(), columns)

    def __enter__(self) -> SummaryRows:
        return self

    def __exit__(self, *_) -> None:
        self._file.close()


def settler(table: SummaryRows, report: Report) -> Callable[[int, dict], None]:
    """What an executor calls with each row: it goes into `table` and to `report`.

    Raises OutputError when the third case in a row cannot be written.
    """
    unwritable = 0

    def settle(n: int, row: dict) -> None:
        nonlocal unwritable
        table.kept += bool(row.pop("kept", False))
        unwritable = unwritable + 1 if row.pop("unwritable", False) else 0
        table.put(n, {key: value for key, value in row.items() if key != "doubts"})
        report({"event": "case", **row})
        if unwritable == UNWRITABLE:
            raise OutputError(f"nothing can be written any more ({row['error']}); finished cases are kept")

    return settle


def write_summary(output: Path, ids: Sequence[str], shard: tuple[int, int], rows: SummaryRows, key: str) -> None:
    """Write OUTPUT/summary.csv; a shard writes OUTPUT/shards/I-of-N-KEY.csv, and the last one to finish the summary of all.

    `ids` are those of the whole run, of which shard (i, n) has every n-th from i on; only parts of the same settings, told by
    `key`, make a summary. Raises InputError when another shard worked on other cases, some of which nobody may have.
    """
    i, n = shard
    if n == 1:
        rows.write(output / SUMMARY)
        return
    rows.write(_part(output, i, n, key))
    with SummaryRows(len(ids)) as whole:
        for k in range(n):
            if not _read_part(_part(output, k, n, key), ids[k::n], whole, k, n):
                return
        whole.write(output / SUMMARY)


def forget_parts(output: Path, shard: tuple[int, int] | None, key: str) -> None:
    """Remove what an earlier run of a shard left, and what shards of other settings or another number did.

    Otherwise it would be taken for that of the run that begins, or describe results which that run replaces. A whole run,
    `shard` None, removes the parts of all. Raises OutputError when one cannot be removed.
    """
    folder, own = output / "shards", _part(output, *shard, key).name if shard else ""
    ours = re.compile(rf"\d+-of-{shard[1]}-{key}\.csv") if shard else None
    clear_temporaries(folder, lambda name: name == own if shard else True)
    for path in folder.glob("*.csv"):
        if PART.fullmatch(path.name) and (path.name == own or not ours or not ours.fullmatch(path.name)):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise OutputError(
                    f"cannot remove {path.name} of an earlier run: {error.strerror}; check the folder"
                ) from error
    if not shard:
        with suppress(OSError):  # not there, or somebody keeps other things in it
            folder.rmdir()


def _no_space(error: OSError) -> OutputError:
    return OutputError(
        f"cannot write temporary rows to {tempfile.gettempdir()}: {error.strerror}; free some space, or set TMPDIR to another "
        "folder; finished cases are kept"
    )


def _part(output: Path, i: int, n: int, key: str) -> Path:
    return output / "shards" / f"{i + 1}-of-{n}-{key}.csv"


def _read_part(path: Path, ids: Sequence[str], whole: SummaryRows, first: int, step: int) -> bool:
    """Put the rows of another shard into `whole`; False where it has not finished; raises as `write_summary`."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError:
        return False
    if [row.get("id") for row in rows] != list(ids):
        (path.parent.parent / SUMMARY).unlink(missing_ok=True)
        raise InputError(
            f"shard {first + 1}/{step} worked on other cases than this shard knows of: the inputs changed between their starts. "
            "Run all shards again with --skip-existing; there is no summary until then"
        )
    for n, row in enumerate(rows):
        whole.put(first + n * step, row)
    return True


def against_truth(detection, truth) -> dict:
    """Voxel metrics of a detection over the whole volume, rankings inside the brain as well; undefined ones empty.

    Air is easily told from lesions, so that rankings over the whole volume flatter.
    """
    from ..evaluation.curves import curve
    from ..evaluation.metrics import confusion, scores

    overlap, ranking = scores(confusion(detection.mask.array > 0, truth)), curve(detection.map.array, truth)
    inside = curve(detection.map.array[detection.brain], truth[detection.brain])
    values = {k: overlap[k] for k in ("dice", "sensitivity", "specificity", "ppv")}
    values |= {"auroc": ranking.auroc, "average_precision": ranking.average_precision, "f1_max": ranking.f1_max}
    values |= {"auroc_brain": inside.auroc, "average_precision_brain": inside.average_precision}
    return {k: float(v) if v == v else None for k, v in values.items()}
