"""The job behind `zsadclip cohort`: a batch of volumes of which nothing is known, scored by how unlike each other they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

from ..detection.case import run_case
from ..detection.caserun import CaseRun
from ..detection.outputs import SUMMARY, check_free, is_of, result_paths
from ..errors import UsageError
from ..execution import execute, kept
from ..fields import AtLeast, Between, Count, OneOf, Positive, flag
from ..files.atomic import clear_temporaries
from ..files.locks import folder_lock
from ..neighbours import COHORT, DROPS, LABELS
from ..notes import Note
from ..progress import Progress, Report, quiet, silent, sub_progress
from ..volumes.components import LEAST_DEPTH_MM, SMALLEST_MM3
from ..volumes.maptypes import MAP_TYPES
from .comparison import Comparison

LEAST, SUGGESTED = 5, 16  # volumes
BATCH_QUANTILE = 0.99  # of the cells of a batch, by default
STEPS = "cohort"
"""The folder in the output with what goes before the results."""
SHARES = {"tokens": 0.5, "pairs": 0.8}
"""Of the progress, where these steps end."""


@dataclass(frozen=True)
class Cohort(Comparison):
    """Score the volumes of a batch against each other and write maps, masks, findings and pictures.

    Scores hold within the batch alone. A run that was killed goes on, and one with other settings keeps what does not depend on
    them: OUTPUT/cohort has tokens, distances and the scores of each pass.

    refine      passes before the last one; after each a tenth of a volume's cells are no references any more.
    drop        which tenth: those with the highest "score", or those with the largest "gap", near few volumes and far from most.
    window_mm   side of the box around a cell in which it is compared, for volumes on one grid; None: everywhere.
    references  with how many others each volume is compared, drawn by `seed`; work grows with the batch, not with its square.
    threshold   "batch:Q", the quantile Q of the cells of the whole batch, or as in `detection.threshold.Threshold`.
    """

    output: str = flag("-o", "--output", metavar="OUT", help="folder for the results")
    interval: tuple[float, float] = flag(
        default=(0.0, 0.3), metavar=("LOW", "HIGH"), help="of the distances, which shares count (default 0 0.3)"
    )
    refine: Count = flag(default=1, metavar="N", help="passes that leave out likely lesions as references (default 1)")
    drop: Annotated[str, OneOf(DROPS)] = flag(
        default="score", help="what these are known by: a high score, or a gap: near few volumes and far from most"
    )
    window_mm: Annotated[float, Between(0)] | None = flag(
        default=None, metavar="MM", help="compare cells within a box of this side only; volumes have to lie on one grid"
    )
    references: Positive = flag(default=32, metavar="N", help="others a volume is compared with (default 32)")
    threshold: str = flag(
        default=f"batch:{BATCH_QUANTILE}", help="batch:Q (default batch:0.99), NUMBER, fixed:NUMBER or quantile:Q"
    )
    min_size_mm3: float = flag("--min-size", default=SMALLEST_MM3, metavar="MM3", help="smallest finding (default 20)")
    min_depth_mm: Annotated[float, AtLeast(0)] = flag(
        "--min-depth",
        default=LEAST_DEPTH_MM,
        metavar="MM",
        help="over how many mm of slices a finding reaches (default 3)",
    )
    resample_mask: bool = flag(default=False, help="take truth masks on other grids, with nearest neighbours")
    map_type: Annotated[str, OneOf(MAP_TYPES)] = flag(
        default=MAP_TYPES[0],
        help="how scores are written; int16 needs a tenth of the room and rounds by 1.6e-5 of their range",
    )
    pictures: bool = flag("--no-pictures", default=True)
    compress: bool = True

    kind: ClassVar[str] = "cohort"

    @property
    def root(self) -> Path:
        return Path(self.output) / STEPS

    @property
    def case_run(self) -> CaseRun:
        return replace(
            super().case_run,
            output=self.output,
            label=LABELS[COHORT],
            paths=lambda case_id: result_paths(self.output, case_id, self.compress, self.pictures),
            resample_mask=self.resample_mask,
        )

    @property
    def reach(self) -> int | None:
        """How many cells apart tokens are compared; None: all of them."""
        from ..neighbours.boxes import reach_of

        return None if self.window_mm is None else reach_of(self.window_mm, self.cell_mm)

    def run(self, progress: Progress = silent, report: Report = quiet) -> dict:
        """Score the batch; a volume that cannot be read is reported, and the batch is the others.

        Returns as `Detect.run`. Raises ZSADCLIPError before any work when the settings cannot work, UsageError for fewer than 5
        volumes, OutputError when results cannot be written, and whatever `progress` raises.
        """
        from ..detection.summary import SummaryRows, settler, write_summary

        self.check_settings()
        self.cut()
        cases = self.cases(report)
        check_size_of_batch(len(cases), report)
        ids = {case.id for case in cases}
        check_free(self.output, ids, (path for case in cases for path in (case.image, case.mask) if path), ids)
        with folder_lock(self.output) as token, SummaryRows(len(cases)) as table, kept(self):
            clear_temporaries(self.output, lambda name: is_of(name, ids) or name == SUMMARY)
            self.files.clear()
            settle = settler(table, report)
            rows = self.make_tokens(cases, token, sub_progress(progress, 0.0, SHARES["tokens"]))
            for n, case in enumerate(cases):
                if rows[case.id]["status"] != "done":
                    settle(n, rows[case.id])
            batch = [case for case in cases if rows[case.id]["status"] == "done"]
            check_size_of_batch(len(batch))
            facts = self._score(batch, rows, sub_progress(progress, SHARES["tokens"], SHARES["pairs"]))
            places = [n for n, case in enumerate(cases) if rows[case.id]["status"] == "done"]
            items = [self.item(case, "case", facts["key"], token) | {"facts": facts} for case in batch]
            share = sub_progress(progress, SHARES["pairs"], 1.0)
            execute(self, items, lambda n, row: settle(places[n], row), share)
            self.files.clear()
            write_summary(Path(self.output), [case.id for case in cases], (0, 1), table, self.key)
            result = {"cases": len(cases), "failed": table.failed, "skipped": table.kept, "output": self.output}
            return result | ({"failed_ids": table.failed_ids} if table.failed else {})

    def _score(self, batch: Sequence, rows: dict[str, dict], progress: Progress) -> dict:
        """Score the cells of all volumes, pass after pass; what results say of the batch.

        "cut" and "median" are quantiles over the cells of the batch, "key" a digest of all that a result depends on.
        """
        import numpy as np

        from ..neighbours.boxes import check_one_grid
        from ..neighbours.pairs import PairPlan
        from ..neighbours.stages import key_of, write_scores
        from ..neighbours.storing import read_facts

        ids = [case.id for case in batch]
        if self.reach is not None:
            check_one_grid({name: read_facts(self.files.tokens(name)) for name in ids})
        plan = PairPlan(ids, self.references, self.seed)
        seals = [rows[name]["seal"] for name in ids]
        tokens = key_of(self.token_key, ids, seals, plan.references, self.seed, self.drop, self.reach)
        intervals = [*[(0.0, 1.0)] * self.refine, tuple(self.interval)]
        for turn, interval in enumerate(intervals):
            share = sub_progress(progress, turn / len(intervals), (turn + 1) / len(intervals))
            self.compare(plan, turn, tokens, None, share)
            scores = [write_scores(self.files, plan, turn, name, interval, self.drop) for name in ids]
        self.files.keep(len(intervals), plan.blocks(), ids)
        cells = np.concatenate(scores)
        rule, quantile = self.threshold, self.cut()[1]
        return {
            "volumes": len(ids),
            "references": plan.references,
            "passes": [{"interval": list(interval)} for interval in intervals],
            "drop": self.drop if self.refine else None,
            "window_mm": self.window_mm,
            "cut": float(np.quantile(cells, quantile)),
            "rule": f"quantile:{quantile:g} over the cells of the batch",
            "median": float(np.median(cells)),
            "key": key_of(self.key, tokens, rule),
        }

    def cut(self):
        """How masks are cut, and the quantile over the batch that serves as the stored threshold; raises UsageError."""
        from ..detection.threshold import Threshold
        from ..neighbours.result import Cut

        finding = {"min_size_mm3": self.min_size_mm3, "min_depth_mm": self.min_depth_mm, "map_type": self.map_type}
        rule, _, number = self.threshold.partition(":")
        if rule != "batch":
            threshold = Threshold.parse(self.threshold)
            if threshold.rule == "checkpoint":
                raise UsageError("threshold checkpoint: a batch has none; choose batch:Q, a number or quantile:Q")
            return Cut(threshold, **finding), BATCH_QUANTILE
        try:
            quantile = float(number)
        except ValueError:
            quantile = float("nan")
        if not 0 < quantile < 1:
            raise UsageError(f"threshold {self.threshold!r}: expected batch:Q with 0 < Q < 1")
        return Cut(**finding), quantile

    def work(self, state: Callable[[], object], item: dict, progress: Progress) -> dict:
        from ..neighbours.detector import CohortDetector

        if item["step"] != "case":
            return super().work(state, item, progress)
        detector = CohortDetector(
            self.files, item["id"], self.tokens, self.cut()[0], item["facts"], notes_on(item["facts"])
        )
        return run_case(self.case_run, lambda: detector, item, progress)


def check_size_of_batch(count: int, report: Report = quiet) -> None:
    """Raise UsageError for fewer than 5 volumes; report a note for fewer than 16."""
    if count < LEAST:
        raise UsageError(
            f"{count} volumes cannot be scored against each other; expected {LEAST} or more, better {SUGGESTED}. A bank of "
            "healthy volumes scores even one: zsadclip bank build"
        )
    if count < SUGGESTED:
        report({"event": "note", "text": _few(count)})


def notes_on(facts: dict) -> tuple[Note, ...]:
    """What every result says of its batch."""
    count = facts["volumes"]
    within = Note(
        "batch", f"scored against {facts['references']} of {count - 1} others: scores hold within this batch only"
    )
    return (within, *([Note("few", _few(count))] if count < SUGGESTED else []))


def _few(count: int) -> str:
    return f"a batch of {count} volumes is small: what several share looks normal; {SUGGESTED} or more are better"
