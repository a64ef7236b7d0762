"""NRRD and MetaImage through SimpleITK, an optional package."""

from __future__ import annotations

import locale
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..errors import DependencyError, InputError
from ..files.names import split_suffix
from ..notes import Note
from ..threads import Shared
from ..volume import Volume
from .headers import check_header
from .nifti import placed, squeezed

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def read(path: Path) -> Volume:
    """Read an NRRD or MetaImage file as stored; raises InputError if it is damaged or not scalar."""
    itk = simpleitk(path)
    check_header(path)
    reader = itk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with same_locale():
            reader.ReadImageInformation()
            notes = _checked(itk, path, reader)
            image = reader.Execute()
    except RuntimeError as error:
        raise InputError(f"cannot read {path}: {_reason(error)}; the file is truncated or damaged") from error
    return placed(path, *_grid(itk, image), split_suffix(path)[0], notes)


def write(path: Path, volume: Volume) -> None:
    """Write an NRRD or MetaImage file, compressed; raises InputError for a sheared grid, which they cannot place."""
    itk = simpleitk(path)
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
def _locale_of_before() -> Iterator[None]:
    """ITK leaves the C locale behind (DICOM written, or not readable), in which Python's text files are ASCII."""
    before = locale.setlocale(locale.LC_ALL)
    try:
        yield
    finally:
        locale.setlocale(locale.LC_ALL, before)


same_locale = Shared(_locale_of_before)


def simpleitk(path: Path):
    """The library, its warnings off; raises DependencyError where it is missing."""
    try:
        import SimpleITK
    except ImportError as error:
        raise DependencyError(
            f"{path} needs SimpleITK, which is not installed: pip install 'zsadclip[itk]' (for DICOM "
            "'zsadclip[dicom]'), or convert to .nii.gz"
        ) from error
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)  # its warnings go to standard error with whole paths
    return SimpleITK


def plain(array: np.ndarray) -> np.ndarray:
    """The values as float32 where they are not whole, as integers of at most 32 bits where those hold them."""
    if array.dtype.kind == "f":
        return array.astype(np.float32, copy=False)
    if array.dtype.itemsize > 4:
        fits = np.iinfo(np.int32).min <= array.min() and array.max() <= np.iinfo(np.int32).max
        return array.astype(np.int32 if fits else np.float32)
    return array


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
    array = plain(array.reshape(squeezed(Path(), array.shape)[0]))
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


def _reason(error: Exception) -> str:
    """The last line of an ITK message: the lines before name its source files."""
    return str(error).strip().splitlines()[-1]
