"""A benchmark run, or one training, enumerated: rows with their keys and folders, and what they need; nothing is computed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ..adapters.registry import METHODS
from ..datasets.records import Record
from ..datasets.splits import shuffled
from ..errors import UsageError
from ..files.digests import FileHashes, content_key
from ..training.schedule import Schedule
from .cells import cell_spec
from .cohort import Cohort
from .identity import Start, check_settings, model_id, offsets_of, prompts_of, published, weights_id
from .rowfolder import row_folder
from .rows import FEW_SHOT, SHOTS, Row, row_without
from .settings import MethodSettings, Profile
from .specs import (
    AdapterSpec,
    BackboneSpec,
    BrainSlices,
    DataSpec,
    HealthySlices,
    IndustrialSlices,
    ReferenceSlices,
    RowSpec,
    SliceSpec,
    StackSlices,
    ThresholdSpec,
    TrainingSpec,
    industrial_settings,
    row_settings,
    slices_key,
    to_json,
)

SHARED = ("seed", "cache", "augment", "precision", "select")
"""What a schedule has from the profile's section train, alike for all methods."""


@dataclass(frozen=True)
class Machine:
    """Where a run computes; its numbers do not depend on it beyond rounding."""

    device: str = "auto"
    precision: str = "float32"
    weights_dir: str | None = None


SliceSets = tuple[tuple[SliceSpec, tuple[Record, ...]], ...]
"""Slices to make, each with the cases that they are cut from (none for industrial images)."""


@dataclass(frozen=True)
class Plan:
    """Rows in table order, the adapters that are trained on industrial images, and all sets of slices."""

    out: Path
    profile: Profile
    cohort: Cohort
    rows: tuple[RowSpec, ...]
    industrial: tuple[TrainingSpec, ...]
    slice_sets: SliceSets


def make_plan(
    profile: Profile, rows: tuple[Row, ...], cohort: Cohort, out: Path, machine: Machine, hashes: FileHashes
) -> Plan:
    """Everything a run will do; raises UsageError or WeightsError for what cannot work, before any of it starts."""
    maker = Maker(profile, cohort, out, machine, hashes)
    specs = tuple(maker.row(row) for row in rows)
    return Plan(out, profile, cohort, specs, tuple(maker.industrial.values()), tuple(maker.slice_sets.values()))


