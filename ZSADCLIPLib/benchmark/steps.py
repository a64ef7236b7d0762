"""The steps of a benchmark as a job that any executor can spread: each item names a function and its plain arguments."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib import import_module
from typing import ClassVar

from ..datasets.records import Record
from ..errors import OutputError, describe
from ..execution import execute
from ..execution.base import Execution, failed
from ..fields import Count
from ..files.locks import is_held
from ..progress import Cancelled, Progress, silent
from .specs import CellSpec, RowSpec, SliceSpec, TrainingSpec, from_json, to_json

STEPS = {
    "brain": ("cohort:make_synthetic", (str, str, dict)),
    "slices": ("slices:build_slices", (SliceSpec, tuple[Record, ...])),
    "tokens": ("cells:make_tokens", (CellSpec, Record)),
    "cells": ("cells:score_cells", (CellSpec, int, str)),
    "train": ("tasks:train_adapter", (TrainingSpec,)),
    "threshold-case": ("tasks:score_training_case", (tuple[RowSpec, ...], Record)),
    "test-case": ("tasks:score_case", (tuple[RowSpec, ...], Record)),
}
"""A function by module and name, and the types of its arguments but for the progress, which travel as JSON."""
PAUSE = 0.5  # seconds between two looks for a share that is gone
CASES = ("tokens", "threshold-case", "test-case")


@dataclass(frozen=True)
class Step:
    """One step: an id for messages, a name of STEPS, arguments of the function but for its progress."""

    id: str
    name: str
    arguments: tuple


@dataclass(frozen=True, kw_only=True)
class Steps(Execution):
    """Runs steps; its fields say how. One CPU thread a process unless told otherwise, so that sums come out bit by bit the
    same however many processes there are. `home` is the locked output folder, without which no step begins."""

    threads: Count = 1
    home: str = ""

    kind: ClassVar[str] = "steps"

    @classmethod
    def like(cls, job: Execution, home: str) -> Steps:
        """Steps spread as `job` is, which holds the lock of `home`."""
        values = {f.name: getattr(job, f.name) for f in fields(Execution)}
        return cls(**{**values, "threads": job.threads or 1, "home": home})

    def limit(self, item: dict) -> float | None:
        """Cases have the time-out; trainings and what prepares them, on which many cases rest, take what they need."""
        return self.time_out if item["step"] in CASES else None

    @property
    def key(self) -> str:
        """Steps look at their own files, whatever the settings."""
        return ""

    def load(self, slot: int) -> None:
        """Give this process a GPU of its own where there are several; models are opened by the steps."""
        import torch

        if torch.cuda.is_available():
            torch.cuda.set_device(slot % torch.cuda.device_count())

    def work(self, state: Callable[[], None], item: dict, progress: Progress) -> dict:
        """Run one step; an error becomes its row. One that fails while the output's share is gone is tried again."""
        state()
        try:
            self.await_home(progress)
        except OutputError as error:
            return failed(item, describe(error))
        try:
            result = _call(item["step"], item["arguments"], progress)
        except Cancelled:
            raise
        except Exception as error:  # whatever it is, the other steps go on
            row = failed(item, describe(error))
        else:
            row = {"id": item["id"], "status": "done", "error": "", "failed": result.get("failed", {})}
        if (row["error"] or row["failed"]) and self.home and not is_held(self.home, shard=self.shard):
            return self.work(state, item, progress)
        return row

    def await_home(self, progress: Progress = silent) -> None:
        """Wait `patience` seconds for an output folder that is gone, so that nothing is written into its mount point.

        Raises OutputError when it does not come back.
        """
        began = time.monotonic()
        while self.home and not is_held(self.home, shard=self.shard):
            if time.monotonic() - began >= self.patience:
                raise OutputError(f"the output folder {self.home} is gone; is its share still connected?")
            progress(0.0, "waiting for a share that is gone")
            time.sleep(PAUSE)

    def run_all(self, steps: list[Step], settle: Callable[[Step, str, dict], None], progress: Progress) -> None:
        """Run steps in any order; `settle` hears of each with its error, "" when it is done, and {row: error} of the rows
        that failed in a step that is done for others."""
        items = [{"id": step.id, "step": step.name, "arguments": to_json(step.arguments)} for step in steps]
        execute(self, items, lambda n, row: settle(steps[n], row["error"], row.get("failed", {})), progress)


def _call(step: str, arguments: list, progress: Progress) -> dict:
    """What the function of a step returns for arguments from JSON."""
    target, kinds = STEPS[step]
    module, _, name = target.partition(":")
    values = [from_json(kind, value) for kind, value in zip(kinds, arguments, strict=True)]
    return getattr(import_module(f".{module}", __package__), name)(*values, progress=progress)
