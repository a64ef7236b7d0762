"""Maps over shifted grids: where nothing depends on the grid nothing changes, and small things are drawn where they are."""

import numpy as np
import pytest
from small_models import backbone

from ZSADCLIPLib.adapters.checkpoint import load_adapter
from ZSADCLIPLib.detection.detector import Detector
from ZSADCLIPLib.detection.scoring import Scoring
from ZSADCLIPLib.detection.shifts import offsets, over_shifts
from ZSADCLIPLib.errors import UsageError
from ZSADCLIPLib.volume import Volume


def blocks(slices, n):
    """A model that sees patches of 8 pixels: their mean, drawn as blocks, and the largest."""
    small = slices.reshape(len(slices), 6, 8, 6, 8).mean((2, 4), dtype=np.float32)
    return small.repeat(8, 1).repeat(8, 2), small.max((1, 2))


@pytest.fixture
def slices(rng):
    out = np.zeros((2, 48, 48), np.uint8)
    out[0, 12:36, 12:36] = rng.integers(1, 255, (24, 24))
    out[1, 19:22, 27:30] = 200
    return out


def test_what_does_not_depend_on_the_grid_stays(slices):
    def same(moved, n):
        return moved.astype(np.float32), np.full(len(moved), n, np.float32)

    for shifts, mean in ((1, 0.0), (2, 0.5), (4, 1.5)):
        maps, scores = over_shifts(slices, offsets(shifts, 8), same)
        assert np.allclose(maps, slices, atol=1e-4) and np.allclose(scores, mean)


def test_one_grid_is_the_map_itself(slices):
    maps, scores = over_shifts(slices, offsets(1, 8), blocks)
    assert np.array_equal(maps, blocks(slices, 0)[0]) and np.array_equal(scores, blocks(slices, 0)[1])


def test_small_things_are_drawn_nearer_to_where_they_are(slices):
    """The weighted centre of a 3 x 3 spot, whose true one is (20, 28)."""
    errors = []
    for shifts in (1, 2, 4):
        spot = over_shifts(slices, offsets(shifts, 8), blocks)[0][1]
        centre = [float((np.arange(48) * spot.sum(1 - axis)).sum() / spot.sum()) for axis in (0, 1)]
        errors.append(np.hypot(centre[0] - 20, centre[1] - 28))
    assert errors[2] < errors[0] / 2 and errors[1] < errors[0]


def test_a_detector_averages_and_records_them(rng):
    model = backbone()
    adapter = load_adapter("vand:random:1", model)
    volume = Volume(rng.integers(1, 200, (40, 40, 2)).astype(np.int16), np.diag([4.0, 4, 4, 1]), "x")
    plain, four = (
        Detector(model, adapter, 64, plane="axial", scoring=Scoring(shifts=n)).detect(volume) for n in (1, 4)
    )
    assert plain.provenance["shifts"] == 1 and four.provenance["shifts"] == 4
    assert four.provenance["scoring"] == "axial/shifts4" and four.threshold_rule.startswith("quantile")
    assert not np.array_equal(plain.map.array, four.map.array)


def test_what_cannot_be_shifted_is_refused():
    model = backbone()
    adapter = load_adapter("vand:random:1", model)
    with pytest.raises(UsageError, match="shifts 3: expected 1"):
        Scoring(shifts=3)
    with pytest.raises(UsageError, match="shifts 2 move patches: they do not go with fast mode"):
        Detector(model, adapter, 64, fast=True, scoring=Scoring(shifts=2))
