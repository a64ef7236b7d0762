"""A new file format is one module and one line of FORMATS; everything that takes volumes takes it from there."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import affine
from small_models import config

from ZSADCLIPLib.datasets.audit import audit
from ZSADCLIPLib.detection.inputs import Case, expand_inputs
from ZSADCLIPLib.errors import InputError, UsageError
from ZSADCLIPLib.files.names import split_suffix
from ZSADCLIPLib.jobs.detect import Detect
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.reading import FORMATS, Format, read_volume, volume_hash, write_volume


def read_toy(path: Path) -> Volume:
    """A text file with the values, and the affine beside it."""
    data, grid = (json.loads(file.read_text("utf-8")) for file in toy_files(path))
    return Volume(np.array(data, np.float32), np.array(grid), split_suffix(path)[0])


def toy_files(path: Path) -> list[Path]:
    return [path, path.with_name(path.name + "-grid")]


toyvol = SimpleNamespace(read=read_toy, files_of=toy_files)
"""The module of the format that a newcomer writes; read only."""


def write_toy(path: Path, array: np.ndarray) -> Path:
    path.write_text(json.dumps(array.tolist()))
    toy_files(path)[1].write_text(json.dumps(affine().tolist()))
    return path


@pytest.fixture
def head(monkeypatch, tmp_path, rng) -> Path:
    monkeypatch.setitem(FORMATS, ".toyvol", Format(toyvol.read, files_of=toyvol.files_of))
    array = np.zeros((20, 22, 4), np.float32)
    array[3:-3, 3:-3] = rng.uniform(50, 200, (14, 16, 4)).round()
    return write_toy(tmp_path / "head.toyvol", array)


def test_it_is_read_and_found_but_not_written(head):
    assert read_volume(head).shape == (20, 22, 4)
    (head.parent / "head.txt").write_text("no volume")
    assert expand_inputs(head.parent) == expand_inputs(head) == [Case("head", head)]
    with pytest.raises(UsageError, match="must end with one of .nii, .nii.gz, .nrrd, .mha$"):
        write_volume(head, read_volume(head))


def test_its_content_is_that_of_all_its_files(head):
    before = volume_hash(head)
    toy_files(head)[1].write_text(json.dumps(affine((2, 2, 2)).tolist()))
    assert volume_hash(head) != before and volume_hash(head).split(":")[0] == before.split(":")[0]


def test_an_unknown_ending_names_the_new_one_too(head):
    other = head.rename(head.with_suffix(".toy"))
    for work in (read_volume, expand_inputs):
        with pytest.raises(InputError, match=r"\.toyvol"):
            work(other)


def test_detection_takes_it(head, tmp_path):
    model = tmp_path / "model.json"
    model.write_text(json.dumps(config("vit")))
    done = Detect(
        inputs=(str(head),), output=str(tmp_path / "out"), backbone=str(model), weights="random:3",
        checkpoint="vand:random", image_size=64, threshold="quantile:0.9", pictures=False, device="cpu",
    ).run()  # fmt: skip
    assert done["failed"] == 0
    assert read_volume(tmp_path / "out" / "head_anomaly.nii.gz").shape == (20, 22, 4)


def test_the_audit_of_a_manifest_takes_it(head):
    mask = np.zeros((20, 22, 4))
    mask[6:9, 6:9, 1:3] = 1
    write_toy(head.with_name("mask.toyvol"), mask)
    manifest = head.with_name("cases.csv")
    manifest.write_text("id,image,mask\nhead,head.toyvol,mask.toyvol\n")
    (case,) = audit(manifest).cases
    assert (case.errors, case.shape, case.lesions) == ([], (20, 22, 4), 1)


@pytest.mark.parametrize(
    ("name", "parts"),
    [("a.b.nii.gz", ("a.b", ".nii.gz")), ("A.NII.GZ", ("A", ".nii.gz")), ("a.toyvol.gz", ("a", ".toyvol.gz"))]
    + [("a.gz", ("a", ".gz")), ("a.b", ("a", ".b")), ("a", ("a", "")), (".nii", (".nii", ""))],
)  # fmt: skip
def test_a_compressed_ending_is_one(name, parts):
    assert split_suffix(Path(name)) == parts
