"""DICOM files as such: empty, truncated, without preamble, and in the transfer syntaxes that SimpleITK decodes."""

import numpy as np
import pytest

pytest.importorskip("SimpleITK")
pydicom = pytest.importorskip("pydicom")

from dicom_files import AFFINE, brain, write_series  # noqa: E402

from ZSADCLIPLib.errors import InputError  # noqa: E402
from ZSADCLIPLib.volumes.itk import same_locale  # noqa: E402
from ZSADCLIPLib.volumes.reading import read_volume  # noqa: E402

TRUE = brain()


def is_true(volume):
    return np.array_equal(volume.array, TRUE) and np.allclose(volume.affine, AFFINE, atol=1e-6)


def codes(volume):
    return [(note.code, note.severity) for note in volume.notes]


def test_empty_and_truncated_files_are_said(tmp_path):
    folder = write_series(tmp_path / "d", TRUE)
    (folder / "empty.dcm").write_bytes(b"")
    volume = read_volume(folder)
    assert is_true(volume) and codes(volume) == [("damaged", "warning")]
    (folder / "s005").write_bytes((folder / "s005").read_bytes()[:-20])
    assert [code for code, _ in codes(read_volume(folder))] == ["uneven", "damaged"]


def test_files_without_preamble_are_read(tmp_path):
    folder = write_series(tmp_path / "d", TRUE)
    for n, file in enumerate(sorted(folder.iterdir())):
        ds = pydicom.dcmread(file)
        if n % 2:
            file.write_bytes(file.read_bytes()[132:])
        else:
            ds.preamble = None
            del ds.file_meta
            ds.save_as(file, implicit_vr=True, little_endian=True, enforce_file_format=False)
    assert is_true(read_volume(folder))


IMPLICIT, BIG_ENDIAN, DEFLATED, RLE = (f"1.2.840.10008.1.2{end}" for end in ("", ".2", ".1.99", ".5"))


@pytest.mark.parametrize("syntax", [IMPLICIT, BIG_ENDIAN, DEFLATED, RLE])
def test_transfer_syntaxes(tmp_path, syntax):
    folder = write_series(tmp_path / "d", TRUE)
    for file in folder.iterdir():
        ds = pydicom.dcmread(file)
        if syntax == RLE:
            ds.compress(RLE)
        else:
            ds.file_meta.TransferSyntaxUID = syntax
        if syntax == BIG_ENDIAN:
            ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
        pydicom.dcmwrite(
            file, ds, implicit_vr=syntax == IMPLICIT, little_endian=syntax != BIG_ENDIAN, force_encoding=True
        )
    assert is_true(read_volume(folder))


@pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
def test_compressed_pixels(tmp_path, compressor):
    import SimpleITK as itk

    folder = write_series(tmp_path / "d", TRUE)
    for file in folder.iterdir():
        image = itk.ReadImage(str(file))
        writer = itk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.SetFileName(str(file))
        writer.KeepOriginalImageUIDOn()
        writer.UseCompressionOn()
        writer.SetCompressor(compressor)
        with same_locale():
            writer.Execute(image)
        assert pydicom.dcmread(file).file_meta.TransferSyntaxUID.is_compressed
    assert is_true(read_volume(folder))


def test_truncated_compressed_pixels_are_refused(tmp_path):
    folder = write_series(tmp_path / "d", TRUE)
    for file in folder.iterdir():
        ds = pydicom.dcmread(file)
        ds.compress(RLE)
        ds.save_as(file)
    (folder / "s004").write_bytes((folder / "s004").read_bytes()[:-300])
    with pytest.raises(InputError, match="truncated or damaged"):
        read_volume(folder)
