"""Detection by distances to other volumes: `BankDetector(backbone, bank).detect(volume)`, and that of a scored batch."""

from __future__ import annotations

import numpy as np

from ..detection.detector import Detection
from ..detection.devices import default_batch_size
from ..errors import InputError, number_of
from ..execution.shared import on_device
from ..notes import Note
from ..progress import Progress, silent, sub_progress
from ..volume import Volume
from . import BANK, COHORT
from .bank import RATE, SUGGESTED, TokenBank, display_range
from .result import Cut, Source, detection_of, volume_score
from .stages import Files
from .storing import read_array, read_facts
from .tokens import TokenSettings, volume_tokens


class BankDetector:
    """Scores whole volumes by how far their tokens are from those of healthy ones; no words, no training, no masks.

    The bank says how volumes are looked at. Raises WeightsError for another backbone than the bank's.
    """

    def __init__(self, backbone, bank: TokenBank, cut: Cut = Cut(), batch_size: int | None = None):  # noqa: B008
        bank.check_backbone(backbone)
        self.backbone, self.bank, self.cut = backbone, bank, cut
        self.batch_size = batch_size or default_batch_size(backbone, bank.settings.image_size)

    def detect(self, volume: Volume, brain: np.ndarray | None = None, progress: Progress = silent) -> Detection:
        """Score a volume; `brain` (I, J, K) bool limits mask and findings (default: found from the image).

        Raises as `volume_tokens`, and InputError when `brain` has another shape or is empty.
        """
        if brain is not None and (brain.shape != volume.shape or not brain.any()):
            raise InputError(
                f"the brain mask of shape {brain.shape} with {int(brain.sum())} voxels does not fit the volume {volume.shape}"
            )
        settings = self.bank.settings
        found = volume_tokens(self.backbone, volume, settings, brain, self.batch_size, sub_progress(progress, 0.0, 0.9))
        progress(0.9, "comparing with healthy volumes")
        scores = on_device(lambda: self.bank.scores(found.units(self.backbone.device)).cpu().numpy())
        prepared = settings.look(0).prepare(volume, settings.image_size, brain=brain)
        return detection_of(volume, prepared, found.cells, scores, self._source(), self.cut, self._notes())

    def _source(self) -> Source:
        bank = self.bank
        facts = {"volumes": bank.volumes, "tokens": len(bank.tokens), "tokens_seen": bank.seen}
        facts |= {"interval": list(bank.interval), "device": self.backbone.device.type}
        thresholds = {} if bank.threshold is None else {"threshold": bank.threshold}
        rule = f"fpr:{RATE:g} of the bank's own volumes, each scored by the others"
        described = self.backbone.describe()
        return Source(BANK, described, bank.settings, facts, thresholds, rule, bank.display)

    def _notes(self) -> tuple[Note, ...]:
        if self.bank.volumes >= SUGGESTED:
            return ()
        few = f"the bank holds {number_of(self.bank.volumes, 'healthy volume')}"
        said = "no threshold" if self.bank.threshold is None else "its threshold is a guess"
        return (Note("bank", f"{few}: {said}; build it of {SUGGESTED} or more"),)


class CohortDetector:
    """Makes the detection of a volume of a batch whose cells were scored before.

    `facts` are those of `jobs.cohort.Cohort`: the batch's cut and median, and what the provenance says of it.
    """

    def __init__(
        self, files: Files, case_id: str, settings: TokenSettings, cut: Cut, facts: dict, notes: tuple[Note, ...]
    ):
        self.files, self.case_id, self.settings, self.cut = files, case_id, settings, cut
        self.facts, self.notes = facts, notes

    def detect(self, volume: Volume, brain: np.ndarray | None = None, progress: Progress = silent) -> Detection:
        """The detection of the volume; its image says where its cells are. Raises InputError when files of the batch are gone."""
        path, settings, last = self.files.tokens(self.case_id), self.settings, len(self.facts["passes"]) - 1
        of_passes = [read_array(self.files.scores(turn, self.case_id), "scores") for turn in range(last + 1)]
        passes = [
            {**said, "volume_score": volume_score(scores)}
            for said, scores in zip(self.facts["passes"], of_passes, strict=True)
        ]
        said = {name: self.facts[name] for name in ("volumes", "references", "drop", "window_mm")} | {"passes": passes}
        cut, median = self.facts["cut"], self.facts["median"]
        source = Source(
            COHORT,
            read_facts(path)["backbone"],
            settings,
            {**said, "use": "scores hold within this batch only"},
            {"threshold": cut},
            self.facts["rule"],
            display_range(cut, median),
        )
        prepared = settings.look(0).prepare(volume, settings.image_size, brain=brain)
        return detection_of(volume, prepared, read_array(path, "cells"), of_passes[last], source, self.cut, self.notes)
