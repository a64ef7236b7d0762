"""The detector of a `Detect` job: its models loaded, its settings put together."""

from __future__ import annotations

from ..adapters import METHODS
from ..adapters.checkpoint import backbone_for
from ..backbones import BACKBONES
from ..errors import UsageError, WeightsError


def backbone_of(job) -> str:
    """The backbone of a `detect.Detect`, "auto" settled (`checkpoint.backbone_for`)."""
    return backbone_for(job.method, job.checkpoint) if job.backbone == "auto" else job.backbone


def make_detector(job, slot: int = 0):
    """The detector that the settings of a `detect.Detect` describe, models loaded; `slot` spreads workers over the GPUs.

    Raises WeightsError when a model is missing or does not fit, UsageError for settings that cannot work.
    """
    from ..adapters.checkpoint import load_adapter, read_info
    from ..backbones import load_backbone
    from ..detection.detector import DEFAULT_SIZE, Detector
    from ..detection.devices import choose_device, choose_dtype
    from ..detection.scoring import Scoring

    method = METHODS[job.method]
    source = job.checkpoint or job.method
    info = read_info(source) if source.partition(":")[0] not in METHODS else None
    if info is not None and info.method != job.method:
        raise WeightsError(f"{source} is a checkpoint of {info.method}, not of {job.method}; set the method")
    name = backbone_of(job)
    activation = job.activation or (info and info.backbone.get("activation")) or method.activation.get(name)
    device = choose_device(job.device, slot)
    backbone = load_backbone(
        name,
        job.weights,
        activation if activation in ("gelu", "quick_gelu") else None,
        device,
        choose_dtype(job.precision, device, job.method),
        job.weights_dir,
    )
    prompt_settings = {"object_name": job.object_name, "prompts": job.prompts}
    overrides = {**job.settings, **{k: v for k, v in prompt_settings.items() if v is not None}}
    if job.seed and (name := method.load().seed_field):
        overrides.setdefault(name, job.seed)
    native = BACKBONES[name].native_size if name in BACKBONES and BACKBONES[name].embedded else DEFAULT_SIZE
    settings = dict(
        image_size=job.image_size or native,
        **job.look,
        batch_size=job.slices_at_once(),
        threshold=job.threshold,
        min_size_mm3=job.min_size_mm3,
        scoring=Scoring(**job.scoring),
        min_depth_mm=job.min_depth_mm,
        background=job.background,
        brain=job.brain,
        fast=job.fast,
    )

    detector = Detector(backbone, load_adapter(source, backbone, overrides, job.allow_mismatch), **settings)
    if job.reference:
        _remember(job, detector)
    return detector


def _remember(job, detector) -> None:
    """Fill the method's memory bank from the non-blank slices of the reference volumes."""
    from ..volumes.reading import read_volume

    if not METHODS[job.method].memory_bank:
        raise UsageError(f"reference volumes feed a memory bank; {job.method} has none")
    for path in job.reference:
        detector.remember(read_volume(path))
