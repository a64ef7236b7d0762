"""All accepted findings of a result in one picture, a row each: image, map, outline."""

from __future__ import annotations

import numpy as np
import slicer
import slicer.util
from slicer.i18n import tr as _

from ZSADCLIPLib.errors import InputError

from . import findingstable, segmentation

MOST = 12


def write(result, path) -> int:
    """Write the slices of the findings' peaks, by rank, at most twelve, as a PNG; returns how many slices.

    Raises InputError without an accepted finding, ImportError without matplotlib, which the engine needs, too.
    """
    from ZSADCLIPLib.detection.pictures import SIDES, montage
    from ZSADCLIPLib.volumes.intensity import to_uint8

    rows = [row for row in findingstable.rowsOf(result.findings) if row["Accepted"]]
    if not rows:
        raise InputError(_("No finding is accepted: there is nothing to picture."))
    stack = result.stack
    slices = list(dict.fromkeys(stack.index(row["Peak I"], row["Peak J"], row["Peak K"])[0] for row in rows))[:MOST]
    mask = segmentation.read(result.segmentation, result.input).T > 0
    title = _("{name}: {run}, {count} findings").format(name=result.input.GetName(), run=result.title, count=len(rows))
    montage(
        path,
        to_uint8(np.ascontiguousarray(stack.arrange(slicer.util.arrayFromVolume(result.input).T))),
        stack.array,
        stack.arrange(mask),
        brain=stack.arrange(result.brain),
        spacing=stack.spacing[:2],
        slices=slices,
        display_range=result.display,
        sides=SIDES[stack.plane],
        title=title,
    )
    return len(slices)
