"""The job behind `zsadclip bank build`: healthy volumes in, a bank of their tokens out; no masks."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from ..errors import InputError, UsageError
from ..execution import kept
from ..fields import Count, flag
from ..files.locks import folder_lock
from ..progress import Progress, Report, quiet, silent, sub_progress
from .comparison import Comparison, refuse_failed


@dataclass(frozen=True)
class BuildBank(Comparison):
    """Build a bank of healthy volumes.

    output      the file; OUTPUT.parts beside it keeps what is done until the bank is written.
    max_tokens  tokens that are kept, each volume giving the same share; 0 keeps all.
    keep        which of a volume's: a coreset, always the one farthest from those that are kept, or drawn by `seed`.
    """

    output: str = flag("-o", "--output", metavar="FILE", help="the bank")
    max_tokens: Count = flag(default=0, metavar="N", help="tokens to keep (default: all)")
    keep: Literal["coreset", "drawn"] = flag(
        default="coreset", help="which: those that cover the others best, or a draw"
    )

    kind: ClassVar[str] = "bank"

    @property
    def root(self) -> Path:
        path = Path(self.output)
        return path.with_name(f"{path.name}.parts")

    def run(self, progress: Progress = silent, report: Report = quiet) -> dict:
        """Build the bank; a run that was killed goes on.

        Returns {"cases", "tokens", "threshold", "output"}, the threshold None for a single volume. Raises ZSADCLIPError before
        any work when the settings cannot work, InputError when a volume cannot be used, and whatever `progress` raises.
        """
        self.check_settings()
        self._check_output()
        cases = self.cases(report)
        with folder_lock(self.root) as token, kept(self):
            rows = self.make_tokens(cases, token, sub_progress(progress, 0.0, 0.7))
            for row in rows.values():
                report({"event": "case", **row})
            cases = [case for case in cases if rows[case.id]["status"] != "left out"]
            refuse_failed({case.id: rows[case.id] for case in cases})
            bank = self._build(cases, rows, token, progress)
            bank.save(self.output)
        shutil.rmtree(self.root, ignore_errors=True)
        progress(1.0, "done")
        return {"cases": bank.volumes, "tokens": len(bank.tokens), "threshold": bank.threshold, "output": self.output}

    def work(self, state: Callable[[], object], item: dict, progress: Progress) -> dict:
        from ..neighbours.stages import work_on_counts

        if item["step"] == "counts":
            return work_on_counts(self.case_run, self.files, item, self.tokens, progress)
        return super().work(state, item, progress)

    def _check_output(self) -> None:
        """Raise UsageError when the bank would take the place of something else."""
        from ..neighbours.bank import FORMAT
        from ..neighbours.storing import read_facts

        path = Path(self.output)
        try:
            mine = not path.exists() or read_facts(path).get("format") == FORMAT
        except InputError:
            mine = False
        if not mine:
            raise UsageError(f"{path.name} is there and is no bank; choose another name, or move it away")

    def _build(self, cases: list, rows: dict[str, dict], token: str, progress: Progress):
        from ..neighbours.bank import TokenBank, display_range, joined, sample
        from ..neighbours.stages import kept_of, read_tokens
        from ..neighbours.storing import read_facts
        from ..neighbours.tokens import VolumeTokens

        ids = [case.id for case in cases]
        if not ids:
            raise InputError("there is no volume to build a bank of; name healthy volumes")
        counts = [rows[name]["cells"] for name in ids]
        drawn = (counts, self.max_tokens, self.seed)
        kept = sample(*drawn)  # too few are said before pairs are compared
        threshold, median = self._cut(cases, rows, {"of": drawn, "ids": ids, "keep": self.keep}, token, progress)
        parts = [read_tokens(self.files.tokens(name)) for name in ids]
        if self.keep == "coreset":
            kept = [
                kept_of(self.files, name, part.tokens, len(at)) for name, part, at in zip(ids, parts, kept, strict=True)
            ]
        parts = [VolumeTokens(part.cells[at], part.tokens[at]) for part, at in zip(parts, kept, strict=True)]
        return TokenBank(
            *joined(parts),
            backbone=read_facts(self.files.tokens(ids[0]))["backbone"],
            settings=self.tokens,
            interval=tuple(self.interval),
            threshold=threshold,
            display=display_range(threshold, median),
            seen=sum(counts),
        )

    def _cut(
        self, cases: list, rows: dict[str, dict], sample: dict, token: str, progress: Progress
    ) -> tuple[float | None, float]:
        """Threshold and median of the volumes' scores, each scored by the others; (None, 0) for a single volume."""
        from ..neighbours.bank import healthy_cut
        from ..neighbours.pairs import PairPlan
        from ..neighbours.stages import key_of, read_counts, write_scores

        if len(cases) < 2:
            return None, 0.0
        ids = [case.id for case in cases]
        plan, batch = PairPlan(ids, len(ids)), key_of(self.key, ids, [rows[name]["seal"] for name in ids])
        self.compare(plan, 0, batch, sample, sub_progress(progress, 0.7, 0.9))
        for name in ids:
            write_scores(self.files, plan, 0, name, self.interval)
        items = [self.item(case, "counts", batch, token) for case in cases]
        refuse_failed(self.rows_of(items, sub_progress(progress, 0.9, 1.0)))
        return healthy_cut(read_counts([self.files.counts(name) for name in ids]))
