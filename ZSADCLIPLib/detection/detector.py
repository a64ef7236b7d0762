"""From a volume to its anomaly map, mask, findings and scores: `Detector(backbone, adapter).detect(volume)`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import reduce

import numpy as np
import torch

from .. import __version__
from ..errors import InputError, UsageError
from ..evaluation.thresholds import reaches
from ..execution.shared import on_device
from ..notes import Note
from ..progress import Progress, silent, sub_progress
from ..volume import Volume
from ..volumes.components import check_depth, remove_small, slices_deep
from ..volumes.fusion import Fusion
from ..volumes.hounsfield import is_hounsfield
from ..volumes.intensity import blank_slices, is_skull_stripped
from ..volumes.maptypes import as_stored, check_map_type
from ..volumes.planes import slice_in, usable_planes
from ..volumes.skull import has_skull
from ..volumes.slicing import Fit, SliceStack
from .anatomy import brain_of_head, sequence_by_words, taught_model
from .devices import default_batch_size
from .findings import Finding, find
from .planeview import PlaneView, boxes_of, notes_of
from .preparation import Look, Prepared
from .scoring import PLAIN, Scoring
from .shifts import offsets, over_shifts
from .shown import Shown
from .slice_maps import FAST_RUN, check_finite, fill_memory, slice_maps, zeroed_background
from .threshold import Threshold
from .world import outside_of

DEFAULT_SIZE = 240
MOST_SLICES = 4096
BRAINS = ("auto", "image")


@dataclass
class Detection(Shown):
    """What was found in one volume.

    map            raw anomaly scores, float32, on the input's own grid; higher is more abnormal. As a file of `map_type` they
                   are these very numbers, from which mask and findings are cut.
    mask           uint8 0/1: map at or above the threshold inside the brain, small parts removed.
    slice_scores   image-level score of every slice (N,); volume_score is their largest (in `neighbours` that of the top cells).
    threshold      raw map value; threshold_rule says where it came from.
    display        {"lo", "hi"}: raw values drawn as the ends of the colour scale (linear between, clipped outside).
    stack          the slices that were scored, of the first plane; image its 8-bit version (N, R, C).
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
    map_type: str = "float32"

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
    brain         where no mask is given: "auto" finds that of a whole head by words (`anatomy.brain_by_words`), unless the
                  adapter's object is no brain, and takes what is not background elsewhere; "image" takes that everywhere.
    scoring       several planes, fusion and smoothing, see `scoring.Scoring`; its planes replace `plane`.
    batch_size    slices at once, None = by device and memory; an out-of-memory error halves it and goes on.
    min_size_mm3, min_depth_mm   of a finding: its volume, and over how many mm of slices of the first plane it must reach.
    background    "keep" the map outside the brain as computed, or "zero" it (lowest value of the volume's map).
    map_type      "float32", or "int16": scores are rounded to what such a file holds (`volumes.maptypes`).
    fast          compute only the patches of the brain's bounding box, one box for each run of 8 slices. Not exact:
                  attention no longer sees the background (docs/explanation/performance.md); recorded in the provenance.
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
        scoring: Scoring = PLAIN,
        min_depth_mm: float = 0.0,
        brain: str = "auto",
        map_type: str = "float32",
    ):
        check_map_type(map_type)
        if brain not in BRAINS:
            raise UsageError(f"brain {brain!r} is unknown; choose auto or image")
        if background not in ("keep", "zero"):
            raise UsageError(f"background {background!r} is unknown; choose keep or zero")
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"batch size {batch_size}: expected a whole number from 1, or auto")
        if not min_size_mm3 >= 0:
            raise UsageError(f"min size {min_size_mm3} mm3: expected 0 or more")
        check_depth(min_depth_mm)
        patch = backbone.vision.patch
        if patch is not None and image_size < patch:
            raise UsageError(f"image size {image_size} is smaller than one patch ({patch} pixels)")
        if fast and patch is None:
            raise UsageError(f"fast mode skips patches of a ViT; the image tower of {backbone.name} has none")
        if scoring.shifts > 1 and (patch is None or fast):
            what = "fast mode, whose boxes of patches do not move" if fast else f"{backbone.name}, which has no patches"
            raise UsageError(f"shifts {scoring.shifts} move patches: they do not go with {what}; leave one of them out")
        self.backbone, self.adapter, self.fast = backbone, adapter, fast
        self.image_size, self.look = image_size, Look(plane, intensity, window, crop)
        self.threshold = Threshold.parse(threshold) if isinstance(threshold, str) else threshold
        self.min_size_mm3, self.min_depth_mm, self.background = min_size_mm3, min_depth_mm, background
        self.scoring, self.brain, self.map_type = scoring, brain, map_type
        self.batch_size = batch_size or default_batch_size(backbone, image_size)

    def prepare(self, volume: Volume, brain: np.ndarray | None = None) -> tuple[SliceStack, np.ndarray, Fit]:
        """The volume's slices in the first plane, their 8-bit version (N, R, C), and how they fit the model's square.

        `brain` (I, J, K) bool is the head that they are cropped to, found from the image unless given. Raises InputError for
        more than MOST_SLICES of them.
        """
        prepared = self._prepare(volume, self._planes(volume)[0][0], brain)
        return prepared.stack, prepared.image, prepared.fit

    def _planes(self, volume: Volume) -> tuple[tuple[str, ...], tuple[Note, ...]]:
        """The planes that a volume is scored in, "auto" not settled yet, and notes on those that are left out."""
        return usable_planes(volume, self.scoring.planes or (self.look.plane,), self.scoring.force)

    def _prepare(self, volume: Volume, plane: str, brain: np.ndarray | None = None) -> Prepared:
        stack, _ = slice_in(volume, plane)
        if len(stack.array) > MOST_SLICES:  # each becomes a square of the model's size, whatever its own is
            raise InputError(
                f"{volume.name or 'the volume'} has {len(stack.array)} {stack.plane} slices; expected at most {MOST_SLICES}: "
                "choose another plane, or resample it"
            )
        return replace(self.look, plane=plane).prepare(volume, self.image_size, self.adapter.resample, brain)

    def remember(self, volume: Volume) -> None:
        """Fill the adapter's memory bank from the slices of a normal volume that are not blank, in every plane."""
        for plane in self._planes(volume)[0]:
            prepared = self._prepare(volume, plane)
            slices = prepared.fit.apply(prepared.image[~blank_slices(prepared.image)])
            fill_memory(self.adapter, self.backbone, slices, self.batch_size)

    def detect(self, volume: Volume, brain: np.ndarray | None = None, progress: Progress = silent) -> Detection:
        """Score a volume; `brain` (I, J, K) bool limits mask and findings (default: found from the image).

        What not every plane sees has no score. Raises InputError when `brain` has another shape or is empty, or no plane is
        left, ZSADCLIPError when the map is not finite, and whatever `progress` raises (`Cancelled`), leaving nothing behind.
        """
        if brain is not None and (brain.shape != volume.shape or not brain.any()):
            raise InputError(
                f"the brain mask of shape {brain.shape} with {int(brain.sum())} voxels does not fit the volume {volume.shape}"
            )
        by_words = False
        if brain is None:
            volume, brain, progress = self._brain(volume, progress)
            by_words = brain is not None
        array, seen, left_out = self._fused(volume, brain, progress)
        first, scored = seen[0].prepared, reduce(np.logical_and, [each.prepared.scored for each in seen])
        if not scored.any():
            raise InputError(f"crop {self.look.crop}: the planes have no part of the head in common; give more mm")
        stack, inside = first.stack, first.brain
        scoring = self.scoring.settled(tuple(each.plane for each in seen), self.adapter.provenance)
        array = scoring.smoothed(array, stack, scored)
        # Skull and scalp are no anomaly, whoever cuts the map again.
        if self.background == "zero" or by_words:
            array = zeroed_background(array, inside)
        array = as_stored(array, self.map_type)
        result = volume.with_array(array)
        threshold, rule = self.threshold.value_for(array, scored, self.adapter.provenance, scoring)
        deep, across = slices_deep(self.min_depth_mm, stack.spacing[2], len(stack.array)), stack.permutation[0]
        mask = remove_small(reaches(array, threshold) & scored, volume.spacing, self.min_size_mm3, deep, across)
        low, high = on_device(self.adapter.display_range, self.backbone)
        notes = (*volume.notes, *notes_of(seen), *left_out, *outside_of(self.adapter.provenance, volume, first))
        notes += self.threshold.doubts(self.adapter.provenance, scoring)
        return Detection(
            map=result,
            mask=volume.with_array(mask.astype(np.uint8)),
            slice_scores=seen[0].scores,
            volume_score=float(seen[0].scores.max()),
            findings=find(result, mask, stack, brain=inside),
            threshold=threshold,
            threshold_rule=rule,
            display={"lo": float(low), "hi": float(high)},
            provenance=self._provenance(volume, seen, scoring, notes),
            notes=notes,
            stack=stack,
            image=first.image,
            brain=inside,
            map_type=self.map_type,
        )

    @property
    def _of_brains(self) -> bool:
        """Whether the adapter's prompts may speak of a brain; AnomalyCLIP's speak of any object."""
        name = self.adapter.describe().get("config", {}).get("object_name", "")
        return name == "object" or "brain" in name

    def _sequence(self, prepared: Prepared) -> dict | None:
        """Which MR sequence words make of the slices, with their share, 0 to 1; None for CT and other objects."""
        if not self._of_brains or prepared.window is not None:
            return None
        name, share = sequence_by_words(taught_model(str(self.backbone.device)), prepared)
        return {"name": name, "share": round(share, 3)}

    def _brain(self, volume: Volume, progress: Progress) -> tuple[Volume, np.ndarray | None, Progress]:
        """The volume with a note, the brain of a whole head as words find it, None where the image itself decides, and what is
        left of the progress."""
        # The words were learnt on MRI alone.
        if self.brain != "auto" or not self._of_brains or is_hounsfield(volume.array) or not has_skull(volume):
            return volume, None, progress
        look = replace(self.look, plane=self._planes(volume)[0][0], crop="head")
        model = taught_model(str(self.backbone.device))
        brain, note = brain_of_head(model, look, volume, self.batch_size, sub_progress(progress, 0.0, 0.3, "brain: "))
        return replace(volume, notes=(*volume.notes, note)), brain, sub_progress(progress, 0.3, 1.0)

    def _fused(
        self, volume: Volume, brain: np.ndarray | None, progress: Progress
    ) -> tuple[np.ndarray, list[PlaneView], tuple[Note, ...]]:
        """The map float32 (I, J, K) of all planes, what came of each beside it, and notes on those that are left out."""
        planes, notes = self._planes(volume)
        fusion, seen = Fusion(self.scoring.fuse, *on_device(self.adapter.score_range, self.backbone)), []
        for n, plane in enumerate(planes):
            prepared, part = self._prepare(volume, plane, brain), progress
            if not prepared.scored.any():
                raise InputError(f"crop {self.look.crop}: that square shows nothing of the head; give more mm")
            if len(planes) > 1:
                part = sub_progress(progress, n / len(planes), (n + 1) / len(planes), f"{plane} ")
            array, view = self._plane_map(volume, prepared, part)
            fusion.add(array)
            seen.append(view)
        return fusion.result(), seen, notes

    def _plane_map(self, volume: Volume, prepared: Prepared, progress: Progress) -> tuple[np.ndarray, PlaneView]:
        """The map float32 (I, J, K) of one plane, and what came of it beside that."""
        stack, fit = prepared.stack, prepared.fit
        boxes = boxes_of(prepared, self.backbone.vision, self.image_size) if self.fast else None
        moves = offsets(self.scoring.shifts, self.backbone.vision.patch or 1)

        def score(slices: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
            part = progress if len(moves) == 1 else sub_progress(progress, n / len(moves), (n + 1) / len(moves), "")
            (maps,), (scores,), self.batch_size = on_device(
                slice_maps, self.backbone, [self.adapter], slices, self.batch_size, part, boxes, stack.spacing[2]
            )
            return maps, scores

        maps, scores = over_shifts(fit.apply(prepared.image), moves, score)
        check_finite(volume.name or "the volume", self.backbone, maps, scores)
        maxima = torch.from_numpy(maps.reshape(len(maps), -1).max(axis=1))
        scores = self.adapter.volume_scores(torch.from_numpy(scores), maxima).numpy()
        return stack.restore(fit.back(maps)).copy(order="K"), PlaneView(prepared, scores, boxes)

    def _provenance(self, volume: Volume, seen: list[PlaneView], scoring: Scoring, notes: tuple[Note, ...]) -> dict:
        first = seen[0]
        fast = None
        if self.fast:
            fast = {
                "run": FAST_RUN,
                "grid": self.backbone.vision.grid(self.image_size),
                "boxes": first.record()["boxes"],
            }
        return {
            "software": f"ZSADCLIP {__version__}, torch {torch.__version__.split('+')[0]}",
            "use": "research use only, not for diagnosis",
            "adapter": {**self.adapter.describe(), "provenance": self.adapter.provenance},
            "backbone": self.backbone.describe(),
            "adapted": self.adapter.adaptations(self.backbone),
            "preprocessing": {
                **first.prepared.record(),
                "image_size": self.image_size,
                "slices": list(first.prepared.stack.shape),
                "slice_axes": [int(axis) for axis in first.prepared.stack.permutation],
                "slice_flips": [bool(flip) for flip in first.prepared.stack.flips],
                "skull_stripped": is_skull_stripped(volume),
                "sequence": self._sequence(first.prepared),
                "notes": [note.text for note in notes],
            },
            **scoring.record(),
            "further_planes": [each.record() for each in seen[1:]],
            "exact": not self.fast and self.backbone.dtype == torch.float32,
            "fast": fast,
            "background": self.background,
            "map_type": self.map_type,
            "min_size_mm3": self.min_size_mm3,
            "min_depth_mm": self.min_depth_mm,
            "device": self.backbone.device.type,
        }
