"""Computed tomography: how it is recognised by its values, and the windows it is looked at through."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import UsageError
from .background import find_background

WINDOWS = {"brain": (0.0, 80.0), "subdural": (-20.0, 180.0), "bone": (-500.0, 1500.0)}
"""Windows of head CT by name, (low, high) in Hounsfield units, from radiology's usual width and level: brain W 80 L 40,
subdural W 200 L 80, bone W 2000 L 500 (low = L - W / 2, high = L + W / 2; such as Radiopaedia, "Windowing (CT)")."""
AIR, SOFT, VALLEY, RIM, BONE = (-1250, -900), (0, 80), (-800, -200), (100, 300), 300  # Hounsfield units
AIR_SHARE, SOFT_SHARE, BONE_SHARE = 0.01, 0.05, 0.001  # of what is measured
FILLED_SOFT, FILLED_BONE = 0.3, 0.01  # the same where all air was set to one value
BELOW_AIR = 0.01


def parse_window(words: str | Sequence[str | float]) -> tuple[float, float]:
    """(low, high) from the name of a window, or from two numbers or their texts, whose order `check_mode` judges.

    Raises UsageError for anything else.
    """
    words = (words,) if isinstance(words, str) else tuple(words)
    if len(words) == 1 and words[0] in WINDOWS:
        return WINDOWS[words[0]]
    try:
        low, high = map(float, words)
    except (TypeError, ValueError):
        said = " ".join(map(str, words))
        expected = f"{', '.join(WINDOWS)}, or LOW HIGH, two numbers in the image's units"
        raise UsageError(f"window {said!r:.60}: expected {expected}") from None
    return low, high


def is_hounsfield(array: np.ndarray) -> bool:
    """True when the values of (I, J, K) are Hounsfield units of a head: air near -1000, soft tissue at 0 to 80, and bone.

    Judged by what is not background. Air has to be measured there (1 %), with less between air and fat than in both, and
    hardly anything below air; or the background itself is air, set to one value, and then soft tissue is 30 % of the rest,
    and bone 1 % with less below it than in it. A brain without air and bone cannot be told from other contrasts.
    """
    if array.min() >= AIR[1]:  # most images of other kinds
        return False
    background = find_background(array)
    measured = array if background is None else array[~background.of(array)]
    if not measured.size or measured.max() < BONE:
        return False

    def share(low: float, high: float = np.inf) -> float:
        return np.count_nonzero((measured >= low) & (measured <= high)) / measured.size

    air, soft, bone = share(*AIR), share(*SOFT), share(BONE)
    if share(-np.inf, AIR[0]) > BELOW_AIR:
        return False
    if air >= AIR_SHARE:
        return soft >= SOFT_SHARE and bone >= BONE_SHARE and share(*VALLEY) < min(1.0, air + soft)
    filled = background is not None and AIR[0] <= background.value <= AIR[1]
    return filled and soft >= FILLED_SOFT and bone >= FILLED_BONE and share(*RIM) <= bone