class Maker:
    """Collects the specifications of rows, with the trainings and slice sets they need."""

    def __init__(self, profile: Profile, cohort: Cohort | None, out: Path, machine: Machine, hashes: FileHashes):
        self.profile, self.cohort, self.out, self.machine, self.hashes = profile, cohort, out, machine, hashes
        self.industrial: dict[str, TrainingSpec] = {}  # by folder, as several rows start from one
        self.slice_sets: dict[str, tuple[SliceSpec, tuple[Record, ...]]] = {}
        for name, options in profile.methods.items():
            check_settings(name, options.settings)

    def row(self, row: Row) -> RowSpec:
        """The specification of a row; adapters and slices it needs are added to the plan."""
        profile, adapter, training, cells = self.profile, None, None, None
        start = self.start(row.method) if row.start == "industrial" else None
        records = self._threshold_records(row)
        if row.method not in METHODS and row.backbone is not None:
            backbone = self._backbone(row.backbone, row.method)
            cells = cell_spec(row.method, profile, backbone, self._data(), self.cohort, records, self.out)
        elif row.backbone is not None:
            adapter = self._adapter(row, start)
            if row.trained_on == "support":
                training = self._support_training(row, adapter.backbone)
            elif row.trained_on:
                training = self._brain_training(row, adapter.backbone, start)
        cases = tuple(record.id for record in records)
        spec = RowSpec(
            row=row.id,
            method=row.method,
            start_label=start.label if start else row.start,
            adapter=adapter,
            training=training,
            data=self._data(),
            slices=profile.slices,
            score=replace(profile.score, **row.evidence.score),
            threshold=ThresholdSpec(profile.threshold.rule, profile.threshold.rules, cases),
            metrics=profile.metrics,
            keep=profile.keep,
            split=self.cohort.split.sha256[:16],
            test_data=self.cohort.digest(self.cohort.side("test")),
            threshold_data=self.cohort.digest(records),
            cells=cells,
        )
        # Where scoring alone differs, the other row's training serves both.
        other = None if row.evidence.settings else row_without(row)
        trained = Path(self.row(other).folder) if training and other not in (None, row) else None
        return spec.into(row_folder(self.out, row.id, row_settings(spec)), trained)

    def _options(self, row: Row) -> MethodSettings:
        """The training settings of a row: its method's, and its own where the profile does not say otherwise."""
        options = self.profile.method(row.method)
        if row.setup == FEW_SHOT:
            options = replace(options, kshot=options.kshot or SHOTS)
        return replace(options, settings={**row.settings, **options.settings})

    def _adapter(self, row: Row, start: Start | None) -> AdapterSpec:
        options = self._options(row)
        overrides, count = self._overrides(row.method, options.settings), options.kshot
        backbone, source = self._backbone(row.backbone, row.method), start.source if start else row.method
        reference = self._reference(count) if count and METHODS[row.method].memory_bank else None
        return AdapterSpec(
            row.method, backbone, source, overrides, prompts_of(overrides), start and start.id, reference
        )

    def _brain_training(self, row: Row, backbone: BackboneSpec, start: Start | None) -> TrainingSpec:
        profile, options = self.profile, self._options(row)
        seed = None if profile.train.subset == "first" else profile.split.seed
        records = self.cohort.training(options.max_subjects, seed)
        context, cut = offsets_of(row.method, options.settings, start and start.file), self._brain_slices
        if row.trained_on == "healthy":
            records, cut = self._healthy_records(row, records, context), self._healthy_slices
        records, others = self._held_out(records)
        training = self._training(row.method, options, backbone, cut(records, context))
        return replace(
            training,
            validation=cut(others, context) if others else None,
            subjects=len({record.subject for record in records}),
            start=start.source if start else training.start,
            start_label=start.label if start else row.start,
        )

    def _threshold_records(self, row: Row) -> tuple[Record, ...]:
        """The training cases that give thresholds; those of a healthy row do not train."""
        profile, count = self.profile, self.profile.threshold.max_subjects
        if row.trained_on == "healthy":
            subjects = len({record.subject for record in self.cohort.side("train")})
            count = max(1, min(count or round(profile.train.validation * subjects), subjects - 1))
        return self.cohort.training(count, profile.split.seed, last=True)

    def _healthy_records(self, row: Row, records: tuple[Record, ...], context: tuple[float, ...]) -> tuple[Record, ...]:
        """The records without those that give the threshold, unless there is no other one."""
        score = self.profile.score
        if context or score.smooth_mm or len(score.planes) > 1:
            raise UsageError(
                f"{row.id}: synthetic anomalies are drawn in single axial slices; leave the method's context, score.planes and "
                "score.smooth_mm out"
            )
        held = {record.subject for record in self._threshold_records(row)}
        return tuple(record for record in records if record.subject not in held) or records

    def _healthy_slices(self, records: tuple[Record, ...], context: tuple[float, ...]) -> HealthySlices:
        profile, made = self.profile, self.profile.healthy
        spec = HealthySlices(
            folder="",
            records=self.cohort.digest(records),
            data=self._data(),
            slices=profile.slices,
            rule=f"healthy+{made.slices}",
            seed=profile.train.seed,
            variants=made.variants,
            within=made.within,
        )
        return self._slice_set(spec, records)

    def _support_training(self, row: Row, backbone: BackboneSpec) -> TrainingSpec:
        """A training on `kshot` normal slices, those of a memory bank, and as many abnormal ones, all in fixed versions."""
        options = replace(
            self._options(row), epochs=None, batch_size=None, max_slices=None
        )  # those are for many slices
        training = self._training(row.method, options, backbone, self._reference(options.kshot, options.kshot))
        schedule = replace(training.schedule, augment=METHODS[row.method].versions, select="last")
        subjects = len({record.subject for record in self.cohort.side("train")})
        return replace(training, schedule=schedule, subjects=min(options.kshot, subjects))

    def _reference(self, count: int, abnormal: int = 0) -> ReferenceSlices:
        """The normal slices of a memory bank, of all training subjects in their seeded order, and abnormal ones beside them."""
        profile = self.profile
        order = shuffled((record.subject for record in self.cohort.side("train")), profile.split.seed)
        records = sorted(self.cohort.side("train"), key=lambda record: (order.index(record.subject), record.id))
        digest, ids = self.cohort.digest(tuple(records)), content_key([record.id for record in records])
        drawn = (profile.train.seed, count, abnormal, profile.train.masks)
        spec = ReferenceSlices("", digest, ids, self._data(), profile.slices, *drawn)
        return self._slice_set(spec, records)

    def _held_out(self, records: tuple) -> tuple[tuple, tuple]:
        """Training records, and those of the subjects that choose the epoch: the last ones of the seeded order."""
        train = self.profile.train
        if train.select != "best-val-f1":
            return records, ()
        order = shuffled((record.subject for record in records), self.profile.split.seed)
        count = max(1, round(train.validation * len(order)))
        if count >= len(order):
            raise UsageError(
                f"profile {self.profile.name}: train.validation {train.validation:g} of {len(order)} training subjects leaves "
                "none to train on; give more subjects, a smaller share, or train.select last"
            )
        last = set(order[-count:])
        return tuple(r for r in records if r.subject not in last), tuple(r for r in records if r.subject in last)

    def _backbone(self, role: str, method: str) -> BackboneSpec:
        model, machine = self.profile.backbone(role, method), self.machine
        known = METHODS[method].activation if method in METHODS else {}
        activation = model.activation or known.get(str(model.name))
        ids = model_id(model, self.hashes), weights_id(model, machine.weights_dir, self.hashes)
        where = machine.device, machine.precision, machine.weights_dir
        return BackboneSpec(model.name, model.weights, activation, *where, *ids)

    def _overrides(self, method: str, settings: dict) -> dict:
        """Config fields of scoring; those that only training reads stay with the adapter."""
        score, kind = self.profile.score, METHODS[method].load()
        overrides = {k: v for k, v in settings.items() if k not in kind.training_only}
        return overrides | {"upsample": score.upsample} | (kind.unblurred if score.gaussian_sigma is not None else {})

    def _training(
        self, method: str, options: MethodSettings, backbone: BackboneSpec, slices: SliceSpec
    ) -> TrainingSpec:
        """A training from a random start, without a folder yet."""
        train = self.profile.train
        # `--precision` is that of scoring: an adapter is the same whatever it scores in.
        backbone = replace(backbone, precision="float32")
        shared = {"slices": Path(slices.folder).name, "limit": options.max_slices, "method": method}
        shared |= {"settings": options.settings, "backbone": replace(backbone, name=backbone.model_id)}
        shared |= {"half": train.cache == "disk-half"}
        shared |= {"seed": train.seed} if options.max_slices else {}  # which slices the limit leaves
        return TrainingSpec(
            folder="",
            method=method,
            backbone=backbone,
            settings=options.settings,
            prompts=prompts_of(options.settings),
            schedule=Schedule(options.epochs, options.batch_size, **{k: getattr(train, k) for k in SHARED}),
            slices=slices,
            validation=None,
            max_slices=options.max_slices,
            subjects=0,
            start=f"{method}:random:{train.seed}",
            start_label="random",
            features=str(self.out / "features" / content_key(to_json(shared))),
        )

    def _data(self) -> DataSpec:
        data = self.profile.data
        return DataSpec(data.channel, data.target, tuple(data.ignore), data.placement, tuple(data.allow))

    def _brain_slices(self, records: tuple[Record, ...], context: tuple[float, ...]) -> BrainSlices:
        train, digest = self.profile.train, self.cohort.digest(records)
        spec = BrainSlices("", digest, self._data(), self.profile.slices, train.slices, train.seed, train.masks)
        if context:
            spec = StackSlices(**vars(spec), context=context)
        return self._slice_set(spec, records)

    def _slice_set(self, spec: SliceSpec, records: tuple[Record, ...] = ()) -> SliceSpec:
        """Slices in their folder, as they are added to the plan."""
        spec = replace(spec, folder=str(self.out / "slices" / slices_key(spec)))
        self.slice_sets[spec.folder] = (spec, tuple(records))
        return spec

    def start(self, name: str) -> Start:
        """The industrial adapter of a method: the given file, or one trained on the synthetic industrial images."""
        profile, method = self.profile, self.profile.method(name)
        if method.industrial is not None:
            path = published(name, method.industrial, self.machine.weights_dir)
            digest = self.hashes(path)[:16]
            return Start(str(path), digest, f"{path.name} sha256 {digest}", str(path))
        images = profile.industrial.images
        if images < 1:
            raise UsageError(
                f"profile {profile.name}: {name} has no industrial adapter: give methods.{name}.industrial "
                "a file, or industrial.images a number to train one"
            )
        if offsets_of(name, method.settings):
            raise UsageError(
                f"profile {profile.name}: an industrial {name} trains on single images, which have no neighbours; leave its "
                "context out, or choose rows that start at random on brains"
            )
        spec = IndustrialSlices("", images, profile.industrial.seed, profile.slices.image_size, profile.train.masks)
        training = self._training(name, method, self._backbone("default", name), self._slice_set(spec))
        if profile.train.select == "best-val-f1":
            training = replace(training, validation=profile.train.validation)
        key = content_key(industrial_settings(training))
        training = replace(training, folder=str(self.out / "adapters" / f"{name}-{key}"))
        self.industrial[training.folder] = training
        return Start(training.adapter, key, f"trained on {images} synthetic industrial images, key {key}")
