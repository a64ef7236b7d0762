"""Everything that can be started is a job: a frozen, JSON-able dataclass with `run(progress, report)`."""

from __future__ import annotations

from pathlib import Path

from ..benchmark.steps import Steps
from ..errors import InputError, UsageError
from ..fields import from_dict
from ..files.text import parse_json
from .bank import BuildBank
from .benchmark import Benchmark
from .brain import FindBrain
from .cohort import Cohort
from .detect import Detect
from .evaluate import Evaluate
from .remote import RemoteDetect
from .review import Review
from .train import Train
from .weights import GetWeights

JOBS = {
    "detect": Detect,
    "bank": BuildBank,
    "brain": FindBrain,
    "cohort": Cohort,
    "evaluate": Evaluate,
    "review": Review,
    "train": Train,
    "benchmark": Benchmark,
    "steps": Steps,
    "weights": GetWeights,
    "remote": RemoteDetect,
}


def job_from_dict(data: dict):
    """A job from its JSON: {"job": name, ...fields}; raises UsageError naming unknown jobs and fields."""
    if not isinstance(data, dict) or data.get("job") not in list(JOBS):
        raise UsageError(f'a job needs "job": one of {", ".join(JOBS)}')
    values = {key: value for key, value in data.items() if key != "job"}
    return from_dict(JOBS[data["job"]], values, f"the job {data['job']}:")


def read_job(path: str | Path):
    """A job from a JSON file."""
    try:
        return job_from_dict(parse_json(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(f"the job file {path} cannot be read: {error}") from error
