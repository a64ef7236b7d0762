"""The plane that shows most is chosen, and said; a worse one that was asked for is warned about."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import ORIENTATIONS, affine, stored_as

from ZSADCLIPLib.errors import UsageError
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.planes import slice_in


def scan(shape, spacing) -> Volume:
    return Volume(np.arange(np.prod(shape), dtype=np.float32).reshape(shape), affine(spacing))


def tilted(volume: Volume, degrees: float) -> Volume:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[1, 0, 0, 0], [0, c, -s, 0], [0, s, c, 0], [0, 0, 0, 1]])
    return Volume(volume.array, turn @ volume.affine)


@pytest.mark.parametrize(
    ("shape", "spacing", "plane"),
    [
        ((40, 48, 36), (1, 1, 1), "axial"),
        ((40, 48, 36), (1.5, 1, 1), "axial"),
        ((40, 48, 12), (0.5, 0.5, 4), "axial"),
        ((10, 80, 64), (5, 3, 3), "sagittal"),
        ((80, 10, 64), (0.9, 6, 0.9), "coronal"),
        ((40, 48, 36), (1.6, 1, 1), "sagittal"),
        ((40, 20, 20), (0.5, 2, 2), "axial"),  # no plane has finer pixels
        ((4, 90, 90), (1, 1, 1), "sagittal"),  # axial ones would be strips
        ((90, 1, 90), (1, 1, 1), "coronal"),
        ((90, 90, 1), (1, 1, 1), "axial"),
        ((1, 1, 1), (1, 1, 1), "axial"),
    ],
)
def test_the_acquired_plane_of_thick_slices_is_taken(shape, spacing, plane):
    volume = scan(shape, spacing)
    for how in ORIENTATIONS[::5]:
        for degrees in (0, 14):
            stack, notes = slice_in(tilted(stored_as(volume, *how), degrees))
            assert stack.plane == plane
            assert [note.code for note in notes] == ([] if plane == "axial" else ["plane"])
            assert all(note.severity == "info" and note.text.startswith(f"{plane} slices: ") for note in notes)


def test_the_choice_is_said_with_its_reason():
    (note,) = slice_in(scan((10, 80, 64), (5, 3, 3)))[1]
    assert note.text == "sagittal slices: their pixels of 3 x 3 mm are finer than axial ones of 3 x 5 mm"
    (note,) = slice_in(scan((4, 90, 90), (1, 1, 1)))[1]
    assert note.text == "sagittal slices: axial ones are strips of 90 x 4 voxels"


def test_a_plane_across_thick_slices_is_warned_about():
    volume = scan((10, 80, 64), (5, 3, 3))
    for plane in ("axial", "coronal"):
        stack, (note,) = slice_in(volume, plane)
        assert stack.plane == plane and (note.code, note.severity) == ("thick-slices", "warning")
        assert "--plane sagittal" in note.text and "3 x 5 mm" in note.text
    assert slice_in(volume, "sagittal")[1] == ()
    assert slice_in(scan((40, 48, 36), (1, 1, 1)), "coronal")[1] == ()


def test_an_oblique_grid_is_warned_about_in_the_chosen_plane():
    stack, notes = slice_in(tilted(scan((10, 80, 64), (5, 3, 3)), 30))
    assert stack.plane == "sagittal" and [note.code for note in notes] == ["plane", "oblique"]


def test_an_unknown_plane_is_named():
    with pytest.raises(UsageError, match="transversal"):
        slice_in(scan((4, 4, 4), (1, 1, 1)), "transversal")
