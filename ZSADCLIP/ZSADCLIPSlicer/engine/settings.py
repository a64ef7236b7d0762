"""What a run does, as the engine's job names it, and as the panel has it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from ZSADCLIPLib.adapters import DEFAULT_METHOD
from ZSADCLIPLib.neighbours import BANK
from ZSADCLIPLib.volumes.components import LEAST_DEPTH_MM, SMALLEST_MM3
from ZSADCLIPLib.volumes.fusion import FUSIONS
from ZSADCLIPLib.volumes.slicing import PLANES


@dataclass(frozen=True)
class RunSettings:
    """What a run does, as the engine's Detect job names it; None leaves a choice to the engine."""

    method: str = DEFAULT_METHOD
    backbone: str = "auto"
    weights: str | None = None
    checkpoint: str | None = None
    weights_dir: str | None = None
    object_name: str | None = None
    prompts: str | None = None
    bank: str | None = None
    plane: str = "auto"
    planes: tuple[str, ...] = ()
    fuse: str = FUSIONS[0]
    smooth_mm: float | None = None
    image_size: int | None = None
    device: str = "auto"
    precision: str = "auto"
    batch_size: int | str = "auto"
    threshold: str = "checkpoint"
    min_size_mm3: float = SMALLEST_MM3
    min_depth_mm: float = LEAST_DEPTH_MM
    allow: tuple[str, ...] = ()
    seed: int = 0

    def job(self, image: Path, brain: Path | None, output: Path) -> dict:
        """The engine's job."""
        fixed = {"job": "detect", "inputs": [str(image)], "output": str(output), "pictures": False, "compress": False}
        return {**fixed, **asdict(self), "brain_mask": str(brain) if brain else None}


def settingsOf(parameters, weightsFolder: str = "") -> RunSettings:
    """The settings of a run from a parameter node; a bank itself says how volumes are looked at."""
    batch, smoothing = parameters.batchSize, parameters.smoothing
    shared = dict(
        method=parameters.method,
        weights_dir=weightsFolder or None,
        device=parameters.device,
        batch_size=batch if batch == "auto" else int(batch),
        smooth_mm=None if smoothing < 0 else smoothing,
        min_size_mm3=parameters.minimumSize,
        min_depth_mm=parameters.minimumDepth,
    )
    if parameters.method == BANK:
        return RunSettings(bank=parameters.checkpoint or None, **shared)
    return RunSettings(
        backbone=parameters.model,
        checkpoint=parameters.checkpoint or None,
        object_name=parameters.objectName.strip() or None,
        prompts=parameters.prompts or None,
        plane=parameters.plane,
        planes=tuple(plane for plane in PLANES if getattr(parameters, plane)),
        fuse=parameters.fuse,
        **shared,
    )
