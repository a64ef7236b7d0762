"""One plane of a DICOM file, and the tiles of a Siemens mosaic as such planes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

MOST_TILES = 4096  # a volume has no more slices


@dataclass(frozen=True)
class Frame:
    """One plane of a file: LPS positions and lengths in mm, times in ms; None where the header does not say.

    `spacing` is the distance of rows, then of columns; `between` that of slices; `kind` is ImageType from its third value,
    `time`, `acquisition` and `trigger` what numbers the volumes of a series, `order` how the frames of a series follow each
    other; `rescale` are slope and intercept, `applied` those of the first frame of the file, which
    has `frames` of them; `tiles` is the side of a mosaic in slices; `inverted` pixels are shown with the lowest white.
    """

    file: Path
    index: int
    frames: int
    series: str
    instance: str
    number: float
    modality: str
    description: str
    size: tuple[int, int]
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    thickness: float | None
    between: float | None
    location: float | None
    kind: tuple[str, ...]
    echo: float | None
    echo_number: float | None
    time: float | None
    b_value: float | None
    acquisition: float | None
    trigger: float | None
    order: tuple
    rescale: tuple[float, float] = (1.0, 0.0)
    applied: tuple[float, float] = (1.0, 0.0)
    tiles: int = 0
    capture: bool = False
    inverted: bool = False

    @property
    def normal(self) -> np.ndarray:
        """Unit vector (3,) across the plane, LPS."""
        row, column = np.reshape(self.orientation or (1.0, 0, 0, 0, 1.0, 0), (2, 3))
        return np.cross(row, column)


def tiles_of(frame: Frame, count: float | None, csa) -> list[Frame]:
    """The slices of a mosaic as frames of their own; none where its header does not place them.

    The header places the mosaic as if it were one large slice with the centre of the true ones. The direction in which
    slices follow each other, and in older files their number, stand in Siemens' own header alone, the element `csa`.
    """
    try:
        from nibabel.nicom.csareader import read

        fields = read(csa.value)["tags"]
        normal = np.array(fields["SliceNormalVector"]["items"], float)
        number = int(count or fields["NumberOfImagesInMosaic"]["items"][0])
    except Exception:  # a private header may hold anything
        return []
    step = frame.between or frame.thickness
    placed = frame.position and frame.orientation and frame.spacing and step
    if not placed or normal.shape != (3,) or not 0 < number <= MOST_TILES or abs(abs(normal @ frame.normal) - 1) > 1e-2:
        return []
    side = math.ceil(math.sqrt(number))
    rows, columns = frame.size[0] // side, frame.size[1] // side
    row, column = np.reshape(frame.orientation, (2, 3))
    down, right = frame.spacing[0] * (frame.size[0] - rows) / 2, frame.spacing[1] * (frame.size[1] - columns) / 2
    corner = np.array(frame.position) + row * right + column * down
    return [
        replace(
            frame,
            index=k,
            frames=number,
            tiles=side,
            size=(rows, columns),
            position=tuple(float(x) for x in corner + k * step * normal),
            order=(*frame.order[:-1], k),
        )
        for k in range(number)
    ]
