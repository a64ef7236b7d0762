"""What a model was made for, and whether an image belongs there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..fields import from_dict
from ..notes import Note
from ..volume import Volume
from ..volumes.sequences import SEQUENCES, sequence_of
from ..volumes.skull import has_skull
from ..volumes.slicing import SliceStack
from .preparation import Prepared

LEAST_BRAIN = 100_000  # mm3; less is no brain whose grey levels tell a sequence


@dataclass(frozen=True)
class World:
    """The images that an adapter was made for, as its provenance holds it under "world".

    `pictures` says it in words. `sequences` are names of `volumes.sequences.SEQUENCES`, empty for all; `skull_stripped` True,
    False or None for both; `plane` of the slices, None for all; `pixel_mm` the largest pixel, 0 for any; `square_mm` the least
    and the largest side of what the model's square shows, (0, 0) for any.
    """

    pictures: str
    sequences: tuple[str, ...] = ()
    skull_stripped: bool | None = None
    plane: str | None = None
    pixel_mm: float = 0.0
    square_mm: tuple[float, float] = (0.0, 0.0)
    medical: bool = True


def world_of(provenance: dict) -> World | None:
    """The world that an adapter's provenance names, None where it names none; raises UsageError for a damaged one."""
    return from_dict(World, provenance["world"], "world") if "world" in provenance else None


def outside_of(provenance: dict, volume: Volume, prepared: Prepared) -> tuple[Note, ...]:
    """What `outside` says of the slices that are scored and the world that an adapter's provenance names, if it names one."""
    world = world_of(provenance)
    return () if world is None else outside(world, volume, prepared.brain, prepared.stack, prepared.square_mm)


def outside(world: World, volume: Volume, brain: np.ndarray, stack: SliceStack, square_mm: float) -> tuple[Note, ...]:
    """A note that says in what a volume differs from the images of a world, none where it does not.

    `brain` is the mask (I, J, K) of the head or brain, `stack` the slices that are scored, `square_mm` the side of what the model
    sees of them.
    """
    wrong = []
    skull = has_skull(volume)
    if not world.medical:
        wrong.append("a medical volume")
    if world.skull_stripped is not None and skull is world.skull_stripped:
        wrong.append("a whole head" if skull else "a skull-stripped brain")
    if world.sequences and not skull and brain.sum() * np.prod(volume.spacing) >= LEAST_BRAIN:
        looks = sequence_of(volume.array, brain)
        if looks not in (None, *world.sequences):
            wrong.append(f"grey levels as on {SEQUENCES[looks]} images")
    if world.plane not in (None, stack.plane):
        wrong.append(f"{stack.plane} slices")
    pixel = max(stack.spacing[:2])
    if world.pixel_mm and pixel > world.pixel_mm:
        wrong.append(f"pixels of {pixel:.3g} mm")
    least, most = world.square_mm
    if most and not least <= square_mm <= most:
        wrong.append(f"a field of view of {square_mm:.3g} mm")
    if not wrong:
        return ()
    return (Note("world", f"outside the model's world: {', '.join(wrong)}; it was made for {world.pictures}"),)
