"""Everything that can be started is a job: a frozen, JSON-able dataclass with `run(progress, report)`."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

from .benchmark_job import Benchmark
from .detect_job import Detect
from .errors import InputError, UsageError
from .steps import Steps
from .train_job import Train

JOBS = {"detect": Detect, "train": Train, "benchmark": Benchmark, "steps": Steps}


def job_from_dict(data: dict):
    """A job from its JSON: {"job": name, ...fields}; raises UsageError naming unknown jobs and fields."""
    if not isinstance(data, dict) or data.get("job") not in JOBS:
        raise UsageError(f'a job needs "job": one of {", ".join(JOBS)}')
    kind = JOBS[data["job"]]
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k != "job"}
    unknown = sorted(set(values) - {f.name for f in fields(kind)})
    if unknown:
        raise UsageError(f"the job {data['job']} has no field {unknown[0]!r}")
    try:
        return kind(**values)
    except TypeError as error:
        raise UsageError(f"the job {data['job']}: {error}") from error


def read_job(path: str | Path):
    """A job from a JSON file."""
    try:
        return job_from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(f"the job file {path} cannot be read: {error}") from error
