"""A Dask cluster from a batch system, described by a small TOML file (docs/scaling.md)."""

from __future__ import annotations

import re
from pathlib import Path

from .documents import parse_json
from .errors import DependencyError, UsageError

CLUSTERS = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster", "lsf": "LSFCluster"}
DEFAULTS = {"cores": 4, "memory": "16GB", "walltime": "04:00:00", "gpus": 0, "margin": 600, "jobs": 1}
TEXTS = ("queue", "account", "python", "local_directory", "log_directory", "interface")
KNOWN = {"kind", "options", *DEFAULTS, *TEXTS}


def read_cluster(path: str | Path) -> dict:
    """The [cluster] table of a TOML file, or the object of a JSON file, checked.

    kind             slurm, pbs, sge or lsf.
    cores, memory    of one job, whose single worker takes one case at a time.
    gpus             of one job; above 0 its worker announces the resource GPU=1.
    walltime         HH:MM:SS; `margin` seconds before its end a worker takes no more cases, ends and is replaced.
    jobs             how many, unless the command says --workers.
    options          passed to the dask-jobqueue class as they are.
    Raises UsageError for anything else.
    """
    path = Path(path)
    table = _read(path)
    table = table.get("cluster", table) if isinstance(table, dict) else table
    if not isinstance(table, dict) or table.get("kind") not in CLUSTERS:
        raise UsageError(f"the cluster file {path.name} needs kind = one of {', '.join(CLUSTERS)}")
    unknown = sorted(map(str, set(table) - KNOWN))
    if unknown:
        raise UsageError(f"the cluster file {path.name} has no setting {unknown[0]!r}; known are {sorted(KNOWN)}")
    table = DEFAULTS | table
    for name in ("cores", "gpus", "margin", "jobs"):
        if type(table[name]) is not int or table[name] < (name in ("cores", "jobs")):
            raise UsageError(f"{name} = {table[name]!r} in {path.name}: expected a whole number")
    for name in ("memory", "walltime", *TEXTS):
        if not isinstance(table.get(name, ""), str):
            raise UsageError(f"{name} = {table[name]!r} in {path.name}: expected text in quotes")
    if not isinstance(table.setdefault("options", {}), dict):
        raise UsageError(f"options in {path.name}: expected a table [cluster.options]")
    if _seconds(table["walltime"], path) <= table["margin"]:
        raise UsageError(
            f"walltime {table['walltime']} in {path.name} is not longer than the margin of {table['margin']} s"
        )
    return table


def cluster_arguments(table: dict, threads: int, path: Path) -> dict:
    """What the dask-jobqueue class is called with."""
    life = _seconds(table["walltime"], path) - table["margin"]
    extra = ["--lifetime", f"{life}s", "--lifetime-stagger", f"{min(60, life // 10)}s"]
    if table["gpus"]:
        extra += ["--resources", "GPU=1"]
    arguments = {name: table[name] for name in TEXTS if name in table}
    arguments |= {"cores": table["cores"], "memory": table["memory"], "walltime": table["walltime"]}
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    prologue = [f"export {name}={threads or table['cores']}" for name in names]
    options = dict(table["options"])
    arguments["worker_extra_args"] = extra + list(options.pop("worker_extra_args", []))
    arguments["job_script_prologue"] = prologue + list(options.pop("job_script_prologue", []))
    return arguments | {"processes": 1, "nanny": True} | options


def start_cluster(path: str | Path, jobs: int, threads: int):
    """The running cluster; it keeps the wanted number of jobs, also when the batch system ends some."""
    table = read_cluster(path)
    try:
        import dask_jobqueue
    except ImportError as error:
        raise DependencyError("a cluster file needs dask-jobqueue: pip install 'zsadclip[cluster]'") from error
    kind = getattr(dask_jobqueue, CLUSTERS[table["kind"]])
    try:
        cluster = kind(**cluster_arguments(table, threads, Path(path)))
        number = jobs or table["jobs"]
        cluster.adapt(minimum_jobs=number, maximum_jobs=number)
    except (TypeError, ValueError, OSError, RuntimeError) as error:
        raise UsageError(f"the cluster of {path} cannot be started: {error}") from error
    return cluster


def _read(path: Path) -> object:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() == ".json":
            return parse_json(text)
        try:
            import tomllib
        except ImportError as error:
            raise DependencyError(
                "reading TOML needs Python 3.11 or newer; here, write the same settings as a .json file"
            ) from error
        return tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"the cluster file {path.name} cannot be read: {error}") from error


def _seconds(text: str, path: Path) -> int:
    match = re.fullmatch(r"(\d{1,4}):([0-5]\d)(?::([0-5]\d))?", text)
    if not match:
        raise UsageError(f"walltime {text!r} in {path.name}: expected HH:MM:SS")
    return int(match[1]) * 3600 + int(match[2]) * 60 + int(match[3] or 0)
