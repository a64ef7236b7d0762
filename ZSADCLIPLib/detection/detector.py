"""From a volume to its anomaly map, mask, findings and scores: `Detector(backbone, adapter).detect(volume)`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import numpy as np
import torch

from .. import __version__
from ..backbones.focus import Box, patch_box
from ..errors import InputError, UsageError
from ..evaluation.thresholds import reaches
from ..notes import Note
from ..progress import Progress, silent
from ..volume import Volume
from ..volumes.components import remove_small
from ..volumes.intensity import blank_slices, is_skull_stripped
from ..volumes.planes import slice_in
from ..volumes.slicing import Fit, SliceStack
from .devices import default_batch_size
from .findings import Finding, find
from .preparation import Look, Prepared
from .slice_maps import FAST_RUN, check_finite, fill_memory, slice_maps, zeroed_background
from .threshold import Threshold
from .world import outside, world_of

DEFAULT_SIZE = 240
MOST_SLICES = 4096


@dataclass
class Detection:
    """What was found in one volume.

    map            raw anomaly scores, float32, on the input's own grid; higher is more abnormal.
    mask           uint8 0/1: map at or above the threshold inside the brain, small parts removed.
    slice_scores   image-level score of every slice (N,); volume_score is their largest.
    threshold      raw map value; threshold_rule says where it came from.
    display        {"lo", "hi"}: raw values drawn as the ends of the colour scale (linear between, clipped outside).
    stack          the slices that were scored; image its 8-bit version (N, R, C).
    provenance     every choice that the numbers depend on, JSON-able.
    notes          what was noticed about the image and done with it.
    """

    map: Volume
    mask: Volume
    slice_scores: np.ndarray
    volume_score: float
    findings: list[Finding]
    threshold: float
    threshold_rule: str
    display: dict[str, float]
    provenance: dict
    notes: tuple[Note, ...]
    stack: SliceStack = field(repr=False)
    image: np.ndarray = field(repr=False)
    brain: np.ndarray = field(repr=False)

    def to_dict(self) -> dict:
        """The JSON of a case: everything but the arrays."""
        return {
            "volume_score": self.volume_score,
            "threshold": self.threshold,
            "threshold_rule": self.threshold_rule,
            "display": self.display,
            "findings": [asdict(f) for f in self.findings],
            "slice_scores": [float(s) for s in self.slice_scores],
            "notes": [note.to_dict() for note in self.notes],
            "provenance": self.provenance,
        }


class Detector:
    """Runs one adapter on one backbone over whole volumes.

    image_size    pixels of the square the model sees.
    plane, intensity, window, crop   how volumes are looked at, see `preparation.Look`.
    batch_size    slices at once, None = by device and memory; an out-of-memory error halves it and goes on.
    background    "keep" the map outside the brain as computed, or "zero" it (lowest value of the volume's map).
    fast          compute only the patches of the brain's bounding box, one box for each run of 8 slices. Not exact:
                  attention no longer sees the background (docs/performance.md); recorded in the provenance.
    Raises UsageError for values that are not allowed.
    """

    def __init__(
        self,
        backbone,
        adapter,
        image_size: int = DEFAULT_SIZE,
        plane: str = "auto",
        intensity: str = "auto",
        window: tuple[float, float] | None = None,
        batch_size: int | None = None,
        threshold: Threshold | str = "checkpoint",
        min_size_mm3: float = 0.0,
        background: str = "keep",
        fast: bool = False,
        crop: str | float = "head",
    ):
        if background not in ("keep", "zero"):
            raise UsageError(f"background {background!r} is unknown; choose keep or zero")
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"batch size {batch_size}: expected a whole number from 1, or auto")
        if not min_size_mm3 >= 0:
            raise UsageError(f"min size {min_size_mm3} mm3: expected 0 or more")
        patch = backbone.vision.patch
        if patch is not None and image_size < patch:
            raise UsageError(f"image size {image_size} is smaller than one patch ({patch} pixels)")
        if fast and patch is None:
            raise UsageError(f"fast mode skips patches of a ViT; the image tower of {backbone.name} has none")
        self.backbone, self.adapter, self.fast = backbone, adapter, fast
        self.image_size, self.look = image_size, Look(plane, intensity, window, crop)
        self.threshold = Threshold.parse(threshold) if isinstance(threshold, str) else threshold
        self.min_size_mm3, self.background = min_size_mm3, background
        self.batch_size = batch_size or default_batch_size(backbone, image_size)

    def prepare(self, volume: Volume, brain: np.ndarray | None = None) -> tuple[SliceStack, np.ndarray, Fit]:
        """The volume's slices, their 8-bit version (N, R, C), and how they fit the model's square.

        `brain` (I, J, K) bool is the head that they are cropped to, found from the image unless given. Raises InputError for
        more than MOST_SLICES of them.
        """
        prepared = self._prepare(volume, brain)
        return prepared.stack, prepared.image, prepared.fit

    def _prepare(self, volume: Volume, brain: np.ndarray | None = None) -> Prepared:
        stack, _ = slice_in(volume, self.look.plane)
        if len(stack.array) > MOST_SLICES:  # each becomes a square of the model's size, whatever its own is
            raise InputError(
                f"{volume.name or 'the volume'} has {len(stack.array)} {stack.plane} slices; expected at most {MOST_SLICES}: "
                "choose another plane, or resample it"
            )
        return self.look.prepare(volume, self.image_size, self.adapter.resample, brain)

    def remember(self, volume: Volume) -> None:
        """Fill the adapter's memory bank from the slices of a normal volume that are not blank."""
        _, image, fit = self.prepare(volume)
        fill_memory(self.adapter, self.backbone, fit.apply(image[~blank_slices(image)]), self.batch_size)

    def detect(self, volume: Volume, brain: np.ndarray | None = None, progress: Progress = silent) -> Detection:
        """Score a volume; `brain` (I, J, K) bool limits mask and findings (default: found from the image).

        Raises InputError when `brain` has another shape or is empty, ZSADCLIPError when the map is not finite, and
        whatever `progress` raises (`Cancelled`), leaving nothing behind.
        """
        if brain is not None and (brain.shape != volume.shape or not brain.any()):
            raise InputError(
                f"the brain mask of shape {brain.shape} with {int(brain.sum())} voxels does not fit the volume {volume.shape}"
            )
        prepared = self._prepare(volume, brain)
        stack, fit, brain, scored = prepared.stack, prepared.fit, prepared.brain, prepared.scored
        if not scored.any():
            raise InputError(f"crop {self.look.crop}: that square shows nothing of the head; give more mm")
        boxes = self._boxes(stack, fit, brain) if self.fast else None
        (maps,), (scores,), self.batch_size = slice_maps(
            self.backbone, [self.adapter], fit.apply(prepared.image), self.batch_size, progress, boxes
        )
        check_finite(volume.name or "the volume", self.backbone, maps, scores)
        maxima = torch.from_numpy(maps.reshape(len(maps), -1).max(axis=1))
        scores = self.adapter.volume_scores(torch.from_numpy(scores), maxima).numpy()
        array = np.ascontiguousarray(stack.restore(fit.back(maps)))
        if self.background == "zero":
            array = zeroed_background(array, brain)
        result = volume.with_array(array)
        threshold, rule = self.threshold.value_for(array, scored, self.adapter.provenance)
        mask = remove_small(reaches(array, threshold) & scored, volume.spacing, self.min_size_mm3)
        findings = find(result, mask, stack, brain=brain)
        low, high = self.adapter.display_range(self.backbone)
        notes = (*volume.notes, *prepared.notes, *self._outside(volume, prepared))
        return Detection(
            map=result,
            mask=volume.with_array(mask.astype(np.uint8)),
            slice_scores=scores,
            volume_score=float(scores.max()),
            findings=findings,
            threshold=threshold,
            threshold_rule=rule,
            display={"lo": float(low), "hi": float(high)},
            provenance=self._provenance(volume, prepared, boxes, notes),
            notes=notes,
            stack=stack,
            image=prepared.image,
            brain=brain,
        )

    def _outside(self, volume: Volume, prepared: Prepared) -> tuple[Note, ...]:
        """Whether the adapter was made for such an image."""
        world = world_of(self.adapter.provenance)
        return outside(world, volume, prepared.brain, prepared.stack, prepared.square_mm) if world else ()

    def _boxes(self, stack: SliceStack, fit: Fit, brain: np.ndarray) -> list[Box]:
        """For each run of slices the patches that hold any voxel of the brain; they do not depend on the batch size."""
        seen = fit.apply(stack.arrange(brain).astype(np.uint8) * 255) > 0
        patch, grid = self.backbone.vision.patch, self.backbone.vision.grid(self.image_size)
        starts = range(0, len(seen), FAST_RUN)
        return [patch_box(seen[first : first + FAST_RUN].any(axis=0), patch, grid) for first in starts]

    def _provenance(self, volume: Volume, prepared: Prepared, boxes: list[Box] | None, notes: tuple[Note, ...]) -> dict:
        stack = prepared.stack
        fast = None if boxes is None else {"run": FAST_RUN, "grid": self.backbone.vision.grid(self.image_size)}
        return {
            "software": f"ZSADCLIP {__version__}, torch {torch.__version__.split('+')[0]}",
            "use": "research use only, not for diagnosis",
            "adapter": {**self.adapter.describe(), "provenance": self.adapter.provenance},
            "backbone": self.backbone.describe(),
            "adapted": self.adapter.adaptations(self.backbone),
            "preprocessing": {
                **prepared.record(),
                "image_size": self.image_size,
                "slices": list(stack.shape),
                "slice_axes": [int(axis) for axis in stack.permutation],
                "slice_flips": [bool(flip) for flip in stack.flips],
                "skull_stripped": is_skull_stripped(volume),
                "notes": [note.text for note in notes],
            },
            "exact": boxes is None and self.backbone.dtype == torch.float32,
            "fast": fast and {**fast, "boxes": [list(box) for box in boxes]},
            "background": self.background,
            "min_size_mm3": self.min_size_mm3,
            "device": self.backbone.device.type,
        }
