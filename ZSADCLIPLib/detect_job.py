"""The job behind `zsadclip detect`: volumes in; maps, masks, findings and pictures out."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .errors import UsageError, WeightsError, ZSADCLIPError
from .progress import Cancelled, Progress, Report, part, quiet, silent


@dataclass(frozen=True)
class Detect:
    """Score volumes and write their maps, masks, findings and pictures.

    inputs         files, folders, globs, or one manifest CSV (id,image[,mask]).
    checkpoint     a file, or None for the embedded adapter of the method; "METHOD:random" is untrained.
    weights        of the backbone: None, an open_clip tag, a file, or "random".
    threshold      "checkpoint", a number, "fixed:T" or "quantile:Q".
    settings       further config fields of the method, such as {"upsample": "centres"}.
    compress       .nii.gz instead of .nii.
    """

    inputs: tuple[str, ...]
    output: str
    method: str = "vand"
    backbone: str = "mini"
    weights: str | None = None
    weights_dir: str | None = None
    activation: str | None = None
    checkpoint: str | None = None
    allow_mismatch: bool = False
    object_name: str | None = None
    prompts: str | None = None
    settings: dict = field(default_factory=dict)
    reference: tuple[str, ...] = ()
    plane: str = "axial"
    image_size: int | None = None
    intensity: str = "per-volume-percentile"
    window: tuple[float, float] | None = None
    device: str = "auto"
    precision: str = "auto"
    batch_size: int | str = "auto"
    threshold: str = "checkpoint"
    min_size_mm3: float = 0.0
    background: str = "keep"
    brain_mask: str | None = None
    skip_existing: bool = False
    dry_run: bool = False
    seed: int = 0
    pictures: bool = True
    compress: bool = True

    def run(self, progress: Progress = silent, report: Report = quiet) -> dict:
        """Run all cases; a bad one is reported and the others go on.

        Returns {"cases", "failed", "skipped", "output"}. Raises ZSADCLIPError before any work when the settings cannot
        work, and whatever `progress` raises.
        """
        from .io import expand_inputs, write_csv

        cases = expand_inputs(self.inputs)
        batch = self._batch()
        if self.brain_mask and len(cases) > 1:
            raise UsageError("one brain mask fits one input; give it per case instead")
        if self.dry_run:
            for case in cases:
                report({"event": "case", "id": case.id, "status": "planned", "image": Path(case.image).name})
            return {"cases": len(cases), "failed": 0, "skipped": 0, "output": self.output, "dry_run": True}
        pending = [case for case in cases if not (self.skip_existing and self._finished(case))]
        rows = {case.id: self._stored(case) for case in cases if case not in pending}
        if pending:
            progress(0.0, "loading the model")
            detector = self.detector(batch)
            for i, case in enumerate(pending):
                inner = part(progress, i / len(pending), (i + 1) / len(pending))
                rows[case.id] = self._one(detector, case, lambda f, t, n=case.id, p=inner: p(f, f"{n}: {t}"))
                report({"event": "case", **rows[case.id]})
        write_csv(Path(self.output) / "summary.csv", [rows[case.id] for case in cases])
        failed = sum(row["status"] == "failed" for row in rows.values())
        return {"cases": len(cases), "failed": failed, "skipped": len(cases) - len(pending), "output": self.output}

    def _batch(self) -> int | None:
        if self.batch_size == "auto":
            return None
        if not str(self.batch_size).isdigit() or int(self.batch_size) < 1:
            raise UsageError(f"batch size {self.batch_size!r}: expected auto or a whole number from 1")
        return int(self.batch_size)

    def detector(self, batch: int | None = None):
        """The detector these settings describe, models loaded."""
        from .adapters import METHODS
        from .backbones import BACKBONES, load_backbone
        from .checkpoint import load_adapter, read_info
        from .detector import DEFAULT_SIZE, Detector, choose_device, choose_dtype

        if self.method not in METHODS:
            raise UsageError(f"method {self.method!r} is unknown; choose one of {', '.join(METHODS)}")
        method = METHODS[self.method]
        source = self.checkpoint or self.method
        info = read_info(source) if source.partition(":")[0] not in METHODS else None
        if info is not None and info.method != self.method:
            raise WeightsError(f"{source} is a checkpoint of {info.method}, not of {self.method}; set the method")
        activation = (
            self.activation or (info and info.backbone.get("activation")) or method.activation.get(self.backbone)
        )
        device = choose_device(self.device)
        backbone = load_backbone(
            self.backbone,
            self.weights,
            activation if activation in ("gelu", "quick_gelu") else None,
            device,
            choose_dtype(self.precision, device),
            self.weights_dir,
        )
        given = {"object_name": self.object_name, "prompts": self.prompts}
        overrides = {**self.settings, **{k: v for k, v in given.items() if v is not None}}
        if self.seed and self.method in ("adaclip", "anovl"):
            overrides.setdefault("seed", self.seed)
        adapter = load_adapter(source, backbone, overrides, self.allow_mismatch)
        native = BACKBONES[self.backbone].native_size if BACKBONES.get(self.backbone) else None
        embedded = BACKBONES.get(self.backbone) is not None and BACKBONES[self.backbone].embedded
        detector = Detector(
            backbone,
            adapter,
            image_size=self.image_size or (native if embedded else DEFAULT_SIZE),
            plane=self.plane,
            intensity=self.intensity,
            window=tuple(self.window) if self.window else None,
            batch_size=batch,
            threshold=self.threshold,
            min_size_mm3=self.min_size_mm3,
            background=self.background,
        )
        if self.reference:
            self._remember(detector)
        return detector

    def _remember(self, detector) -> None:
        """Fill VAND's memory bank from the non-blank slices of the reference volumes."""
        import torch

        from .intensity import blank_slices
        from .io import read_volume

        if self.method != "vand":
            raise UsageError(f"reference volumes feed VAND's memory bank; {self.method} has none")
        for path in self.reference:
            _, image, fit = detector.prepare(read_volume(path))
            slices = fit.apply(image[~blank_slices(image)])
            for rows in torch.from_numpy(slices).split(detector.batch_size):
                detector.adapter.remember(detector.backbone, detector.backbone.preprocess(rows))

    def _paths(self, case) -> dict[str, Path]:
        folder, suffix = Path(self.output), ".nii.gz" if self.compress else ".nii"
        names = {"map": f"_anomaly{suffix}", "mask": f"_mask{suffix}", "json": ".json", "png": ".png"}
        return {key: folder / f"{case.id}{name}" for key, name in names.items()}

    @property
    def key(self) -> str:
        """Sixteen hex digits of the settings that a result depends on."""
        ignored = ("inputs", "output", "skip_existing", "dry_run", "device", "batch_size")
        data = {k: v for k, v in asdict(self).items() if k not in ignored}
        return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def _finished(self, case) -> bool:
        paths = self._paths(case)
        needed = [paths["map"], paths["mask"], *([paths["png"]] if self.pictures else [])]
        try:
            done = json.loads(paths["json"].read_text())
        except (OSError, ValueError):
            return False
        return done.get("settings") == self.key and all(path.is_file() for path in needed)

    def _stored(self, case) -> dict:
        return json.loads(self._paths(case)["json"].read_text())["summary"]

    def _one(self, detector, case, progress: Progress) -> dict:
        try:
            return self._detect(detector, case, progress)
        except Cancelled:
            raise
        except ZSADCLIPError as error:
            return {"id": case.id, "status": "failed", "error": f"{type(error).__name__}: {error}"}
        except (OSError, MemoryError, RuntimeError) as error:
            return {"id": case.id, "status": "failed", "error": f"{type(error).__name__}: {error or 'out of memory'}"}

    def _detect(self, detector, case, progress: Progress) -> dict:
        from .io import read_mask, read_volume, write_json, write_volume

        volume = read_volume(case.image)
        truth = read_mask(case.mask, volume).array > 0 if case.mask else None
        brain = read_mask(self.brain_mask, volume).array > 0 if self.brain_mask else None
        found = detector.detect(volume, brain, part(progress, 0.02, 0.9))
        paths = self._paths(case)
        row = {
            "id": case.id,
            "status": "done",
            "error": "",
            "volume_score": found.volume_score,
            "threshold": found.threshold,
            "threshold_rule": found.threshold_rule,
            "findings": len(found.findings),
            "volume_mm3": sum(f.volume_mm3 for f in found.findings),
        }
        if truth is not None:
            row |= _against(found, truth)
        progress(0.92, "writing")
        write_volume(paths["map"], found.map, "float32")
        write_volume(paths["mask"], found.mask, "uint8")
        if self.pictures:
            from .adapters import METHODS
            from .pictures import montage_of

            montage_of(
                paths["png"], found, truth, title=f"{case.id}: {METHODS[self.method].label} on {detector.backbone.name}"
            )
        # The JSON comes last: its presence says that the case is complete.
        write_json(paths["json"], {"id": case.id, "settings": self.key, "summary": row, **found.to_dict()})
        progress(1.0, "done")
        return row


def _against(found, truth) -> dict:
    """Voxel metrics of a detection over the whole volume, undefined ones empty."""
    from .curves import curve
    from .metrics import confusion, scores

    overlap, ranking = scores(confusion(found.mask.array > 0, truth)), curve(found.map.array, truth)
    values = {k: overlap[k] for k in ("dice", "sensitivity", "specificity", "ppv")}
    values |= {"auroc": ranking.auroc, "average_precision": ranking.average_precision, "f1_max": ranking.f1_max}
    return {k: float(v) if v == v else None for k, v in values.items()}
