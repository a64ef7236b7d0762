"""What leaves the engine says nothing about patients, and nothing leaves the machine."""

import json
import socket

import numpy as np
import pytest
from benchmark_cases import write_brains, write_profile

from ZSADCLIPLib.cli import main
from ZSADCLIPLib.detection.inputs import expand_inputs
from ZSADCLIPLib.errors import InputError
from ZSADCLIPLib.files.privacy import pseudonym, redact, renamed
from ZSADCLIPLib.notes import sentences
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.headers import check_header
from ZSADCLIPLib.volumes.itk import same_locale
from ZSADCLIPLib.volumes.reading import read_volume, write_volume

itk = pytest.importorskip("SimpleITK")
UID = "1.2.826.0.1.3680043.2.1125.1"
SECRETS = ("DOE", "JANE", "4711-PAT", "19700101", "St. Elsewhere", UID, "ward7")


def write_series(folder, slices=4):
    """A small DICOM series with everything in its headers that must not get out."""
    folder.mkdir(parents=True)
    image = itk.GetImageFromArray(np.random.default_rng(5).integers(0, 900, (slices, 20, 24)).astype(np.int16))
    writer = itk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    tags = {"0010|0010": "DOE^JANE", "0010|0020": "4711-PAT", "0010|0030": "19700101", "0008|0080": "St. Elsewhere"}
    tags |= {
        "0008|103e": "T2 DOE",
        "0020|000e": UID,
        "0020|000d": UID + ".2",
        "0008|0060": "MR",
        "0008|0020": "19700101",
    }
    for n in range(slices):
        plane = image[:, :, n]
        for key, value in tags.items():
            plane.SetMetaData(key, value)
        plane.SetMetaData("0008|0018", f"{UID}.3.{n}")
        plane.SetMetaData("0020|0032", f"0\\0\\{2 * n}")
        plane.SetMetaData("0020|0037", "1\\0\\0\\0\\1\\0")
        plane.SetMetaData("0020|0013", str(n))
        writer.SetFileName(str(folder / f"DOE_JANE_{n}.dcm"))
        with same_locale():
            writer.Execute(plane)
    return folder


@pytest.fixture
def series(tmp_path):
    return write_series(tmp_path / "ward7" / "DOE_JANE_19700101")


def no_network(*_, **__):
    raise AssertionError("something opened a connection")


def test_a_dicom_series_leaves_no_name_behind_and_calls_nobody(series, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "create_connection", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    broken = tmp_path / "ward7" / "DOE_JANE_broken"
    broken.mkdir()
    (broken / "DOE_JANE.dcm").write_bytes(bytes(128) + b"DICM" + b"DOE^JANE" * 20)
    out = tmp_path / "out"
    assert main(["detect", str(series), str(broken), "-o", str(out), "--image-size", "64", "--device", "cpu"]) == 1
    said = "".join(capfd.readouterr()).replace(str(out), "")
    written = {p.name: p.read_bytes().decode("latin-1") for p in out.rglob("*") if p.is_file()}
    for secret in SECRETS:
        assert secret not in said, secret
        assert not [name for name, text in written.items() if secret in name + text], secret
    name = pseudonym(UID, "dicom")
    assert f"{name}: done" in said and "1 failed" in said and "DICOM series" in said
    assert json.loads(written[f"{name}.json"])["id"] == name


@pytest.mark.parametrize("kind", ["values", "grid", "series"])
def test_a_truth_that_cannot_be_used_names_no_folder(series, tmp_path, capfd, kind):
    image = read_volume(series)
    place = image.affine if kind == "values" else image.affine @ np.diag([1.7, 1, 1, 1])
    values = np.full(image.shape, 0.5 if kind == "values" else 1, np.float32)
    mask = tmp_path / "ward7" / "DOE JANE" / "truth.nii"
    write_volume(mask, Volume(values, place))
    if kind == "series":
        mask = write_series(tmp_path / "ward7" / "DOE_JANE_MASK", slices=3)
    (tmp_path / "set.csv").write_text(f"id,image,mask\none,{series},{mask}\n")
    out = tmp_path / "out"
    assert main(["detect", str(tmp_path / "set.csv"), "-o", str(out), "--image-size", "64", "--device", "cpu"]) == 0
    said = "".join(capfd.readouterr()).replace(str(out), "")
    written = {p.name: p.read_bytes().decode("latin-1") for p in out.rglob("*") if p.is_file()}
    assert kind == "series" or "not compared with a truth" in said
    for secret in SECRETS:
        assert secret not in said, secret
        assert not [name for name, text in written.items() if secret in name + text], secret


def test_a_damaged_slice_is_said(series):
    last = series / "DOE_JANE_3.dcm"
    last.write_bytes(last.read_bytes()[:700])
    assert "1 DICOM file of the folder does not belong to the series, or cannot be read" in sentences(
        read_volume(series).notes
    )
    first = series / "DOE_JANE_0.dcm"
    first.write_bytes(first.read_bytes()[:700])
    assert "2 DICOM files of the folder do not belong to the series, or cannot be read" in sentences(
        read_volume(series).notes
    )


def test_identifiers_are_kept_when_asked(series, tmp_path):
    assert [case.id for case in expand_inputs(series, keep_identifiers=True)] == ["DOE_JANE_19700101"]
    assert [case.id for case in expand_inputs(series)] == [pseudonym(UID, "dicom")]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("cannot read /data/DOE JANE/a.nii.gz: no", "cannot read a.nii.gz: no"),
        ("[Errno 2] No such file: '/mnt/x/ward7/b.nii'", "[Errno 2] No such file: 'b.nii'"),
        (r"at C:\scans\DOE\a.nii now", "at a.nii now"),
        ("5 of 7 and/or 1/2 from https://example.org/a", "5 of 7 and/or 1/2 from https://example.org/a"),
    ],
)
def test_folders_are_taken_out_of_messages(text, left):
    assert redact(text, ["/data/DOE JANE/a.nii.gz"]) == left


