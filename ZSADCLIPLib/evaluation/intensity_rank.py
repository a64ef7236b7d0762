"""The trivial rival: bright T2 voxels are abnormal. No model, no training, only the intensity's rank in the brain.

Histogram-equalised intensity was a strong baseline for brain lesions in FLAIR (Meissen, Kaissis, Rueckert, BrainLes 2021).
"""

from __future__ import annotations

import numpy as np

from ..errors import InputError


def equalised(array: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Histogram-equalised intensity as an anomaly map: float32 in 0..1 inside `brain`, 0 outside.

    A voxel's score is the share of brain voxels that are darker, ties counting half, so that any monotone change of
    contrast leaves the map as it is. `array` and boolean `brain` share one shape, any axes; InputError otherwise, or when
    the brain is empty.
    """
    if array.shape != brain.shape or not brain.any():
        raise InputError(
            f"the brain mask of shape {brain.shape} with {int(brain.sum())} voxels does not fit the volume {array.shape}"
        )
    _, level, counts = np.unique(array[brain], return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - counts / 2) / counts.sum()
    out = np.zeros(array.shape, np.float32)
    out[brain] = rank[level.reshape(-1)]
    return out
