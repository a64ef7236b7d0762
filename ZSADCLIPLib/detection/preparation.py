"""From a volume to the slices a model sees: plane, contrast and field of view, and what to know about each choice."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..errors import UsageError
from ..notes import Note
from ..volume import Volume
from ..volumes.background import background_of
from ..volumes.components import largest_part
from ..volumes.crop import LEFT_OUT, NONE, parse_crop, view_of
from ..volumes.hounsfield import WINDOWS, is_hounsfield
from ..volumes.intensity import MODES, brain_mask, check_mode, to_uint8
from ..volumes.planes import AUTO, slice_in
from ..volumes.slicing import Fit, SliceStack, extent

FEW_LEVELS = 24  # of 255 between the 5th and the 95th percentile of a head


@dataclass(frozen=True)
class Look:
    """How volumes are looked at; raises UsageError for values that are not allowed.

    plane      "axial", "coronal", "sagittal", or "auto" (`volumes.planes`).
    intensity  a mode of `to_uint8`, or "auto": percentiles, and a window for computed tomography (`volumes.hounsfield`).
    window     (low, high) in the image's units; implies the mode "window".
    crop       "head", "none" or a side in mm (`volumes.crop`).
    """

    plane: str = AUTO
    intensity: str = AUTO
    window: tuple[float, float] | None = None
    crop: str | float = "head"

    def __post_init__(self):
        parse_crop(self.crop)
        if self.intensity == AUTO or self.intensity == "window":
            if self.window is not None or self.intensity == "window":
                check_mode("window", self.window)
        elif self.window is not None and self.intensity in MODES:
            raise UsageError(
                f"a window goes with intensity auto or window, not with {self.intensity}; leave one of them out"
            )
        else:
            check_mode(self.intensity, None)

    def prepare(
        self, volume: Volume, size: int, resample: str = "bicubic", brain: np.ndarray | None = None
    ) -> Prepared:
        """The slices of a volume for squares of `size` pixels; `brain` (I, J, K) bool is found from the image unless given."""
        stack, notes = slice_in(volume, self.plane)
        mode, window, said = self._contrast(volume)
        inside = brain_mask(volume) if brain is None else brain.astype(bool)
        head = largest_part(inside) if brain is None else inside  # a mask of the user's is taken by its word
        view = None if self.crop == NONE else view_of(stack.arrange(head), stack.spacing[:2], self.crop)
        image = to_uint8(stack.array, mode, window)
        fit = Fit(stack.shape[1:], stack.spacing[:2], size, resample, view)
        prepared = Prepared(stack, image, fit, inside, mode, window, parse_crop(self.crop), (*notes, *said))
        prepared.notes += tuple(_doubts(prepared))
        return prepared

    def _contrast(self, volume: Volume) -> tuple[str, tuple[float, float] | None, tuple[Note, ...]]:
        """Mode and window for a volume, and what to say about them."""
        background, notes = background_of(volume), ()
        if background is not None and not background.is_zero and not volume.is_constant:
            fills = f"value {background} fills" if background.padding is None else f"values {background} fill"
            counts = "it counts" if background.padding is None else "they count"
            notes = (Note("background", f"the constant {fills} the border: {counts} as background"),)
        if self.window is not None:
            return "window", self.window, notes
        if self.intensity != AUTO:
            return self.intensity, None, notes
        if not is_hounsfield(volume.array):
            return "per-volume-percentile", None, notes
        low, high = WINDOWS["brain"]
        return (
            "window",
            (low, high),
            (
                *notes,
                Note("window", f"Hounsfield range: shown with the brain window {low:g} to {high:g}"),
            ),
        )


@dataclass(eq=False)
class Prepared:
    """The slices of one volume: `image` uint8 (N, R, C), `fit` their way to the model's square, `brain` bool (I, J, K)."""

    stack: SliceStack
    image: np.ndarray = field(repr=False)
    fit: Fit
    brain: np.ndarray = field(repr=False)
    intensity: str
    window: tuple[float, float] | None
    crop: str | float
    notes: tuple[Note, ...] = ()

    @cached_property
    def scored(self) -> np.ndarray:
        """The part of the brain that is in the field of view, bool (I, J, K)."""
        return self.brain & self.stack.restore(np.broadcast_to(self.fit.seen, self.stack.shape))

    @property
    def square_mm(self) -> float:
        """The side in mm of what the model's square shows."""
        view = self.fit.view
        return extent(self.fit.shape, self.fit.spacing) if view is None else view.side

    def record(self) -> dict:
        """The choices for the provenance; `box` is rows and columns of a slice from first to end, `side_mm` the square's side."""
        view = self.fit.view
        return {
            "plane": self.stack.plane,
            "intensity": self.intensity,
            "window": list(self.window) if self.window else None,
            "crop": self.crop,
            "box": None if view is None else [round(edge, 3) for edge in self.fit.box],
            "side_mm": None if view is None else round(view.side, 3),
        }


def _doubts(prepared: Prepared):
    """What the choices cost."""
    brain, scored = np.count_nonzero(prepared.brain), np.count_nonzero(prepared.scored)
    if brain and scored < (1 - LEFT_OUT) * brain:
        lost = f"{100 * (1 - scored / brain):.0f} % of the head"
        yield Note("crop", f"the square of {prepared.fit.view.side:g} mm leaves out {lost}, which is not scored")
    shown = prepared.image[prepared.stack.arrange(prepared.brain)]
    counts = np.bincount(shown, minlength=256)
    if counts.any() and np.ptp(low_high := _percentiles(counts)) < FEW_LEVELS:
        yield Note(
            "contrast",
            f"nine tenths of the head have only the grey levels {low_high[0]} to {low_high[1]} of 0 to 255; "
            "choose another --intensity, or a --window",
        )


def _percentiles(counts: np.ndarray) -> tuple[int, int]:
    """The grey levels at the 5th and the 95th percentile of a histogram."""
    shares = np.cumsum(counts) / counts.sum()
    return int(np.searchsorted(shares, 0.05)), int(np.searchsorted(shares, 0.95))
