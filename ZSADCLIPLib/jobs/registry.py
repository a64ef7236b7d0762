"""Everything that can be started is a job: a frozen, JSON-able dataclass with `run(progress, report)`."""

from __future__ import annotations

from dataclasses import Field, fields
from pathlib import Path

from ..benchmark.steps import Steps
from ..errors import InputError, UsageError
from ..files.text import parse_json
from .benchmark import Benchmark
from .detect import Detect
from .train import Train
from .weights import GetWeights

JOBS = {"detect": Detect, "train": Train, "benchmark": Benchmark, "steps": Steps, "weights": GetWeights}
TYPES = {"str": str, "int": int, "float": (int, float), "bool": bool, "dict": dict, "tuple": tuple, "None": type(None)}


def job_from_dict(data: dict):
    """A job from its JSON: {"job": name, ...fields}; raises UsageError naming unknown jobs and fields."""
    if not isinstance(data, dict) or data.get("job") not in list(JOBS):
        raise UsageError(f'a job needs "job": one of {", ".join(JOBS)}')
    kind = JOBS[data["job"]]
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k != "job"}
    unknown = sorted(set(values) - {f.name for f in fields(kind)})
    if unknown:
        raise UsageError(f"the job {data['job']} has no field {unknown[0]!r}")
    for each in fields(kind):
        if each.name in values and not _fits(values[each.name], each):
            raise UsageError(f"the job {data['job']} has {each.name} {values[each.name]!r:.60}; expected {each.type}")
    try:
        return kind(**values)
    except TypeError as error:
        raise UsageError(f"the job {data['job']}: {error}") from error


def _fits(value: object, described: Field) -> bool:
    """True when a JSON value is of one of the types that the field names."""
    named = [word.split("[")[0].strip() for word in str(described.type).split("|")]
    if isinstance(value, bool):
        return "bool" in named
    return any(word not in TYPES or isinstance(value, TYPES[word]) for word in named)


def read_job(path: str | Path):
    """A job from a JSON file."""
    try:
        return job_from_dict(parse_json(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(f"the job file {path} cannot be read: {error}") from error
