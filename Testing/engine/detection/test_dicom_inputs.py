"""DICOM on the command line: folders, single files and media as cases, the choice of a volume, the list, and privacy."""

import builtins
import csv
import json
import warnings

import numpy as np
import pytest

pytest.importorskip("SimpleITK")
pydicom = pytest.importorskip("pydicom")

from dicom_files import (  # noqa: E402
    CAPTURE,
    SEG,
    SR,
    UID,
    brain,
    write_dicomdir,
    write_enhanced,
    write_object,
    write_series,
)

from ZSADCLIPLib.cli import main  # noqa: E402
from ZSADCLIPLib.detection.inputs import expand_inputs  # noqa: E402
from ZSADCLIPLib.errors import DependencyError, InputError  # noqa: E402
from ZSADCLIPLib.files.privacy import pseudonym  # noqa: E402
from ZSADCLIPLib.volumes.reading import files_of, read_volume, volume_hash  # noqa: E402

SECRETS = ("DOE", "Doe", "4711-PAT", UID, "ward7")
ID = pseudonym(UID, "dicom")


@pytest.fixture
def ward(tmp_path):
    """Two echoes of a series, a segmentation beside them, in folders named like patients."""
    folder = write_series(tmp_path / "ward7" / "DOE_JANE", brain(), EchoTime=10.0)
    write_series(folder, brain(seed=1), first=101, EchoTime=90.0)
    write_object(folder / "a-seg.dcm", SEG)
    return folder


def detect(*arguments, out):
    return main(
        ["detect", *map(str, arguments), "-o", str(out), "--image-size", "64", "--device", "cpu", "--no-pictures"]
    )


def test_a_volume_is_chosen_by_number_uid_or_description(ward, tmp_path, capfd):
    assert detect(ward, out=tmp_path / "a") == 1
    said = capfd.readouterr().out.replace(str(tmp_path / "a"), "")
    assert "1: MR 10 slices 16x18, 0.8x0.9x2.5 mm, axial, echo 10 ms; 2:" in said and "--series" in said
    assert not [secret for secret in SECRETS if secret in said]
    assert detect(ward, "--series", "2", out=tmp_path / "a") == 0
    said = capfd.readouterr().out
    assert "volume 2 of 2 was chosen" in said and "segmentation (1 file)" in said
    (case,) = csv.DictReader((tmp_path / "a" / "summary.csv").open())
    assert case["id"] == ID and "volume 2 of 2" in case["notes"]
    everything = "".join(p.read_bytes().decode("latin-1") for p in (tmp_path / "a").iterdir())
    assert not [secret for secret in SECRETS if secret in everything]
    assert detect(ward, "--series", "2", "--skip-existing", out=tmp_path / "a") == 0
    assert "1 kept" in capfd.readouterr().out
    assert detect(ward, "--series", "1", "--skip-existing", out=tmp_path / "a") == 0
    assert "kept" not in capfd.readouterr().out
    for series in (UID, "t2 doe", "T2"):
        with pytest.raises(InputError, match=r"has 2 volumes that .* fits"):
            read_volume(ward, series=series)
    for series in ("3", "0", "1.2.3", "flair"):
        with pytest.raises(InputError, match=r"has no volume .*1: MR 10"):
            read_volume(ward, series=series)
    with pytest.raises(InputError, match="1: 'T2 DOE', MR 10"):
        read_volume(ward, keep_identifiers=True)


def test_a_description_chooses_among_series(tmp_path):
    write_series(tmp_path / "d", brain(), SeriesDescription="T2 ax")
    write_series(tmp_path / "d", brain(seed=1), first=101, uid=UID + ".2", SeriesDescription="FLAIR ax")
    for series in ("flair AX", "flair", UID + ".2"):
        assert np.array_equal(read_volume(tmp_path / "d", series=series).array, brain(seed=1))


def test_a_doubt_stops_a_case_unless_it_is_allowed(tmp_path, capfd):
    folder = write_series(tmp_path / "d", brain(), skip=[4])
    assert detect(folder, out=tmp_path / "out") == 1
    assert "1 slice seems to be missing" in (said := capfd.readouterr().out) and "--allow uneven" in said
    assert detect(folder, "--allow", "uneven", out=tmp_path / "out") == 0
    assert "warning: the slices are 2.5 to 5 mm apart" in capfd.readouterr().out


def test_objects_and_media_beside_a_series_are_no_cases(tmp_path):
    write_series(tmp_path / "cd" / "IMAGES", brain())
    write_dicomdir(tmp_path / "cd" / "DICOMDIR", [("IMAGES", f"s{n:03}") for n in range(1, 11)])
    write_object(tmp_path / "cd" / "report.dcm", SR)
    write_object(tmp_path / "cd" / "seg" / "a.dcm", SEG)
    said = []
    assert [case.id for case in expand_inputs(tmp_path / "cd", report=said.append)] == [ID]
    assert "2 DICOM objects that are no image" in said[0]["text"]
    with pytest.raises(InputError, match="only DICOM objects that are no image"):
        expand_inputs(tmp_path / "cd" / "seg")


