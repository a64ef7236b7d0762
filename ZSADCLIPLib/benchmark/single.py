"""One training outside a benchmark, enumerated; nothing is computed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ..files.digests import FileHashes
from .cohort import Cohort
from .identity import offsets_of
from .plan import Machine, Maker, SliceSets
from .rows import row_of
from .settings import Profile
from .specs import AdapterSpec, RowSpec, TrainingSpec, industrial_settings, row_settings


@dataclass(frozen=True)
class SinglePlan:
    """One training outside a benchmark.

    `scoring` is the trained adapter; `row` finds its threshold, None without brains; `identity` holds everything that adapter
    and threshold depend on, files by content.
    """

    training: TrainingSpec
    slice_sets: SliceSets
    scoring: AdapterSpec
    row: RowSpec | None
    identity: dict


def plan_single(
    profile: Profile,
    method: str,
    cohort: Cohort | None,
    out: Path,
    machine: Machine,
    hashes: FileHashes,
    start: str | None = None,
    setup: str = "brats",
) -> SinglePlan:
    """One training into `out`, on industrial images without a cohort; `start` is an adapter file, None a random start.

    `setup` is brats or healthy.
    """
    maker, row = Maker(profile, cohort, out, machine, hashes), None
    if cohort is None:
        maker.start(method)
        (training,) = maker.industrial.values()
        training, settings = replace(training, folder=str(out)), industrial_settings(training)
        schedule = settings["schedule"]
    else:
        row = maker.row(row_of(method, setup))
        settings = {k: v for k, v in row_settings(row).items() if k not in ("row", "split", "test_data", "keep")}
        schedule = settings["adapter"]["training"]["schedule"]
        row = row.into(out / "threshold", trained=out)
        # Detect, which reads the threshold, blurs as the adapter's own configuration says.
        row = replace(row, score=replace(row.score, gaussian_sigma=None))
        training = row.training
    if start:
        offsets_of(method, training.settings, start)
        training = replace(training, start=start, start_label=Path(start).name)
    schedule["half"] = schedule.pop("cache") == "disk-half"  # where features are kept is no matter, their digits are
    scoring = AdapterSpec(method, training.backbone, training.adapter)
    row = row and replace(row, adapter=scoring, training=training)
    identity = {"method": method, "start": hashes(start) if start else None, **settings}
    return SinglePlan(training, tuple(maker.slice_sets.values()), scoring, row, identity)
