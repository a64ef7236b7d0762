"""The detector of a `Detect` job: its models loaded, its settings put together."""

from __future__ import annotations

from dataclasses import asdict, fields

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
    model = backbone_of(job)
    activation = job.activation or (info and info.backbone.get("activation")) or method.activation.get(model)
    device = choose_device(job.device, slot)
    backbone = load_backbone(
        model,
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
    native = BACKBONES[model].native_size if model in BACKBONES and BACKBONES[model].embedded else DEFAULT_SIZE
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
        map_type=job.map_type,
        fast=job.fast,
    )

    detector = Detector(backbone, load_adapter(source, backbone, overrides, job.allow_mismatch), **settings)
    if job.reference:
        _remember(job, detector)
    return detector


def make_bank_detector(job, slot: int = 0):
    """The detector with a bank of healthy volumes that the settings of a `detect.Detect` describe; see `make_detector`.

    The bank says how volumes are looked at: raises UsageError for settings that say otherwise.
    """
    from ..detection.scoring import Scoring
    from ..detection.threshold import Threshold
    from ..neighbours.bank import load_bank
    from ..neighbours.detector import BankDetector
    from ..neighbours.result import Cut

    if not job.bank:
        raise UsageError("--method bank needs --bank FILE; 'zsadclip bank build' makes one of healthy volumes")
    bank = load_bank(job.bank)
    _check_agreement(job, bank.settings)
    if job.settings:
        raise UsageError(f"settings {', '.join(job.settings)}: a bank has none")
    cut = Cut(Threshold.parse(job.threshold), Scoring(**job.scoring), job.min_size_mm3, job.min_depth_mm, job.map_type)
    name = bank.backbone["name"] if job.backbone == "auto" else job.backbone
    model = load_model(job, slot, name, bank.backbone.get("activation"))
    return BankDetector(model, bank, cut, job.slices_at_once())


def _check_agreement(job, settings) -> None:
    """Raise UsageError where a job says of how volumes are looked at what its bank does not, or what a bank has no use for."""
    defaults = {each.name: each.default for each in fields(job)}
    said = {name: getattr(job, name) for name in ("planes", "image_size", "fast")} | job.look
    theirs = {**asdict(settings), "plane": settings.planes[0]}
    for name, value in said.items():
        if value != defaults[name] and value != theirs[name]:
            raise UsageError(
                f"{name} {value}: the bank was built with {theirs[name]}; leave it out, or build another bank"
            )
    for name in (
        "checkpoint",
        "allow_mismatch",
        "prompts",
        "object_name",
        "reference",
        "background",
        "brain",
        "shifts",
    ):
        if getattr(job, name) != defaults[name]:
            raise UsageError(f"{name} {getattr(job, name)}: a bank has no use for it; leave it out")


def load_model(job, slot: int, name: str, activation: str | None = None):
    """The backbone `name` with a job's settings, on its device; `activation` is for where the job says none."""
    from ..backbones import load_backbone
    from ..detection.devices import choose_device, choose_dtype

    device = choose_device(job.device, slot)
    known = activation if activation in ("gelu", "quick_gelu") else None
    dtype = choose_dtype(job.precision, device)
    return load_backbone(name, job.weights, job.activation or known, device, dtype, job.weights_dir)


def _remember(job, detector) -> None:
    """Fill the method's memory bank from the non-blank slices of the reference volumes."""
    from ..volumes.reading import read_volume

    if not METHODS[job.method].memory_bank:
        raise UsageError(f"reference volumes feed a memory bank; {job.method} has none")
    for path in job.reference:
        detector.remember(read_volume(path))