def test_the_id_does_not_depend_on_objects_beside_the_images(tmp_path):
    folder = write_series(tmp_path / "d", brain())
    before = [case.id for case in expand_inputs(folder)]
    write_object(folder / "a.dcm", CAPTURE)
    assert [case.id for case in expand_inputs(folder)] == before == [ID]


def test_a_dicomdir_is_followed(tmp_path):
    """Also where a series lies in several folders, and where files are missing."""
    for k in range(10):
        write_series(tmp_path / f"D{k}", brain(), skip=set(range(10)) - {k})
    names = [(f"D{k}", f"s{k + 1:03}") for k in range(10)]
    path = write_dicomdir(tmp_path / "DICOMDIR", names)
    (case,) = expand_inputs(path)
    volume = read_volume(case.image)
    assert (case.id, volume.notes) == (ID, ()) and np.array_equal(volume.array, brain())
    assert files_of(path)[1:] == [tmp_path.joinpath(*words) for words in names]
    write_dicomdir(path, [*names, ("D3", "LOST"), ("..", "x")])
    assert "2 DICOM files of the folder" in read_volume(path).notes[0].text
    write_dicomdir(path, [("..", "..", "etc", "passwd")])
    with pytest.raises(InputError, match="names no file that is there"):
        read_volume(path)
    path.write_bytes(bytes(128) + b"DICM\2\0")
    with pytest.raises(InputError, match="DICOMDIR"):
        read_volume(path)


def test_slices_that_are_named_stand_for_their_volume_once(ward, tmp_path):
    files = sorted(ward.iterdir())
    (case,) = expand_inputs(ward / "s003")
    volume = read_volume(case.image)
    assert case.id == ID and np.array_equal(volume.array, brain())
    assert "one of 10 slices of a volume" in volume.notes[-1].text
    said = []
    named = [expand_inputs(sorted(ward.glob("s00*"))), expand_inputs(f"{ward}/s00*")]
    assert named == [[case], [case]] and volume_hash(case.image) == volume_hash(ward / "s001")
    (both,) = expand_inputs(files, report=said.append)
    assert (both.id, both.image) == (ID, ward) and "1 DICOM object that is no image" in said[0]["text"]
    assert np.array_equal(read_volume(ward / "s103", series="2").array, brain(seed=1))
    with pytest.raises(InputError, match="has no volume '1'.*2: MR 10 slices"):
        read_volume(ward / "s103", series="1")
    with pytest.raises(InputError, match="no DICOM series of a volume"):
        read_volume(ward / "a-seg.dcm")


@pytest.mark.parametrize("name", ["", "s003"])
def test_a_changed_slice_is_noticed(ward, name):
    before, file = volume_hash(ward / name), ward / "s007"
    file.write_bytes(file.read_bytes()[:-2] + b"\1\1")
    assert volume_hash(ward / name) != before


def test_the_list(ward, tmp_path, capfd):
    assert main(["dicom", "list", str(ward)]) == 0
    head, first, second, left = capfd.readouterr().out.splitlines()
    assert head.split()[:5] == ["n", "modality", "slices", "size", "spacing"]
    assert first.split() == ["1", "MR", "10", "16x18", "0.8x0.9x2.5", "axial", "echo", "10", "ms", "yes"]
    assert second.startswith("2") and "echo 90 ms" in second and left == "left out: segmentation (1)"
    write_enhanced(tmp_path / "ward7" / "x" / "e.dcm", brain().transpose(2, 1, 0), range(10), uid=UID + ".8")
    assert main(["dicom", "list", str(tmp_path / "ward7"), "--json"]) == 0
    text = capfd.readouterr().out
    assert [len(folder["volumes"]) for folder in json.loads(text)] == [2, 1]
    assert not [secret for secret in SECRETS if secret in text]
    assert main(["dicom", "list", str(ward), "--keep-identifiers"]) == 0
    assert "T2 DOE" in (text := capfd.readouterr().out) and UID in text
    for bad in (tmp_path / "absent", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        assert main(["dicom", "list", str(bad)]) == 1
    write_series(tmp_path / "gap", brain(), skip=[4])
    assert main(["dicom", "list", str(tmp_path / "gap")]) == 1
    assert "1 slice seems to be missing" in capfd.readouterr().out


def test_warnings_about_headers_stay_off_the_terminal(tmp_path, capfd):
    folder = write_series(tmp_path / "d", brain())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for file in folder.iterdir():
            ds = pydicom.dcmread(file)
            ds.add_new("SeriesDescription", "LO", "Doe^Jane " * 20)
            ds.add_new("StudyDate", "DA", "1.1.1970 Doe")
            ds.SpecificCharacterSet = "DOE_IR 999"
            ds.save_as(file)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert main(["dicom", "list", str(folder)]) == 0
        assert detect(folder, out=tmp_path / "out") == 0
    captured = capfd.readouterr()
    assert "oe^" not in captured.out + captured.err and not [w for w in caught if "DOE" in str(w.message)]


def test_without_pydicom_the_extra_is_named(ward, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **named):
        if name.split(".")[0] == "pydicom":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    assert len(expand_inputs(ward)) == 1
    with pytest.raises(DependencyError, match=r"zsadclip\[dicom\]"):
        read_volume(ward)
