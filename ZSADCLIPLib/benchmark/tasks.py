"""The steps of a benchmark row as functions of specifications: each writes its own files and does nothing when they are there.

So any executor can run the cases of a row anywhere that sees the folder.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from .. import __version__
from ..datasets.records import Record
from ..errors import InputError, describe
from ..evaluation.case import evaluate_case, regions_of, sketch_case
from ..evaluation.scales import DatasetScale
from ..evaluation.sketches import ScoreSketch
from ..evaluation.thresholds import froc_levels, from_sketches, parse_rule
from ..files.text import write_csv, write_json
from ..progress import Cancelled, Progress, silent, sub_progress
from ..volumes.components import slices_deep
from ..volumes.reading import read_volume, write_volume
from .anomalies import with_anomalies
from .clocks import Clock, logged_seconds, runtime_of
from .manifest import manifest_of
from .rowfolder import finish_row, make_panel, read_json, read_sketch, write_case, write_sketches
from .slices import CaseSlices, read_slices, training_slices
from .specs import HealthySlices, RowSpec, TrainingSpec


def train_adapter(spec: TrainingSpec, progress: Progress = silent) -> dict:
    """Train an adapter into the folder of `spec`: adapter.safetensors and training.csv.

    Goes on after the last complete epoch of an earlier run. Returns {"epochs", "loss"}, {"kept": True} when the file is there.
    """
    from ..adapters.checkpoint import load_adapter, save_adapter
    from ..training.fit import SliceSet, fit
    from ..training.schedule import selected_epoch
    from .models import open_backbone

    folder, target, schedule = Path(spec.folder), Path(spec.adapter), spec.schedule
    if target.is_file():
        return {"kept": True}
    clock = Clock(spec.backbone)
    backbone = open_backbone(spec.backbone)
    adapter = load_adapter(spec.start, backbone, spec.settings)
    data, validation = (arrays and SliceSet(*arrays) for arrays in training_slices(spec))
    working = folder / "training"
    before = logged_seconds(working / "training.csv")
    rows = fit(adapter, backbone, data, schedule, working, progress, spec.features, validation)
    epoch = selected_epoch(rows, schedule.select)
    training = {
        "epochs": len(rows),
        "batch_size": schedule.batch_size or adapter.config.batch_size,
        "learning_rate": adapter.config.learning_rate,
        "optimizer": type(adapter.optimizer()).__name__,
        "seed": schedule.seed,
        "slices": len(data),
        "lesion_slices": int(data.labels.sum()),
        "slices_seen": len(rows) * len(data),
        "subjects": spec.subjects,
        "domain": spec.domain,
        "start": spec.start_label,
        "augment": schedule.augment,
        "precision": schedule.precision,
        "loss": rows[epoch - 1]["total"],
    }
    if schedule.select != "last":
        training |= {"select": schedule.select, "selected_epoch": epoch}
    if validation is not None:
        training["validation_slices"] = len(validation)
    write_csv(folder / "training.csv", [{k: v for k, v in row.items() if k != "seconds"} for row in rows])
    clock.note(folder, "train", before + clock.seconds, epoch_seconds=[row["seconds"] for row in rows])
    # The log keeps its text form only: a file read back and written again must not differ.
    with open(folder / "training.csv", encoding="utf-8", newline="") as file:
        training["loss"] = float(list(csv.DictReader(file))[epoch - 1]["total"])
    save_adapter(target, adapter, backbone, {"training": training, "code_version": __version__})
    if (working / "tensorboard").is_dir():
        shutil.copytree(working / "tensorboard", folder / "tensorboard", dirs_exist_ok=True)
    shutil.rmtree(working, ignore_errors=True)
    return {"epochs": len(rows), "loss": training["loss"]}


def score_training_case(specs: Sequence[RowSpec], record: Record, progress: Progress = silent) -> dict:
    """Sketch the scores of one training case for rows that share a backbone: ROW/threshold/CASE.npz.

    Sketches "all" and "brain" by region, and "clean", the lesion-free slices within the row's region. A row of the setup healthy
    sees synthetic anomalies in the case's slices without lesion. Returns {"rows",
    "failed": {row id: error}}.
    """
    todo = [spec for spec in specs if not _sketch_path(spec, record.id).is_file()]
    if not todo:
        return {"rows": 0}
    clock = Clock(todo[0].backbone)
    failed, whole = {}, read_slices(record, todo[0].data, todo[0].slices)

    def sketch(spec: RowSpec, scores: np.ndarray, case: CaseSlices) -> None:
        low, high = _range(spec)
        region = spec.metrics.region
        sketches = sketch_case(scores, case.truth, case.brain, case.ignore, low, high, region)
        clean = ~case.truth.any(axis=(1, 2))
        where = regions_of(case.brain, case.ignore, case.truth, region)[region][clean]
        sketches["clean"] = ScoreSketch(low, high).add(scores[clean][where], np.zeros(int(where.sum()), bool))
        clock.note(Path(spec.folder), f"threshold-{record.id}", clock.seconds / len(todo))
        write_sketches(_sketch_path(spec, record.id), sketches)

    for made in dict.fromkeys(map(_healthy, todo)):
        specs = [spec for spec in todo if _healthy(spec) == made]
        case = whole if made is None else with_anomalies(whole, made)
        maps = _maps(specs, case, sub_progress(progress, 0.05, 0.9))
        failed |= _each(specs, maps, partial(sketch, case=case))
    return {"rows": len(todo) - len(failed), "failed": failed}


def _healthy(spec: RowSpec) -> HealthySlices | None:
    """What a row trained on where that was healthy slices: its thresholds come from synthetic anomalies, too."""
    trained = spec.training and spec.training.slices
    return trained if isinstance(trained, HealthySlices) else None


def settle_row(spec: RowSpec, progress: Progress = silent) -> dict:
    """Thresholds from the training sketches and the row's manifest: threshold.json and manifest.json.

    Raises InputError naming the row when no training case holds a lesion.
    """
    folder = Path(spec.folder)
    if (folder / "manifest.json").is_file() and (folder / "threshold.json").is_file():
        thresholds = read_json(folder / "threshold.json")["rules"]
        # Earlier versions lost thresholds below all scores to JSON's null, which only a volume's own threshold may be.
        if all(value is not None or parse_rule(name).source == "volume" for name, value in thresholds.items()):
            return thresholds
    paths = [_sketch_path(spec, case) for case in spec.threshold.cases]
    region = spec.metrics.region
    sketches, clean = [read_sketch(path, region) for path in paths], None
    for path in paths:
        one = read_sketch(path, "clean")
        clean = one if clean is None else clean.merge(one)
    thresholds = {}
    for name in spec.threshold.rules:
        rule = parse_rule(name)
        if rule.source != "test":  # found from the test sketches when the tables are made
            thresholds[name] = None if rule.source == "volume" else _from_sketches(spec, rule, sketches, clean)
    pooled = read_sketch(paths[0], region)
    for path in paths[1:]:
        pooled.merge(read_sketch(path, region))
    levels = froc_levels(pooled, spec.metrics.froc_levels) if spec.metrics.froc_levels else ()
    content = {"rules": thresholds, "levels": list(levels), "region": region, "cases": list(spec.threshold.cases)}
    if spec.backbone is not None and spec.score.scale == "minmax-dataset":
        content = _on_dataset_scale(content, paths)
    write_json(folder / "threshold.json", content)
    write_json(folder / "manifest.json", manifest_of(spec))
    progress(1.0, spec.row)
    return thresholds


def score_case(specs: Sequence[RowSpec], record: Record, progress: Progress = silent) -> dict:
    """Score and evaluate one test case for rows that share a backbone; needs their threshold.json.

    Returns {"case", "rows": {row id: Dice at the primary rule or None}, "failed": {row id: error}} of what was computed now.
    """
    todo = [spec for spec in specs if not (Path(spec.folder) / "cases" / f"{record.id}.json").is_file()]
    if not todo:
        return {"case": record.id, "rows": {}}
    clock = Clock(todo[0].backbone)
    case = read_slices(record, todo[0].data, todo[0].slices)
    maps, dice = _maps(todo, case, sub_progress(progress, 0.05, 0.7)), {}
    scored = clock.seconds / len(todo)

    def evaluate(spec: RowSpec, scores: np.ndarray) -> None:
        progress(0.7 + 0.3 * len(dice) / len(todo), f"{spec.row}: evaluating {record.id}")
        began = clock.seconds
        dice[spec.row] = _evaluate(spec, case, scores)
        clock.note(Path(spec.folder), f"test-{record.id}", scored + clock.seconds - began)

    failed = _each(todo, maps, evaluate)
    return {"case": record.id, "rows": dice, "failed": failed}


def _each(specs: Sequence[RowSpec], maps: list, work: Callable[[RowSpec, np.ndarray], None]) -> dict[str, str]:
    """Work on the map of each row; one that fails, or has an error for a map, is returned and stops no other."""
    failed = {}
    for spec, scores in zip(specs, maps, strict=True):
        try:
            if isinstance(scores, Exception):
                raise scores
            work(spec, scores)
        except Cancelled:
            raise
        except Exception as error:
            failed[spec.row] = describe(error)
    return failed


def _evaluate(spec: RowSpec, case: CaseSlices, scores: np.ndarray) -> float | None:
    folder, metrics = Path(spec.folder), spec.metrics
    threshold = read_json(folder / "threshold.json")
    low, high = _range(spec)
    if "limits" in threshold:
        line = DatasetScale(*threshold["limits"])
        scores, low, high = line(scores), line(low), line(high)
    evaluation = evaluate_case(
        scores,
        case.truth,
        case.brain,
        threshold["rules"],
        case.spacing,
        case.ignore,
        tuple(threshold["levels"]),
        metrics.min_component_mm3,
        metrics.region,
        metrics.aggregate == "slices",
        slices_deep(spec.score.min_depth_mm, case.spacing[2], len(case.image)),
    )
    sketches = None
    if spec.keep.sketches:
        sketches = sketch_case(scores, case.truth, case.brain, case.ignore, low, high, metrics.region)
    panel = make_panel(case.image, scores, case.truth, case.brain) if spec.keep.panels else None
    if spec.keep.maps:
        array = np.ascontiguousarray(case.stack.restore(scores), dtype=np.float32)
        write_volume(folder / "maps" / f"{case.record.id}.nii.gz", read_volume(case.record.image).with_array(array))
    write_case(folder, case.record.id, case.record.subject, evaluation, sketches, panel)
    counts = evaluation["rules"].get(spec.threshold.rule, {}).get(metrics.region)
    total = 2 * counts["tp"] + counts["fp"] + counts["fn"] if counts else 0
    return 2 * counts["tp"] / total if total else None


def close_row(spec: RowSpec, cases: list[str]) -> None:
    """Gather runtime.json from the notes of all steps and declare the row finished."""
    folder = Path(spec.folder)
    write_json(folder / "runtime.json", runtime_of(folder))
    finish_row(folder, cases)


def _on_dataset_scale(thresholds: dict, paths: list[Path]) -> dict:
    """Thresholds and levels of the sketches on the line from their lowest to their highest score; fixed ones are meant so."""
    everywhere = read_sketch(paths[0], "all")
    for path in paths[1:]:
        everywhere.merge(read_sketch(path, "all"))
    line = DatasetScale.over(everywhere)
    rules = {
        name: line(value) if value is not None and parse_rule(name).source == "train" else value
        for name, value in thresholds["rules"].items()
    }
    return {
        **thresholds,
        "rules": rules,
        "levels": [line(v) for v in thresholds["levels"]],
        "limits": [line.low, line.high],
    }


def _from_sketches(spec: RowSpec, rule, sketches, clean) -> float:
    try:
        return from_sketches(rule, sketches, clean)
    except InputError as error:
        raise InputError(f"row {spec.row}: {error}; give threshold.max_subjects more subjects") from error


def _maps(specs: Sequence[RowSpec], case: CaseSlices, progress: Progress) -> list[np.ndarray | Exception]:
    if specs[0].backbone is None:
        from ..evaluation.intensity_rank import equalised

        return [equalised(case.intensities, case.brain)] * len(specs)
    from .maps import row_maps

    return row_maps(specs, case, progress)


def _range(spec: RowSpec) -> tuple[float, float]:
    if spec.backbone is None:
        return 0.0, 1.0
    from .maps import range_of

    return range_of(spec)


def _sketch_path(spec: RowSpec, case: str) -> Path:
    return Path(spec.folder) / "threshold" / f"{case}.npz"
