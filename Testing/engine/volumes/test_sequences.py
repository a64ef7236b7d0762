"""Sequences told by grey levels, on synthetic brains of both anatomies that nothing was chosen on."""

from collections import Counter

import numpy as np
import pytest

from ZSADCLIPLib.synthetic.brains import make_case
from ZSADCLIPLib.volumes.sequences import sequence_of

FAMILY = {"t1n": "t1", "t1c": "t1", "t2w": "t2w", "t2f": "t2f"}


@pytest.fixture(scope="module")
def brains():
    cases = [make_case(7100 + n, channels=tuple(FAMILY), anatomy=("colin27", "mni152")[n % 2]) for n in range(4)]
    return [(channel, case.volumes[channel]) for case in cases for channel in FAMILY]


def test_bright_fluid_is_told_from_dark_fluid_always_and_flair_from_t1_mostly(brains):
    told = Counter((channel, sequence_of(volume.array, volume.array != 0)) for channel, volume in brains)
    right = sum(count for (channel, looks), count in told.items() if looks == FAMILY[channel])
    assert told["t2w", "t2w"] == 4 and sum(count for (_, looks), count in told.items() if looks == "t2w") == 4
    assert right >= 14


def test_the_scale_of_the_values_plays_no_part(brains):
    channel, volume = brains[2]
    brain = volume.array != 0
    assert channel == "t2w" and sequence_of(volume.array * -0.5 - 3, brain) != "t2w"
    assert sequence_of(volume.array * 0.01 - 3, brain) == "t2w"


@pytest.mark.parametrize("value", [0, 5])
def test_no_levels_tell_nothing(value):
    array = np.full((4, 4, 4), value)
    assert sequence_of(array, array == 5) is None