@pytest.fixture
def ward(tmp_path):
    """A data set in folders named like patients: one case twice, an adapter and a profile beside it."""
    home = tmp_path / "ward7" / "DOE JANE 19700101"
    write_brains(home / "data" / "JANE", subjects=7)
    (double,) = (home / "data" / "JANE").glob("*-00006-*/*-t2w.nii.gz")
    (home / "data" / "St. Elsewhere").mkdir()
    (home / "data" / "St. Elsewhere" / double.name).write_bytes(double.read_bytes())
    (home / "vand.pth").write_bytes(b"1")
    write_profile(home / "tiny.json", methods={"vand": {"industrial": str(home / "vand.pth")}})
    return home


def told(out, capfd) -> str:
    """Everything that a run wrote and said."""
    files = [path for path in out.rglob("*") if path.is_file()]
    return "".join([*capfd.readouterr(), *map(str, files), *(path.read_bytes().decode("latin-1") for path in files)])


def test_a_benchmark_names_no_folder(ward, tmp_path, capfd):
    out, options = tmp_path / "out", ["--rows", "intensity-baseline", "--profile", str(ward / "tiny.json")]
    command = ["benchmark", "--data", str(ward / "data"), "--out", str(out), *options]
    assert main(command) == 0
    settings = json.loads((out / "run.json").read_text("utf-8"))
    assert settings["settings"]["methods"]["vand"]["industrial"] == "vand.pth"
    assert settings["problems"][0].startswith("case BraTS-MET-00006-000 has more than one t2w file: BraTS-MET-00006")
    (row,) = (out / "rows").iterdir()
    (image,) = (ward / "data").rglob(f"{sorted((row / 'cases').iterdir())[0].stem}-t2w.nii.gz")
    image.write_bytes(image.read_bytes()[:200])
    assert main(command) == 1
    everything = told(out, capfd)
    assert "intensity-baseline: failed" in everything and f"cannot read {image.name}" in everything
    assert [secret for secret in SECRETS if secret in everything] == []
    assert main([*command, "--keep-identifiers"]) == 1
    assert str(ward / "vand.pth") in (out / "run.json").read_text("utf-8") and str(image) in capfd.readouterr().out


def test_an_audit_names_no_folder(ward, tmp_path, capfd):
    (image,) = (ward / "data").rglob("*-00001-*-t2w.nii.gz")
    image.write_bytes(image.read_bytes()[:200])
    command = ["data", "audit", str(ward / "data"), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    everything = told(tmp_path / "out", capfd)
    assert f"cannot read {image.name}" in everything and "case BraTS-MET-00006-000 has more than one" in everything
    assert [secret for secret in SECRETS if secret in everything] == []
    assert main([*command, "--keep-identifiers"]) == 0
    assert all(secret in told(tmp_path / "out", capfd) for secret in ("DOE JANE 19700101", "St. Elsewhere"))


def test_errors_are_printable():
    from ZSADCLIPLib.files.privacy import printable

    assert printable("z\udcff \x1b[2J\x00 Zürich\n") == "z\\udcff \\x1b[2J\\x00 Zürich\n"


def test_a_folder_gets_its_cases_name_and_the_rest_of_the_text_stays(tmp_path):
    folder = tmp_path / "DOE JOHN"
    text = f"{folder} holds 2 series; cannot read {folder}/1.dcm of DOE JOHN; DOE JOHNSON"
    assert (
        renamed(text, folder, "dicom-1") == "dicom-1 holds 2 series; cannot read dicom-1/1.dcm of dicom-1; DOE JOHNSON"
    )
    text = f"{tmp_path / '2'} holds 2 DICOM series; 26 are not 2"
    assert renamed(text, tmp_path / "2", "dicom-2") == "dicom-2 holds 2 DICOM series; 26 are not 2"
    (tmp_path / "link").symlink_to(tmp_path / "2")
    assert renamed("link: bad", tmp_path / "link", "x") == "x: bad"


def test_headers_are_not_quoted(tmp_path):
    for name in ("../DOE_JOHN_19500101/img.raw", "DOE_JOHN_19500101.raw"):
        (tmp_path / "a.mhd").write_text(
            f"NDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = {name}\n"
        )
        with pytest.raises(InputError) as caught:
            check_header(tmp_path / "a.mhd")
        assert "DOE" not in str(caught.value)
