"""A benchmark run enumerated: rows with their keys and folders, trainings, and tasks; nothing is computed here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from ..adapters.registry import METHODS
from ..datasets.splits import shuffled
from ..errors import UsageError
from ..files.digests import FileHashes, content_key
from .cohort import Cohort
from .identity import check_settings, model_id, published, settings_id, weights_id
from .rowfolder import row_folder
from .rows import Row
from .settings import Model, Profile
from .slices import record_to

CODE = 1  # raised whenever the numbers of a row would change for the same settings
EVALUATION = 2  # likewise, where slices and industrial adapters stay as they are


@dataclass(frozen=True)
class Machine:
    """Where a run computes; its numbers do not depend on it beyond rounding."""

    device: str = "auto"
    precision: str = "float32"
    weights_dir: str | None = None


@dataclass(frozen=True)
class Plan:
    """Specifications as plain data: rows in table order, adapter trainings by folder, slice sets by folder."""

    out: Path
    profile: Profile
    cohort: Cohort
    rows: tuple[dict, ...]
    industrial: tuple[dict, ...]
    brain: tuple[dict, ...]
    slice_sets: dict[str, tuple]

    def groups(self, rows: list[dict]) -> list[list[dict]]:
        """Rows that share a backbone and method, whose frozen features one pass gives."""
        found: dict[str, list[dict]] = {}
        for spec in rows:
            found.setdefault(content_key({"method": spec["method"], "backbone": spec["backbone"]}), []).append(spec)
        return list(found.values())


def make_plan(
    profile: Profile, rows: tuple[Row, ...], cohort: Cohort, out: Path, machine: Machine, hashes: FileHashes
) -> Plan:
    """Everything a run will do; raises UsageError or WeightsError for what cannot work, before any of it starts."""
    maker = Maker(profile, cohort, out, machine, hashes)
    specs = tuple(maker.row(row) for row in rows)
    return Plan(
        out,
        profile,
        cohort,
        specs,
        tuple(maker.industrial.values()),
        tuple(maker.brain.values()),
        maker.slice_sets,
    )


class Maker:
    """Collects the specifications of rows, with the trainings and slice sets they need."""

    def __init__(self, profile: Profile, cohort: Cohort, out: Path, machine: Machine, hashes: FileHashes):
        self.profile, self.cohort, self.out, self.machine, self.hashes = profile, cohort, out, machine, hashes
        self.industrial: dict[str, dict] = {}
        self.brain: dict[str, dict] = {}
        self.slice_sets: dict[str, tuple] = {}
        for name, chosen in profile.methods.items():
            check_settings(name, chosen.settings)

    def row(self, row: Row) -> dict:
        """The specification of a row; adapters and slices it needs are added to the plan."""
        profile = self.profile
        limit, seed = profile.threshold.max_subjects, profile.split.seed
        held = self.cohort.training(limit, seed, last=True)
        settings = {
            "row": row.id,
            "code": CODE,
            "evaluation": EVALUATION,
            "split": self.cohort.split.sha256[:16],
            "test_data": self.cohort.digest(self.cohort.side("test")),
            "threshold_data": self.cohort.digest(held),
            "data": self._reading(),
            "slices": asdict(profile.slices),
            "score": asdict(profile.score) if row.backbone else None,
            "rules": profile.threshold.rules,
            "region": profile.metrics.region,
            "slice_ranking": profile.metrics.aggregate == "slices",
            "min_component_mm3": profile.metrics.min_component_mm3,
            "froc_levels": profile.metrics.froc_levels,
            "keep": asdict(profile.keep),
            "backbone": None,
            "adapter": None,
        }
        spec = {
            "row": row.id,
            "method": row.method,
            "setup": row.setup,
            "trained_on": row.trained_on,
            "backbone": None,
            "overrides": {},
            "source": None,
            "start_label": row.start,
            "data": settings["data"],
            "slices": settings["slices"],
            "score": asdict(profile.score),
            "threshold": {
                "rule": profile.threshold.rule,
                "rules": list(profile.threshold.rules),
                "cases": [record.id for record in held],
            },
            "metrics": asdict(profile.metrics),
            "keep": asdict(profile.keep),
        }
        if row.backbone is not None:
            self._model(row, settings, spec)
        spec["key"] = content_key(_plain(settings))
        spec["folder"] = str(row_folder(self.out, row.id, _plain(settings)))
        spec["settings"] = _plain(settings)
        if row.trained_on is not None:
            training = {**spec.pop("training"), "folder": spec["folder"]}
            self.brain[spec["folder"]] = training
            spec["source"] = str(Path(spec["folder"]) / "adapter.safetensors")
        return spec

    def _model(self, row: Row, settings: dict, spec: dict) -> None:
        profile, chosen = self.profile, self.profile.method(row.method)
        start = self.start(row.method) if row.start == "industrial" else None
        model = profile.backbone(row.backbone, row.method)
        spec["backbone"] = self._backbone(model, row.method)
        spec["overrides"] = self._overrides(row.method)
        settings["backbone"] = {
            "name": model_id(model, self.hashes),
            "weights_id": weights_id(model, self.machine.weights_dir, self.hashes),
            "activation": spec["backbone"]["activation"],
            "precision": self.machine.precision,
        }
        spec["source"] = start["source"] if start else row.method
        settings["adapter"] = {"overrides": settings_id(spec["overrides"]), "start": start and start["id"]}
        if chosen.kshot:
            spec["reference"], settings["adapter"]["reference"] = self._reference(chosen.kshot)
        spec["start_label"] = start["label"] if start else row.start
        if row.trained_on is None:
            return
        first = profile.train.subset == "first"
        records = self.cohort.training(chosen.max_subjects, None if first else profile.split.seed)
        records, held = self._held_out(records)
        place = self._slices({"brain": self.cohort.digest(records)}, "brain-slices", records)
        validation = self._slices({"brain": self.cohort.digest(held)}, "brain-slices", held) if held else None
        settings["adapter"]["training"] = {
            "settings": settings_id(chosen.settings),
            "schedule": self._schedule(row.method),
            "data": self.cohort.digest(records),
            "validation": self.cohort.digest(held) if held else None,
            "slices": profile.train.slices,
            "masks": profile.train.masks,
            "max_slices": chosen.max_slices,
        }
        spec["training"] = self._training(row.method, spec["backbone"], place, len({r.subject for r in records})) | {
            "start": start["source"] if start else f"{row.method}:random:{profile.train.seed}",
            "start_label": spec["start_label"],
            "domain": "brain",
            "validation": {"slices": validation} if held else None,
        }

    def _reference(self, count: int) -> tuple[str, dict]:
        """The folder of the normal slices of VAND's memory bank, of all training subjects in their seeded order, and its id."""
        profile = self.profile
        order = shuffled((record.subject for record in self.cohort.side("train")), profile.split.seed)
        records = sorted(self.cohort.side("train"), key=lambda record: (order.index(record.subject), record.id))
        spec = {"data": self._reading(), "slices": asdict(profile.slices), "seed": profile.train.seed, "count": count}
        identity = {**_plain(spec), "brain": self.cohort.digest(tuple(records)), "code": CODE}
        identity["order"] = [record.id for record in records]
        folder = str(self.out / "slices" / content_key(identity))
        self.slice_sets[folder] = ("reference-slices", [record_to(record) for record in records], spec)
        key = {"count": count, "data": identity["brain"], "seed": profile.train.seed}
        return folder, {**key, "order": content_key(identity["order"])}

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
        held = set(order[-count:])
        return tuple(r for r in records if r.subject not in held), tuple(r for r in records if r.subject in held)

    def _backbone(self, model: Model, method: str) -> dict:
        return {
            "name": model.name,
            "weights": model.weights,
            "activation": model.activation or METHODS[method].activation.get(str(model.name)),
            "device": self.machine.device,
            "precision": self.machine.precision,
            "weights_dir": self.machine.weights_dir,
        }

    def _overrides(self, method: str) -> dict:
        """Config fields of scoring; those that only training reads stay with the adapter."""
        score, given = self.profile.score, self.profile.method(method).settings
        overrides = {k: v for k, v in given.items() if k not in ("dice", "learning_rate")}
        overrides["upsample"] = score.upsample
        if score.gaussian_sigma is not None and method in ("adaclip", "anomalyclip"):
            overrides["sigma"] = 0.0
        return overrides

    def _schedule(self, method: str) -> dict:
        chosen, train = self.profile.method(method), self.profile.train
        return {
            "epochs": chosen.epochs,
            "batch_size": chosen.batch_size,
            "seed": train.seed,
            "cache": train.cache,
            "augment": train.augment,
            "precision": train.precision,
            "select": train.select,
        }

    def _training(self, method: str, backbone: dict, place: str, subjects: int) -> dict:
        chosen = self.profile.method(method)
        shared = {"slices": place, "limit": chosen.max_slices, "method": method, "settings": chosen.settings}
        # `--precision` is that of scoring: an adapter is the same whatever it scores in.
        backbone = {**backbone, "precision": "float32"}
        model = {**backbone, "name": model_id(Model(backbone["name"]), self.hashes)}
        shared |= {"backbone": model, "half": self.profile.train.cache == "disk-half"}
        shared |= {"seed": self.profile.train.seed} if chosen.max_slices else {}  # which slices the limit leaves
        return {
            "method": method,
            "backbone": backbone,
            "settings": chosen.settings,
            "schedule": self._schedule(method),
            "slices": place,
            "max_slices": chosen.max_slices,
            "subjects": subjects,
            "features": str(self.out / "features" / content_key(_plain(shared))),
        }

    def _reading(self) -> dict:
        data = self.profile.data
        return {"channel": data.channel, "target": data.target, "ignore": list(data.ignore)}

    def _slices(self, what: dict, function: str, records: tuple) -> str:
        profile = self.profile
        spec = {"data": self._reading(), "slices": asdict(profile.slices)}
        spec |= {"rule": profile.train.slices, "seed": profile.train.seed, "masks": profile.train.masks}
        key = content_key(_plain({**what, **spec, "code": CODE}))
        folder = str(self.out / "slices" / key)
        self.slice_sets[folder] = (function, [record_to(record) for record in records], spec)
        return folder

    def start(self, name: str) -> dict:
        """The industrial adapter of a method: the given file, or one trained on the synthetic industrial images."""
        profile, method = self.profile, self.profile.method(name)
        if method.industrial is not None:
            path = published(name, method.industrial, self.machine.weights_dir)
            digest = self.hashes(path)
            return {"source": str(path), "id": digest[:16], "label": f"{path.name} sha256 {digest[:16]}"}
        if profile.industrial.images < 1:
            raise UsageError(
                f"profile {profile.name}: {name} has no industrial adapter: give methods.{name}.industrial "
                "a file, or industrial.images a number to train one"
            )
        model = profile.backbone("default", name)
        backbone = self._backbone(model, name)
        size, images = profile.slices.image_size, asdict(profile.industrial)
        masks = profile.train.masks
        place = str(self.out / "slices" / content_key({**images, "size": size, "masks": masks, "code": CODE}))
        self.slice_sets[place] = ("industrial-slices", images["images"], images["seed"], size, masks)
        identity = {
            "code": CODE,
            "method": name,
            "backbone": weights_id(model, self.machine.weights_dir, self.hashes),
            "activation": backbone["activation"],
            "schedule": self._schedule(name),
            "settings": settings_id(method.settings),
            "max_slices": method.max_slices,
            "validation": profile.train.validation if profile.train.select == "best-val-f1" else None,
            "images": {**images, "size": size, "masks": masks},
        }
        if model.weights is not None:  # which may fit, or be random numbers for, several models
            identity["model"] = model_id(model, self.hashes)
        key = content_key(_plain(identity))
        folder = self.out / "adapters" / f"{name}-{key}"
        self.industrial[str(folder)] = self._training(name, backbone, place, 0) | {
            "folder": str(folder),
            "start": f"{name}:random:{profile.train.seed}",
            "start_label": "random",
            "domain": "industrial",
            "validation": {"share": profile.train.validation} if profile.train.select == "best-val-f1" else None,
        }
        label = f"trained on {images['images']} synthetic industrial images, key {key}"
        source = str(folder / "adapter.safetensors")
        return {"source": source, "id": key, "label": label, "settings": _plain(identity)}


def _plain(value):
    """Tuples as lists and dataclasses as dictionaries, as JSON gives them back."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
