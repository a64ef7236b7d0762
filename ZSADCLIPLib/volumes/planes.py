"""Which plane a volume is looked at in: the one it was acquired in, where that makes a difference."""

from __future__ import annotations

from ..errors import InputError
from ..notes import Note
from ..volume import Volume
from .slicing import PLANES, SliceStack, slice_volume

AUTO = "auto"
FINER = 1.5  # times: less is no reason to leave a plane
STRETCHED = 3.0  # sides of a pixel, longer to shorter: beyond it a model sees blocks where it knows tissue
NARROW = 8  # a side of a picture this many times shorter than the volume's longest axis is a strip, no picture


def slice_in(volume: Volume, plane: str = AUTO) -> tuple[SliceStack, tuple[Note, ...]]:
    """The slices of a volume in a plane, and what to know about that choice.

    "auto" is axial unless another plane is better: its pixels' longer side, in mm, is more than 1.5 times shorter, as in the
    acquired plane of thick slices, or axial slices would be strips of a few voxels. Raises UsageError for an unknown plane.
    """
    stack = slice_volume(volume, "axial" if plane == AUTO else plane)
    better = _better(volume, stack)
    notes: tuple[Note, ...] = ()
    if better is not None and plane == AUTO:
        stack, axial = better, stack
        notes = (Note("plane", f"{stack.plane} slices: {_against(stack, axial)}"),)
    elif better is not None:
        notes = (
            Note(
                "thick-slices",
                f"{plane} slices cut across those of the scan; choose {better.plane} slices (--plane {better.plane}): "
                f"{_against(better, stack)}",
            ),
        )
    return stack, notes + ((Note("oblique", stack.warning),) if stack.warning else ())


def usable_planes(
    volume: Volume, planes: tuple[str, ...], force: bool = False
) -> tuple[tuple[str, ...], tuple[Note, ...]]:
    """Those of several planes whose pixels are at most 3 times longer than wide, and a note on each other one.

    A single plane is taken as it is, and so are all with `force`. Raises InputError when none is left, UsageError for an
    unknown plane.
    """
    if len(planes) < 2 or force:
        return planes, ()
    pixels = {plane: _pixel(slice_volume(volume, plane)) for plane in planes}
    flat = {plane: (a, b) for plane, (a, b) in pixels.items() if b > STRETCHED * a}
    if len(flat) == len(planes):
        raise InputError(
            f"all of the planes {', '.join(planes)} have pixels more than {STRETCHED:g} times longer than wide; choose another "
            "plane, or --force-planes"
        )
    notes = (
        Note("planes", f"{plane} slices are left out: pixels of {a:.3g} x {b:.3g} mm; --force-planes takes them")
        for plane, (a, b) in flat.items()
    )
    return tuple(plane for plane in planes if plane not in flat), tuple(notes)


def _better(volume: Volume, stack: SliceStack) -> SliceStack | None:
    """The slices of another plane that show clearly more, or None."""
    best = min(
        (slice_volume(volume, plane) for plane in PLANES), key=lambda each: (_is_strip(each), *_pixel(each)[::-1])
    )
    if _is_strip(stack) != _is_strip(best):
        return best
    return best if _pixel(stack)[1] > FINER * _pixel(best)[1] else None


def _pixel(stack: SliceStack) -> tuple[float, float]:
    """Shorter and longer side of a pixel in mm, without the rounding of stored affines."""
    return tuple(sorted(round(mm, 3) for mm in stack.spacing[:2]))


def _is_strip(stack: SliceStack) -> bool:
    return NARROW * min(stack.shape[1:]) < max(stack.shape)


def _against(better: SliceStack, other: SliceStack) -> str:
    if _is_strip(other):
        return f"{other.plane} ones are strips of {other.shape[1]} x {other.shape[2]} voxels"
    fine, coarse = (" x ".join(f"{mm:.3g}" for mm in _pixel(each)) for each in (better, other))
    return f"their pixels of {fine} mm are finer than {other.plane} ones of {coarse} mm"
