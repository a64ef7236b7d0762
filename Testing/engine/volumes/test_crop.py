"""The field of view: one square for a volume, filled by the head, never by a speck."""

from __future__ import annotations

import numpy as np
import pytest

from ZSADCLIPLib.errors import UsageError
from ZSADCLIPLib.volumes.components import largest_part
from ZSADCLIPLib.volumes.crop import FILL, LEAST, parse_crop, view_of


def head(shape=(4, 200, 180), rows=(30, 170), columns=(40, 140)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[1, rows[0] : rows[1], columns[0] : columns[0] + 9] = True
    mask[2, rows[0] + 50 : rows[1] - 50, columns[0] : columns[1]] = True
    return mask


def test_the_head_fills_its_share_of_the_square_in_all_slices():
    view = view_of(head(), (1.0, 1.0), "head")
    assert (view.row, view.column) == (100, 90) and view.side == pytest.approx(140 / FILL)
    wide = view_of(head(), (1.0, 2.0), "head")
    assert wide.side == pytest.approx(200 / FILL)


def test_the_square_moves_with_the_head_and_does_not_depend_on_the_field():
    small = view_of(head(), (0.8, 0.8), "head")
    padded = view_of(np.pad(head(), [(0, 0), (11, 4), (70, 3)]), (0.8, 0.8), "head")
    assert padded.side == small.side and (padded.row - small.row, padded.column - small.column) == (11, 70)


def test_little_is_not_enlarged_to_the_whole_square():
    assert view_of(head(rows=(90, 96), columns=(50, 56)), (1.0, 1.0), "head").side == LEAST
    mouse = head((4, 40, 30), (5, 35), (5, 9))
    assert view_of(mouse, (0.5, 0.5), "head").side == 20  # all of it, which is smaller than LEAST
    assert view_of(head((4, 40, 30), (18, 22), (5, 9)), (0.5, 0.5), "head").side == 20


def test_millimetres_are_centred_on_the_head():
    view = view_of(head(), (0.5, 0.5), "80")
    assert (view.row, view.column, view.side) == (100, 90, 80) and view_of(head(), (0.5, 0.5), 80) == view


def test_nothing_to_crop_to_is_the_whole_slice():
    assert view_of(head(), (1.0, 1.0), "none") is None
    assert view_of(np.zeros((2, 5, 5), bool), (1.0, 1.0), "head") is None


def test_specks_are_not_the_head():
    mask = head()
    speckled = mask.copy()
    speckled[0, :3, :3] = speckled[3, -1, -1] = True
    assert np.array_equal(largest_part(speckled), mask)
    assert not largest_part(np.zeros((2, 2, 2), bool)).any()


@pytest.mark.parametrize("value", ["brain", "0", "-5", "nan", "inf", 0, None, "180mm", ""])
def test_another_crop_is_refused_with_what_is_expected(value):
    with pytest.raises(UsageError, match="expected head, none, or a side in mm"):
        parse_crop(value)
