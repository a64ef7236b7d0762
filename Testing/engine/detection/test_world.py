"""A model says what it was made for, and an image that is something else is told so wherever a person looks."""

import csv
import json
from dataclasses import asdict

import numpy as np
import pytest

from ZSADCLIPLib.adapters.checkpoint import find_checkpoint, read_info
from ZSADCLIPLib.adapters.registry import METHODS
from ZSADCLIPLib.cli import main
from ZSADCLIPLib.detection.world import World, outside, world_of
from ZSADCLIPLib.errors import UsageError
from ZSADCLIPLib.synthetic.brains import make_case
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.reading import write_volume
from ZSADCLIPLib.volumes.slicing import slice_volume

MADE_FOR = World("stripped T2w brains", ("t2w",), True, "axial", 2.0, (140.0, 280.0))


@pytest.fixture(scope="module")
def case():
    return make_case(7200, channels=("t2w", "t2f", "t1n"))


def told(volume, world=MADE_FOR, plane="axial", square_mm=240.0):
    notes = outside(world, volume, volume.array != volume.array[0, 0, 0], slice_volume(volume, plane), square_mm)
    assert all(note.code == "world" and note.severity == "warning" for note in notes) and len(notes) <= 1
    return notes[0].text if notes else ""


def head_of(volume):
    """A whole head: noise around the brain, up to the faces."""
    noise = np.random.default_rng(0).integers(5, 60, volume.shape).astype(np.int16)
    return volume.with_array(np.where(volume.array == 0, noise, volume.array))


def test_what_belongs_is_not_spoken_of(case):
    assert told(case.volumes["t2w"]) == ""


@pytest.mark.parametrize(("channel", "words"), [("t2f", "FLAIR"), ("t1n", "T1-weighted")])
def test_other_contrasts_are_outside(case, channel, words):
    assert f"grey levels as on {words} images; it was made for stripped T2w brains" in told(case.volumes[channel])


def test_a_whole_head_is_outside_of_brains_and_a_brain_outside_of_heads(case):
    head = head_of(case.volumes["t2w"])
    assert "a whole head" in told(head)
    heads = World("whole heads", skull_stripped=False)
    assert "a skull-stripped brain" in told(case.volumes["t2w"], heads) and told(head, heads) == ""


def test_whether_a_slab_has_a_skull_is_not_guessed(case):
    volume = case.volumes["t2w"]
    assert told(Volume(volume.array[:, :, 60:90], volume.affine)) == ""
    assert told(Volume(volume.array[:, :, 60:], volume.affine)) == ""


def test_planes_and_coarse_pixels_are_outside(case):
    volume = case.volumes["t2w"]
    assert "sagittal slices" in told(volume, plane="sagittal")
    coarse = Volume(volume.array[::3, ::3], volume.affine @ np.diag([3, 3, 1, 1]))
    assert "pixels of 3 mm" in told(coarse)


@pytest.mark.parametrize(("side", "inside"), [(120.0, False), (182.0, True), (240.0, True), (440.0, False)])
def test_a_field_of_view_may_be_outside(case, side, inside):
    assert (told(case.volumes["t2w"], square_mm=side) == "") == inside


def test_a_world_of_pictures_holds_no_volume_and_an_open_one_all(case):
    assert "a medical volume" in told(case.volumes["t2w"], World("industrial pictures", medical=False))
    assert told(head_of(case.volumes["t1n"]), World("anything")) == ""


def test_provenance_names_the_world():
    assert world_of({}) is None and world_of({"world": asdict(MADE_FOR)}) == MADE_FOR
    with pytest.raises(UsageError, match="world"):
        world_of({"world": {"sequences": ["t2w"]}})


def test_every_embedded_adapter_says_what_it_was_made_for():
    paths = [p for method in METHODS for name in ("mini", "mini-mri") if (p := find_checkpoint(method, name))]
    assert len(paths) >= 6
    for path in paths:
        assert world_of(read_info(path).provenance).medical


def test_it_is_said_on_the_terminal_in_the_table_and_in_the_json(tmp_path, case, capsys):
    t1 = case.volumes["t1n"]
    write_volume(tmp_path / "x.nii.gz", Volume(t1.array[:, :, ::12], t1.affine @ np.diag([1, 1, 12, 1]), "x"))
    assert (
        main(
            [
                "detect",
                str(tmp_path / "x.nii.gz"),
                "-o",
                str(tmp_path / "out"),
                "--image-size",
                "96",
                "--backbone",
                "mini",
            ]
        )
        == 0
    )
    words = "outside the model's world: grey levels as on T1-weighted images"
    assert words in capsys.readouterr().out
    with open(tmp_path / "out" / "summary.csv", encoding="utf-8") as file:
        assert words in next(csv.DictReader(file))["notes"]
    notes = json.loads((tmp_path / "out" / "x.json").read_text("utf-8"))["notes"]
    assert any(note["code"] == "world" and words in note["text"] for note in notes)
