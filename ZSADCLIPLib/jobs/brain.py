"""Where the brain is in one volume as a job, for a panel that shows it before it is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import InputError
from ..progress import Progress, Report, quiet, silent


@dataclass(frozen=True)
class FindBrain:
    """Write the brain of `image` as a mask of 0 and 1 into the file `output`: what a detection with brain "auto" takes.

    Of a whole head the words of anatomy tell it, elsewhere it is what is not background.
    """

    image: str
    output: str
    device: str = "auto"

    kind: ClassVar[str] = "brain"

    def run(self, progress: Progress = silent, report: Report = quiet) -> dict:
        """Returns {"ml", "note"}; raises InputError for an image that cannot be read or a head without a brain, and what
        `progress` raises."""
        from ..volumes.hounsfield import is_hounsfield
        from ..volumes.intensity import brain_mask
        from ..volumes.reading import read_volume, write_volume
        from ..volumes.skull import has_skull

        volume = read_volume(self.image)
        note = ""
        if is_hounsfield(volume.array) or not has_skull(volume):
            brain = brain_mask(volume)
        else:
            brain, note = self._by_words(volume, progress)
        if brain is None:
            raise InputError(note)
        write_volume(self.output, volume.with_array(brain.astype(np.uint8)), "uint8")
        return {"ml": float(brain.sum() * np.prod(volume.spacing) / 1000), "note": note}

    def _by_words(self, volume, progress: Progress):
        from ..detection.anatomy import brain_of_head, taught_model
        from ..detection.devices import choose_device, default_batch_size
        from ..detection.preparation import Look

        model = taught_model(choose_device(self.device))
        batch = default_batch_size(model, model.native_size)
        brain, note = brain_of_head(model, Look(), volume, batch, progress)
        return brain, note.text
