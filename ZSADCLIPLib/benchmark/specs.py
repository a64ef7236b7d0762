"""What a benchmark does as frozen data, the way from it to JSON and back, and the keys of what it makes."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import NoneType
from typing import get_args, get_origin, get_type_hints

from ..files.digests import code_version, content_key
from ..training.schedule import Schedule
from .inputspecs import BackboneSpec, CellSpec, DataSpec
from .settings import Keep, Metrics, Score, Slices

ADAPTER = "adapter.safetensors"


@dataclass(frozen=True)
class BrainSlices:
    """Training slices of brains, below `folder`: `records` digests the cases, `rule` and `seed` choose among their slices."""

    folder: str
    records: str
    data: DataSpec
    slices: Slices
    rule: str
    seed: int
    masks: str = "half"


@dataclass(frozen=True)
class StackSlices(BrainSlices):
    """Training slices of brains, each with its neighbours at the offsets `context` in mm."""

    context: tuple[float, ...] = ()


@dataclass(frozen=True)
class HealthySlices(BrainSlices):
    """Slices of brains without lesion, each in `variants` versions with synthetic anomalies `within` the head or the image."""

    variants: int = 1
    within: str = "head"


@dataclass(frozen=True)
class ReferenceSlices:
    """`count` normal slices for a memory bank, drawn from cases in an order that `order` digests.

    With `abnormal`, as many slices with a lesion come after them: the support that a few-shot adapter trains on.
    """

    folder: str
    records: str
    order: str
    data: DataSpec
    slices: Slices
    seed: int
    count: int
    abnormal: int = 0
    masks: str = "half"

    @property
    def rule(self) -> str:
        """As the rule of training slices."""
        return f"support {self.count}+{self.abnormal} in the order {self.order}, seed {self.seed}"


@dataclass(frozen=True)
class IndustrialSlices:
    """`images` synthetic industrial images of `size` pixels, the first one of `seed`."""

    folder: str
    images: int
    seed: int
    size: int
    masks: str = "half"


SliceSpec = BrainSlices | StackSlices | HealthySlices | ReferenceSlices | IndustrialSlices


@dataclass(frozen=True)
class TrainingSpec:
    """One training into `folder`; `validation` chooses the epoch: slices of its own, or a share of the training ones.

    `start` is a file or "METHOD:random:SEED", `features` the folder of cached features, `prompts` the content of the file
    that the settings name, `subjects` the number of subjects (0: industrial images).
    """

    folder: str
    method: str
    backbone: BackboneSpec
    settings: dict
    prompts: dict | None
    schedule: Schedule
    slices: BrainSlices | StackSlices | HealthySlices | ReferenceSlices | IndustrialSlices
    validation: BrainSlices | StackSlices | HealthySlices | float | None
    max_slices: int | None
    subjects: int
    start: str
    start_label: str
    features: str

    @property
    def adapter(self) -> str:
        """The file that it writes."""
        return str(Path(self.folder) / ADAPTER)

    @property
    def domain(self) -> str:
        """What it trains on: "brain", "healthy" or "industrial"."""
        return {IndustrialSlices: "industrial", HealthySlices: "healthy"}.get(type(self.slices), "brain")

    @property
    def slice_folders(self) -> list[str]:
        """What has to be there before."""
        return [s.folder for s in (self.slices, self.validation) if isinstance(s, SliceSpec)]


@dataclass(frozen=True)
class AdapterSpec:
    """An adapter to score with: `source` is its file or method, `start_id` tells the content of an industrial start apart."""

    method: str
    backbone: BackboneSpec
    source: str
    overrides: dict = field(default_factory=dict)
    prompts: dict | None = None
    start_id: str | None = None
    reference: ReferenceSlices | None = None


@dataclass(frozen=True)
class ThresholdSpec:
    """The primary rule, all rules, and the ids of the training cases that thresholds are taken from."""

    rule: str
    rules: tuple[str, ...]
    cases: tuple[str, ...]


@dataclass(frozen=True)
class RowSpec:
    """One row in its folder; without `adapter` and `cells` it ranks intensities. `split` to `threshold_data` are digests."""

    row: str
    method: str
    start_label: str | None
    adapter: AdapterSpec | None
    training: TrainingSpec | None
    data: DataSpec
    slices: Slices
    score: Score
    threshold: ThresholdSpec
    metrics: Metrics
    keep: Keep
    split: str
    test_data: str
    threshold_data: str
    folder: str = ""
    cells: CellSpec | None = None

    @property
    def backbone(self) -> BackboneSpec | None:
        """The adapter's, or that of the cells."""
        model = self.adapter or self.cells
        return model and model.backbone

    @property
    def key(self) -> str:
        """12 hex digits of everything that the numbers depend on."""
        return content_key(row_settings(self))

    def into(self, folder: Path, trained: Path | None = None) -> RowSpec:
        """The row in a folder, where, or in `trained`, its training writes the adapter that it scores with."""
        if self.training is None:
            return replace(self, folder=str(folder))
        training = replace(self.training, folder=str(trained or folder))
        adapter = replace(self.adapter, source=training.adapter)
        return replace(self, folder=str(folder), training=training, adapter=adapter)


