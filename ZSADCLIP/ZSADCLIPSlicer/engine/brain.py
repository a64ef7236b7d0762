"""The brain of a volume node, found by the engine in the background."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import slicer
from slicer.i18n import tr as _

from ZSADCLIPLib.errors import InputError

from ..scene.geometry import volumeOf
from . import exchange
from .background import BackgroundJob


class FindBrain(BackgroundJob):
    """When it is done without an error, `mask` is bool (K, J, I) on the grid of `input`, and `ml` how much that is.

    `start()` raises InputError for a volume that cannot be used, too.
    """

    def __init__(self, inputNode, device: str = "auto", python: str = "", command=None):
        super().__init__(python, command)
        self.input, self._device = inputNode, device
        self.mask, self.ml = None, 0.0

    @property
    def gone(self) -> bool:
        """True when the volume left the scene meanwhile."""
        return slicer.mrmlScene.GetNodeByID(self.input.GetID() or "") is not self.input

    def job(self, folder: Path) -> dict:
        volume = volumeOf(self.input)
        exchange.write(folder / "input.nii", volume.array, volume.affine)
        files = {"image": str(folder / "input.nii"), "output": str(folder / "brain.nii")}
        return {"job": "brain", "device": self._device, **files}

    def finish(self, folder: Path, event: dict) -> None:
        mask = exchange.read(folder / "brain.nii") > 0.5
        if not self.gone and mask.shape != self.input.GetImageData().GetDimensions():
            raise InputError(_("The volume changed its size meanwhile: find its brain again."))
        self.mask, self.ml = np.ascontiguousarray(mask.T), float(event["ml"])
