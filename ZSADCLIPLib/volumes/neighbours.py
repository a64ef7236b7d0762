"""Which slices of a stack lie at given distances from each, in mm."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def neighbours(count: int, spacing: float, offsets: Sequence[float]) -> np.ndarray:
    """Rows int64 (count, K) of the slices nearest to each of K offsets in mm, in a stack with `spacing` mm between slices.

    Halves go to the farther slice; at a distance of more than two offsets a slice is its own neighbour. Beyond the ends the
    last slice repeats.
    """
    steps = [int(math.copysign(math.floor(abs(mm) / spacing + 0.5), mm)) for mm in offsets]
    return (np.arange(count)[:, None] + np.array(steps, np.int64)).clip(0, count - 1)
