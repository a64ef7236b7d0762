"""The plan of one training outside a benchmark."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

from ..files.digests import FileHashes
from .cohort import Cohort
from .plan import Machine, Maker
from .rows import Row
from .settings import Profile


def training_of(
    profile: Profile,
    method: str,
    cohort: Cohort | None,
    out: Path,
    machine: Machine,
    hashes: FileHashes,
    start: str | None = None,
) -> tuple[dict, list[tuple], dict]:
    """One training outside a benchmark: its specification, the arguments of its slice sets, and a row to score with.

    Without a cohort it trains on industrial images; `start` is an adapter file, None a random start. The specification's
    "identity" holds everything that adapter and threshold depend on, files by content.
    """
    maker = Maker(profile, cohort, out, machine, hashes)
    if cohort is None:
        settings = maker.start(method)["settings"]
        (spec,) = maker.industrial.values()
    row = maker.row(Row(method, "brats", "default", "random", "brain")) if cohort else {"method": method}
    if cohort is not None:
        (spec,) = maker.brain.values()
        others = ("row", "split", "test_data", "keep")
        settings = {name: value for name, value in row["settings"].items() if name not in others}
    places = [(folder, *arguments) for folder, (_, *arguments) in maker.slice_sets.items()]
    spec = {
        **spec,
        "folder": str(out),
        "start": start or spec["start"],
        "start_label": Path(start).name if start else "random",
        "identity": {"method": method, "start": hashes(start) if start else None, **_without_cache(settings)},
    }
    scoring = {"backbone": spec["backbone"], "source": str(out / "adapter.safetensors"), "overrides": {}}
    if cohort is not None:  # Detect, which reads the threshold, blurs as the adapter's own configuration says
        scoring["score"] = {**row["score"], "gaussian_sigma": None}
    return spec, places, {**row, **scoring, "folder": str(out / "threshold")}


def _without_cache(settings: dict) -> dict:
    """Settings of a training but for where its features are kept; half of their digits is another matter."""
    settings = deepcopy(settings)
    schedule = settings.get("schedule") or settings["adapter"]["training"]["schedule"]
    schedule["half"] = schedule.pop("cache") == "disk-half"
    return settings
