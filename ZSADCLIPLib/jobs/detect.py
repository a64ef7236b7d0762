"""The job behind `zsadclip detect`: volumes in; maps, masks, findings and pictures out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from ..adapters import DEFAULT_METHOD, METHODS
from ..backbones import BACKBONES
from ..datasets.records import CHANNELS
from ..detection.case import run_case
from ..detection.caserun import CaseRun
from ..detection.objects import check_objects
from ..detection.outputs import SUMMARY, check_free, is_of, result_paths
from ..detection.shifts import SHIFTS
from ..dicom.export import SETS
from ..errors import OutputError, UsageError
from ..execution import execute
from ..execution.base import EXECUTION_FIELDS
from ..fields import AtLeast, OneOf, Positive, flag
from ..files.atomic import clear_temporaries
from ..files.locks import folder_lock, is_held
from ..neighbours import BANK, LABELS
from ..notes import DOUBTS
from ..progress import Progress, Report, quiet, silent
from ..volumes.components import LEAST_DEPTH_MM, SMALLEST_MM3
from ..volumes.fusion import FUSIONS
from ..volumes.hounsfield import WINDOWS, parse_window
from ..volumes.intensity import MODES
from ..volumes.maptypes import MAP_TYPES
from ..volumes.slicing import PLANES
from ..volumes.smoothing import SMOOTHING
from .detectors import backbone_of, make_bank_detector, make_detector
from .keys import settings_key
from .overlapping import Overlapping

# What a result does not depend on; a folder of weights is only where they are (see `keys.unpinned`).
NOT_SETTINGS = {"inputs", "output", "skip_existing", "dry_run", "device"}
NOT_SETTINGS |= {"batch_size", "weights_dir", "keep_identifiers", "dicom", "review"}


@dataclass(frozen=True)
class Detect(Overlapping):
    """Score volumes and write their maps, masks, findings and pictures.

    inputs         files, folders, globs, or one manifest CSV (id,image[,mask]).
    method         one of METHODS, or "bank": the distance to the healthy volumes in the file `bank`, which says how to look.
    checkpoint     a file, or None for the embedded adapter of the method; "METHOD:random" is untrained.
    weights        of the backbone: None, an open_clip tag, a file, or "random".
    threshold      "checkpoint", a number, "fixed:T" or "quantile:Q".
    planes, fuse, smooth_mm, smooth, shifts, force_planes   as in `detection.scoring.Scoring`; planes replace `plane`.
    min_size_mm3, min_depth_mm   what is a finding (see `Detector`).
    brain          where no brain mask is given, as in `Detector`.
    settings       further config fields of the method, such as {"upsample": "centres"}.
    channel        which sequence of a BraTS case folder is scored; its segmentation is the truth.
    placement      "sform" or "qform" for NIfTI files in which the two disagree.
    resample_mask  take truth and brain masks on other grids than the image.
    series         which volume of a DICOM folder: its number in `zsadclip dicom list`, a UID or a description.
    allow          codes of notes (see `notes.DOUBTS`) that do not stop a case.
    fast           compute only the brain's bounding box; not exact (see `Detector`).
    map_type       of the files of maps; mask and findings are cut from what is stored (see `Detector`).
    skip_existing  keep cases whose files are complete and made from the same input with the same settings.
    compress       .nii.gz instead of .nii.
    dicom          objects of DICOM cases beside the other results, with the identifiers of their source: one of `export.SETS`.
    review         write the review page (see `jobs.review`), too.
    keep_identifiers  let names of folders and DICOM series into ids and messages (see docs/explanation/security.md).
    """

    inputs: tuple[str, ...] = flag(
        "inputs", metavar="INPUT", help="volumes, folders, globs, or a CSV with id,image[,mask]"
    )
    output: str = flag("-o", "--output", metavar="OUT", help="folder for the results")
    method: Annotated[str, OneOf((*METHODS, BANK))] = flag(default=DEFAULT_METHOD)
    bank: str | None = flag(
        default=None, metavar="FILE", help="healthy volumes to compare with ('zsadclip bank build')"
    )
    backbone: str = flag(
        default="auto",
        help=f"auto (one with an embedded adapter), {', '.join(BACKBONES)}, an open_clip name, or a JSON config",
    )
    weights: str | None = flag(default=None, help="backbone weights: open_clip tag, file, folder, or random[:SEED]")
    weights_dir: str | None = flag(default=None, help="folder with weights, searched before the cache")
    activation: Literal["gelu", "quick_gelu"] | None = flag(default=None, help="default: as the adapter was trained")
    checkpoint: str | None = flag(default=None, help="adapter file (ours or the authors'), or METHOD:random[:SEED]")
    allow_mismatch: bool = flag(default=False, help="accept an adapter trained on other backbone weights")
    object_name: str | None = flag("--object", default=None, help="what the prompts speak of, such as brain")
    prompts: str | None = flag(default=None, help="embedded prompt set or JSON file")
    settings: dict = flag("--set", default_factory=dict, metavar="FIELD=VALUE", help="further method settings")
    reference: tuple[str, ...] = flag(
        default=(), metavar="FILE", help="normal volumes for the memory bank (VAND, WinCLIP)"
    )
    plane: Annotated[str, OneOf(("auto", *PLANES))] = flag(
        default="auto", help="auto: the acquired one of thick slices"
    )
    planes: tuple[Annotated[str, OneOf(tuple(PLANES))], ...] = flag(
        default=(),
        metavar="PLANE",
        help=f"score in each of {', '.join(PLANES)}; the first counts the slices of findings",
    )
    fuse: Annotated[str, OneOf(FUSIONS)] = flag(default=FUSIONS[0], help="how the maps of several planes become one")
    force_planes: bool = flag(default=False, help="take planes of long and narrow pixels, too")
    smooth_mm: Annotated[float, AtLeast(0)] | None = flag(
        default=None,
        metavar="MM",
        help="Gaussian inside the brain (default 2 where the adapter has a threshold for it)",
    )
    smooth: Annotated[str, OneOf(tuple(SMOOTHING))] | None = flag(
        default=None, help="through the slices, or 3d (default: as the adapter was tuned)"
    )
    shifts: Annotated[int, OneOf(SHIFTS)] = flag(
        default=1, help="average over 2 or 4 shifted grids of patches: finer, at 2 or 4 times the time"
    )
    image_size: Positive | None = flag(default=None, help="pixels the model sees (default 240)")
    intensity: Annotated[str, OneOf(("auto", *MODES))] = flag(default="auto", help="auto: percentiles; a window for CT")
    window: tuple[str | float, ...] | str | None = flag(default=None, help=f"{', '.join(WINDOWS)}, or LOW HIGH")
    crop: str | float = flag(default="head", metavar="CROP", help="head, none, or the side of a square in mm")
    device: str = flag(default="auto", help="auto, cuda, cuda:N, mps or cpu")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = flag(default="auto")
    fast: bool = flag(default=False, help="compute only the brain's bounding box; quicker, not exact")
    batch_size: int | str = flag(default="auto")
    threshold: str = flag(default="checkpoint", help="checkpoint, NUMBER, fixed:NUMBER or quantile:Q")
    min_size_mm3: float = flag("--min-size", default=SMALLEST_MM3, metavar="MM3", help="smallest finding (default 20)")
    min_depth_mm: Annotated[float, AtLeast(0)] = flag(
        "--min-depth",
        default=LEAST_DEPTH_MM,
        metavar="MM",
        help="over how many mm of slices a finding reaches (default 3)",
    )
    background: Literal["keep", "zero"] = flag(default="keep", help="map values outside the brain")
    brain: Literal["auto", "image"] = flag(
        default="auto", help="of whole heads: found by the model's words of anatomy where it knows them, or the head"
    )
    brain_mask: str | None = flag(default=None, metavar="FILE")
    channel: Annotated[str, OneOf(CHANNELS)] | None = flag(
        default=None, help="sequence of BraTS cases (default t2w where there are several)"
    )
    placement: Literal["sform", "qform"] | None = flag(
        default=None, help="which of a NIfTI file's placements to follow where they disagree"
    )
    resample_mask: bool = flag(default=False, help="take masks on other grids, with nearest neighbours")
    allow: tuple[Annotated[str, OneOf(DOUBTS)], ...] = flag(
        default=(), metavar="CODE", help=f"score images in spite of a doubt: {', '.join(DOUBTS)}"
    )
    series: str | None = flag(default=None, metavar="N|UID|DESCRIPTION", help="which volume of a DICOM folder")
    skip_existing: bool = flag(default=False, help="keep finished results of the same settings")
    dry_run: bool = flag(default=False, help="show what would be done")
    seed: int = flag(default=0)
    map_type: Annotated[str, OneOf(MAP_TYPES)] = flag(
        default=MAP_TYPES[0],
        help="how scores are written; int16 needs a tenth of the room and rounds by 1.6e-5 of their range",
    )
    pictures: bool = flag("--no-pictures", default=True)
    compress: bool = True
    dicom: Annotated[str, OneOf(tuple(SETS))] | None = flag(
        default=None,
        alone="results",
        metavar="all",
        help="of DICOM series also a segmentation, report and map as DICOM; all: the picture, too",
    )
    review: bool = flag(default=False, help="also write a page to look through the results in the browser")
    keep_identifiers: bool = flag(default=False, help="let names of folders and DICOM series into ids and messages")

    kind: ClassVar[str] = "detect"

    def run(self, progress: Progress = silent, report: Report = quiet) -> dict:
        """Run all cases; a bad one is reported and the others go on.

        Returns {"cases", "failed", "skipped", "output"}, and the first failed ids in "failed_ids" where some failed.
        Raises ZSADCLIPError before any work when the settings cannot work, OutputError when results cannot be written or
        another run holds the output folder, and whatever `progress` raises.
        """
        from ..detection.inputs import expand_inputs
        from ..detection.preparation import Look
        from ..detection.scoring import Scoring
        from ..detection.summary import SummaryRows, forget_parts, settler, write_summary

        self.check_execution()
        self.slices_at_once()
        Look(**self.look)
        Scoring(**self.scoring)
        if self.review and self.shard:
            raise UsageError("review: a shard has not all cases; once all are done: zsadclip review OUT --images INPUT")
        cases = expand_inputs(self.inputs, self.keep_identifiers, self.output, report, self.channel)
        if self.brain_mask and len(cases) > 1:
            raise UsageError("one brain mask fits one input; give it per case instead")
        first, step = self.shard_position()
        mine = cases[first::step]
        check_free(self.output, (case.id for case in cases), self._read(cases), {case.id for case in mine})
        if self.dicom:
            check_objects(self.dicom, self.pictures, self.output, mine, report)
        if self.dry_run:
            for case in mine:
                hidden = (case.series or case.image.is_dir()) and not self.keep_identifiers
                image = case.id if hidden else case.image.name
                report({"event": "case", "id": case.id, "status": "planned", "image": image})
            return {"cases": len(mine), "failed": 0, "skipped": 0, "output": self.output, "dry_run": True}
        ids = {case.id for case in mine}

        def is_ours(name: str) -> bool:
            # Another shard may be writing the summary.
            return is_of(name, ids) or (name == SUMMARY and not self.shard)

        with folder_lock(self.output, self.shard) as token, SummaryRows(len(mine)) as table:
            clear_temporaries(self.output, is_ours)
            forget_parts(Path(self.output), (first, step) if self.shard else None, self.key)
            try:
                execute(self, [self._item(case, token) for case in mine], settler(table, report), progress)
            finally:
                clear_temporaries(self.output, is_ours)
            self._await(token)
            write_summary(Path(self.output), [case.id for case in cases], (first, step), table, self.key)
            result = {"cases": len(mine), "failed": table.failed, "skipped": table.kept, "output": self.output}
            if self.review and table.failed < len(mine):
                result["page"] = self._page({case.id: case.image for case in mine}, report)
            return result | ({"failed_ids": table.failed_ids} if table.failed else {})

    def _page(self, images: dict[str, Path], report: Report) -> str:
        """Write the review page of the cases that have a result; its path."""
        from ..review.page import FOLDER, PageSettings
        from .review import page_of

        settings = PageSettings(placement=self.placement, series=self.series)
        return page_of(self.output, images, settings, Path(self.output) / FOLDER, report=report)["page"]

    def _read(self, cases: list) -> Iterator[Path]:
        """Every file and folder that the run reads."""
        named = [*self.inputs, self.brain_mask, self.checkpoint, self.bank, self.prompts, *self.reference]
        yield from map(Path, filter(None, named))
        yield from (path for case in cases for path in (case.image, case.mask) if path)

    def _await(self, token: str) -> None:
        """Wait `patience` seconds for the share of the output; raises OutputError when it does not come back."""
        end = time.monotonic() + self.patience
        while not is_held(self.output, token, self.shard):
            if time.monotonic() > end:
                raise OutputError(
                    f"the output folder {self.output} is gone; connect its share, then the same command with --skip-existing "
                    "writes the summary"
                )
            time.sleep(0.5)

    def load(self, slot: int):
        """The detector, for `execution.execute`."""
        return self.detector(slot)

    def work(self, state: Callable[[], object], item: dict, progress: Progress) -> dict:
        """Work on one case, for `execution.execute`."""
        return run_case(self.case_run, state, item, progress)

    @property
    def case_run(self) -> CaseRun:
        """What the work on a case needs of these settings."""
        names = ("output", "skip_existing", "keep_identifiers", "brain_mask", "allow", "placement", "resample_mask")
        same = {name: getattr(self, name) for name in (*names, "series", "shard", "patience", "dicom")}
        return CaseRun(label=LABELS.get(self.method) or METHODS[self.method].label, paths=self.paths, **same)

    def _item(self, case, token: str) -> dict:
        mask = str(case.mask) if case.mask else None
        item = {"id": case.id, "image": str(case.image), "mask": mask, "settings": self.key, "run": token}
        return {**item, "beside": case.beside}

    @property
    def look(self) -> dict:
        """How volumes are looked at, as `preparation.Look` has it."""
        window = None if self.window is None else parse_window(self.window)
        return {"plane": self.plane, "intensity": self.intensity, "window": window, "crop": self.crop}

    @property
    def scoring(self) -> dict:
        """The way of scoring, as `scoring.Scoring` has it."""
        names = ("planes", "fuse", "smooth_mm", "smooth", "shifts")
        return {name: getattr(self, name) for name in names} | {"force": self.force_planes}

    def slices_at_once(self) -> int | None:
        """The batch size, None for "auto"; raises UsageError for anything else that is no number from 1."""
        if self.batch_size == "auto":
            return None
        if not str(self.batch_size).isdigit() or int(self.batch_size) < 1:
            raise UsageError(f"batch size {self.batch_size!r}: expected auto or a whole number from 1")
        return int(self.batch_size)

    def detector(self, slot: int = 0):
        """The detector these settings describe, models loaded; `slot` spreads workers over the GPUs."""
        return (make_bank_detector if self.method == BANK else make_detector)(self, slot)

    def paths(self, case_id: str) -> dict[str, Path]:
        """Where the results of a case go: map, mask, json and, with pictures, png."""
        return result_paths(self.output, case_id, self.compress, self.pictures)

    @cached_property
    def key(self) -> str:
        """Sixteen hex digits of what a result depends on: settings, the content of the files they name, `code_version`.

        Raises WeightsError when files of the backbone are missing.
        """
        ignored = NOT_SETTINGS | set(EXECUTION_FIELDS)
        values = {name: value for name, value in asdict(self).items() if name not in ignored}
        return settings_key(values, backbone_of(self), self.weights, self.weights_dir)
