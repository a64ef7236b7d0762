"""NRRD, MetaImage and DICOM series through SimpleITK, an optional package."""

from __future__ import annotations

import locale
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..errors import DependencyError, InputError
from ..files.names import is_dicom, split_suffix
from ..notes import Note
from ..volume import Volume
from .headers import check_header
from .nifti import placed, squeezed

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def read(path: Path) -> Volume:
    """Read an NRRD or MetaImage file as stored; raises InputError if it is damaged or not scalar."""
    itk = _simpleitk(path)
    check_header(path)
    reader = itk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with _same_locale():
            reader.ReadImageInformation()
            notes = _checked(itk, path, reader)
            image = reader.Execute()
    except RuntimeError as error:
        raise InputError(f"cannot read {path}: {_reason(error)}; the file is truncated or damaged") from error
    return placed(path, *_grid(itk, image), split_suffix(path)[0], notes)


def read_series(folder: Path) -> Volume:
    """Read the one DICOM series in a folder; the name is the folder's, never the patient's.

    Raises InputError if there is no series, more than one, or one that is not a scalar volume.
    """
    itk = _simpleitk(folder)
    series = itk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if len(series) != 1:
        count = "no DICOM series" if not series else f"{len(series)} DICOM series"
        raise InputError(f"{folder} holds {count}; expected exactly one in a folder of its own")
    names = itk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series[0])
    reader = itk.ImageSeriesReader() if len(names) > 1 else itk.ImageFileReader()
    try:
        if len(names) > 1:
            reader.SetFileNames(names)
            reader.MetaDataDictionaryArrayUpdateOn()
        else:
            reader.SetFileName(names[0])
        image = reader.Execute()
    except RuntimeError as error:
        raise InputError(f"cannot read the DICOM series in {folder}: {_reason(error)}") from error
    notes = _checked(itk, folder, image)
    left = sum(is_dicom(file) for file in folder.iterdir() if file.is_file()) - len(names)
    if left > 0:
        files = "1 DICOM file" if left == 1 else f"{left} DICOM files"
        notes += (Note("files", f"{files} of the folder does not belong to the series or is damaged"),)
    array, affine = _grid(itk, image)
    if len(names) > 1:
        affine, uneven = _stacked(affine, _positions(reader, len(names)))
        notes += uneven
    return placed(folder, array, affine, folder.resolve().name, notes)


def series_uid(file: Path) -> str:
    """SeriesInstanceUID of a DICOM file; raises InputError where there is none."""
    itk = _simpleitk(file)
    reader = itk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(file))
    try:
        reader.ReadImageInformation()
        return reader.GetMetaData("0020|000e").strip("\0 ")
    except RuntimeError as error:
        raise InputError(f"cannot read {file}: {_reason(error)}") from error


def write(path: Path, volume: Volume) -> None:
    """Write an NRRD or MetaImage file, compressed; raises InputError for a sheared grid, which they cannot place."""
    itk = _simpleitk(path)
    spacing = np.array(volume.spacing)
    directions = LPS_TO_RAS @ (volume.affine[:3, :3] / spacing)
    if np.abs(directions.T @ directions - np.eye(3)).max() > 1e-4:
        raise InputError(f"cannot write {path}: the axes of the volume are not at right angles; write .nii.gz instead")
    image = itk.GetImageFromArray(np.ascontiguousarray(volume.array.transpose(2, 1, 0)))
    image.SetSpacing([float(x) for x in spacing])
    image.SetOrigin([float(x) for x in LPS_TO_RAS @ volume.affine[:3, 3]])
    image.SetDirection([float(x) for x in directions.ravel()])
    itk.WriteImage(image, str(path), useCompression=True)


@contextmanager
def _same_locale() -> Iterator[None]:
    """Readers of ITK that give up leave the process with the C locale, in which Python's text files are ASCII."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        yield
    finally:
        locale.setlocale(locale.LC_ALL, before)


def _simpleitk(path: Path):
    try:
        import SimpleITK
    except ImportError as error:
        raise DependencyError(
            f"{path} needs SimpleITK, which is not installed: pip install 'zsadclip[itk]', or convert to .nii.gz"
        ) from error
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)  # its warnings go to standard error with whole paths
    return SimpleITK


def _checked(itk, path: Path, image) -> tuple[Note, ...]:
    """Notes on the shape of an image or of a header just read; raises InputError unless it is a scalar volume."""
    components = getattr(image, "GetNumberOfComponentsPerPixel", None) or image.GetNumberOfComponents
    kind = itk.GetPixelIDValueAsString(image.GetPixelIDValue())
    if components() != 1 or "complex" in kind or "vector" in kind:
        raise InputError(f"{path} holds {kind}; expected one real number a voxel, so pick one component first")
    return squeezed(path, tuple(image.GetSize()))[1]


def _grid(itk, image) -> tuple[np.ndarray, np.ndarray]:
    """The array (I, J, K), integers in at most 32 bits or float32, and the affine voxel -> RAS mm of an image."""
    array = itk.GetArrayFromImage(image).T
    array = array.reshape(squeezed(Path(), array.shape)[0])
    if array.dtype.kind == "f":
        array = array.astype(np.float32, copy=False)
    elif array.dtype.itemsize > 4:
        fits = np.iinfo(np.int32).min <= array.min() and array.max() <= np.iinfo(np.int32).max
        array = array.astype(np.int32 if fits else np.float32)
    # An image of 2 axes lies in a plane of its own; one of 4 with a single frame is placed by its first 3.
    dimension = image.GetDimension()
    directions, spacing, origin = np.eye(3), np.ones(3), np.zeros(3)
    n = min(dimension, 3)
    directions[:n, :n] = np.reshape(image.GetDirection(), (dimension, dimension))[:n, :n]
    spacing[:n], origin[:n] = image.GetSpacing()[:n], image.GetOrigin()[:n]
    affine = np.eye(4)
    affine[:3, :3] = LPS_TO_RAS @ directions * spacing
    affine[:3, 3] = LPS_TO_RAS @ origin
    return array, affine


def _positions(reader, count: int) -> np.ndarray:
    """ImagePositionPatient of each slice (N, 3), LPS mm; empty where a slice has none."""
    key = "0020|0032"
    if not all(reader.HasMetaDataKey(n, key) for n in range(count)):
        return np.empty((0, 3))
    return np.array([[float(x) for x in reader.GetMetaData(n, key).split("\\")] for n in range(count)])


def _stacked(affine: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, tuple[Note, ...]]:
    """The affine with the slice step that the DICOM positions (N, 3) in LPS mm say, and a note where it is uneven.

    ITK's own step is the distance along the normal, which loses the shear of a tilted gantry.
    """
    if not len(positions):
        return affine, (Note("unplaced", "the slices carry no position: their order and distance are assumed"),)
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    if steps.max() - steps.min() > 0.01 * steps.max():
        text = f"the slices are {steps.min():.3g} to {steps.max():.3g} mm apart: some may be missing or doubled, "
        return affine, (Note("uneven", text + "and sizes and positions along the slices are not exact"),)
    stacked = affine.copy()
    stacked[:3, 2] = LPS_TO_RAS @ (positions[-1] - positions[0]) / (len(positions) - 1)
    return stacked, ()


def _reason(error: Exception) -> str:
    """The last line of an ITK message: the lines before name its source files."""
    return str(error).strip().splitlines()[-1]