def row_settings(spec: RowSpec) -> dict:
    """Everything that the numbers of a row depend on, contents by their digests; its key digests this."""
    return to_json(
        {
            "row": spec.row,
            "code": code_version(),
            "split": spec.split,
            "test_data": spec.test_data,
            "threshold_data": spec.threshold_data,
            "data": spec.data,
            "slices": spec.slices,
            "score": spec.backbone and spec.score,
            "rules": spec.threshold.rules,
            "region": spec.metrics.region,
            "slice_ranking": spec.metrics.aggregate == "slices",
            "min_component_mm3": spec.metrics.min_component_mm3,
            "min_depth_mm": spec.score.min_depth_mm,
            "froc_levels": spec.metrics.froc_levels,
            "keep": spec.keep,
            "backbone": spec.backbone and _backbone_settings(spec.backbone),
            "adapter": spec.adapter and _adapter_settings(spec.adapter, spec.training),
            "cells": spec.cells and {k: getattr(spec.cells, k) for k in ("tokens", "settings", "train", "test")},
        }
    )


def _backbone_settings(spec: BackboneSpec) -> dict:
    contents = {"name": spec.model_id, "weights_id": spec.weights_id}
    return {**contents, "activation": spec.activation, "precision": spec.precision}


def _adapter_settings(spec: AdapterSpec, training: TrainingSpec | None) -> dict:
    settings = {"overrides": _with_prompts(spec.overrides, spec.prompts), "start": spec.start_id}
    if spec.reference:
        reference = spec.reference
        settings["reference"] = {"count": reference.count, "data": reference.records, "seed": reference.seed}
        settings["reference"]["order"] = reference.order
    if training:
        settings["training"] = {
            "settings": _with_prompts(training.settings, training.prompts),
            "schedule": training.schedule,
            "data": training.slices.records,
            "validation": training.validation and training.validation.records,
            "slices": training.slices.rule,
            "masks": training.slices.masks,
            "max_slices": training.max_slices,
        }
        if isinstance(training.slices, HealthySlices):
            settings["training"]["variants"] = training.slices.variants
            settings["training"]["within"] = training.slices.within
    return settings


def industrial_settings(spec: TrainingSpec) -> dict:
    """Everything that an adapter of industrial images depends on."""
    settings = {
        "code": code_version(),
        "method": spec.method,
        "backbone": spec.backbone.weights_id,
        "activation": spec.backbone.activation,
        "schedule": spec.schedule,
        "settings": _with_prompts(spec.settings, spec.prompts),
        "max_slices": spec.max_slices,
        "validation": spec.validation,
        "images": {k: v for k, v in to_json(spec.slices).items() if k != "folder"},
    }
    if spec.backbone.weights is not None:  # which may fit, or be random numbers for, several models
        settings["model"] = spec.backbone.model_id
    return to_json(settings)


def _with_prompts(settings: dict, prompts: dict | None) -> dict:
    return settings if prompts is None else {**settings, "prompts": prompts}


def slices_key(spec: SliceSpec) -> str:
    """12 hex digits of all that slices depend on."""
    return content_key({**to_json(replace(spec, folder="")), "code": code_version()})


def to_json(value):
    """Specifications, and what holds them, as JSON has it: dictionaries, lists and plain values."""
    if is_dataclass(value):
        return {f.name: to_json(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def from_json(kind, value):
    """What `to_json` was given, of type `kind`; among several dataclasses the one with the fields that are there."""
    if value is None:
        return None
    kinds = [k for k in get_args(kind) if k is not NoneType] if get_origin(kind) not in (tuple, dict) else []
    if kinds:
        named = [k for k in kinds if not is_dataclass(k) or _is_of(k, value)]
        return from_json(named[0], value)
    if is_dataclass(kind):
        hints = _hints(kind)
        return kind(**{name: from_json(hints[name], item) for name, item in value.items()})
    if get_origin(kind) is tuple:
        return tuple(from_json(get_args(kind)[0], item) for item in value)
    return Path(value) if kind is Path else value


def _is_of(kind, value) -> bool:
    return isinstance(value, dict) and {f.name for f in fields(kind)} == value.keys()


@lru_cache(maxsize=64)
def _hints(kind) -> dict:
    return get_type_hints(kind)
