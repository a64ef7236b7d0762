"""Which MR sequence a skull-stripped brain was taken with, told by its grey levels."""

from __future__ import annotations

import numpy as np

SEQUENCES = {"t2w": "T2-weighted", "t2f": "FLAIR", "t1": "T1-weighted"}
BRIGHT_FLUID = -0.3
WIDE_TISSUE = 0.22
RANGE = (0.5, 99.5)  # percentiles that become 0 and 1
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


def sequence_of(array: np.ndarray, brain: np.ndarray) -> str | None:
    """The name in SEQUENCES that the levels of a brain look like; `brain` (I, J, K) bool; None where all are equal.

    With the 0.5 and 99.5 percentiles of the brain as 0 and 1 and q its quantiles, fluid is bright (T2) where
    2 (q05 - q50) + (q95 - q50) exceeds -0.3: fluid lies in the upper tail then, else in the lower one. Grey and white matter
    differ more on T1 than on FLAIR: q75 - q25 exceeds 0.22. Measured on 24 synthetic brains of both anatomies: T2 from -0.18
    to 0.28, the others below -0.43; on real scans of two patients T2 0.18, FLAIR -0.77 to -0.68, T1 -0.97 (docs/howto/inputs.md).
    """
    values = array.T[brain.T] if array.flags.f_contiguous else array[brain]  # as stored; quantiles ask for no order
    if values.dtype.itemsize <= 2:
        values.sort(kind="stable")  # a radix sort; quantiles of what is in order cost little
    values = values.astype(np.float64)
    if not values.size:
        return None
    low, high = np.percentile(values, RANGE)
    if not low < high:
        return None
    q05, q25, q50, q75, q95 = np.quantile(np.clip((values - low) / (high - low), 0, 1), LEVELS)
    if 2 * (q05 - q50) + (q95 - q50) > BRIGHT_FLUID:
        return "t2w"
    return "t1" if q75 - q25 > WIDE_TISSUE else "t2f"
