"""A case's picture as a DICOM secondary capture (PS3.3, A.8), for viewers that show nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .outcome import Making


def capture(making: Making, picture: Path):
    """The picture, a file of matplotlib's formats, as a secondary capture in RGB, packed without loss."""
    from highdicom.sc import SCImage
    from PIL import Image
    from pydicom.uid import RLELossless

    with Image.open(picture) as image:
        pixels = np.asarray(image.convert("RGB"))
    made = SCImage.from_ref_dataset(
        making.sources.first,
        pixels,
        "RGB",
        8,
        "PATIENT",
        **making.common("picture"),
        patient_orientation=("L", "P"),
        transfer_syntax_uid=RLELossless,
    )
    # The picture shows slices of several places: it has no direction of its own.
    made.PatientOrientation = ""
    made.Modality, made.ConversionType = "OT", "WSD"
    return making.finished("picture", made)
