"""What the jobs that compare volumes with each other share: how tokens are made, and how the work on them is spread."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from ..backbones import BACKBONES
from ..datasets.records import CHANNELS
from ..detection.caserun import CaseRun
from ..detection.outputs import result_paths
from ..errors import InputError, UsageError, ZSADCLIPError, listed
from ..execution import execute
from ..execution.base import EXECUTION_FIELDS
from ..fields import Between, Count, OneOf, Positive, flag
from ..notes import DOUBTS
from ..progress import Progress
from ..volumes.hounsfield import WINDOWS, parse_window
from ..volumes.intensity import MODES
from ..volumes.slicing import PLANES
from .keys import settings_key
from .overlapping import Overlapping

NOT_SETTINGS = {"inputs", "output", "device", "batch_size", "weights_dir", "keep_identifiers", *EXECUTION_FIELDS}
TOKENS = ("backbone", "weights", "activation", "precision", "placement", "series", "allow")
"""Settings that tokens depend on beside `TokenSettings`."""
DEFAULT_SIZE = 240


@dataclass(frozen=True)
class Comparison(Overlapping, ABC):
    """Settings of tokens and of their comparison; see `neighbours.tokens.TokenSettings` and `jobs.detect.Detect`.

    inputs    volumes, folders, globs, or one manifest CSV.
    interval  of the distances of a token to the other volumes, in rising order, the shares that a score is the mean of.
    """

    inputs: tuple[str, ...] = flag("inputs", metavar="INPUT", help="volumes, folders, globs, or a CSV with id,image")
    output: str = flag("-o", "--output", metavar="OUT")
    cell_mm: Annotated[float, Between(0)] = flag(default=8.0, metavar="MM", help="side of a cell (default 8)")
    planes: tuple[Annotated[str, OneOf(tuple(PLANES))], ...] = flag(
        default=("axial",), metavar="PLANE", help=f"look in each of {', '.join(PLANES)}"
    )
    projection: Count = flag(default=64, metavar="N", help="channels of a token (default 64; 0: all there are)")
    seed: Count = flag(default=0, help="of the projection and of what is drawn")
    interval: tuple[float, float] = flag(default=(0.0, 1.0), metavar=("LOW", "HIGH"), help="which distances count")
    backbone: str = flag(default="mini", help=f"{', '.join(BACKBONES)}, an open_clip name, or a JSON config")
    weights: str | None = flag(default=None, help="backbone weights: open_clip tag, file, folder, or random[:SEED]")
    weights_dir: str | None = flag(default=None, help="folder with weights, searched before the cache")
    activation: Literal["gelu", "quick_gelu"] | None = flag(default=None, help="default: as the weights were trained")
    image_size: Positive | None = flag(default=None, help="pixels the model sees (default 240)")
    intensity: Annotated[str, OneOf(("auto", *MODES))] = flag(default="auto", help="auto: percentiles; a window for CT")
    window: tuple[str | float, ...] | str | None = flag(default=None, help=f"{', '.join(WINDOWS)}, or LOW HIGH")
    crop: str | float = flag(default="head", metavar="CROP", help="head, none, or the side of a square in mm")
    device: str = flag(default="auto", help="auto, cuda, cuda:N, mps or cpu")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = flag(default="auto")
    fast: bool = flag(default=False, help="compute only the brain's bounding box; quicker, not exact")
    batch_size: Positive | None = flag(default=None, metavar="N", help="slices at once (default: by device)")
    channel: Annotated[str, OneOf(CHANNELS)] | None = flag(
        default=None, help="sequence of BraTS cases (default t2w where there are several)"
    )
    placement: Literal["sform", "qform"] | None = flag(
        default=None, help="which of a NIfTI file's placements to follow where they disagree"
    )
    allow: tuple[Annotated[str, OneOf(DOUBTS)], ...] = flag(
        default=(), metavar="CODE", help=f"take images in spite of a doubt: {', '.join(DOUBTS)}"
    )
    series: str | None = flag(default=None, metavar="N|UID|DESCRIPTION", help="which volume of a DICOM folder")
    keep_identifiers: bool = flag(default=False, help="let names of folders and DICOM series into ids and messages")

    @property
    @abstractmethod
    def root(self) -> Path:
        """The folder of the steps' files."""

    def check_settings(self) -> None:
        """Raise UsageError for values that are not allowed."""
        from ..neighbours.mutual import check_shares

        self.check_execution()
        if self.shard:
            raise UsageError(
                f"shard {self.shard}: volumes are compared with each other; use --workers or --executor dask"
            )
        check_shares(self.interval)
        self.tokens  # noqa: B018

    @cached_property
    def tokens(self):
        """The `TokenSettings` of these settings."""
        from ..neighbours.tokens import TokenSettings

        named = BACKBONES.get(self.backbone)
        size = self.image_size or (named.native_size if named and named.embedded else DEFAULT_SIZE)
        window = None if self.window is None else parse_window(self.window)
        names = ("cell_mm", "planes", "projection", "seed", "intensity", "crop", "fast")
        return TokenSettings(**{name: getattr(self, name) for name in names}, image_size=size, window=window)

    @cached_property
    def key(self) -> str:
        """A digest of all that results depend on beside the volumes; see `keys.settings_key`."""
        return self._key({name: value for name, value in asdict(self).items() if name not in NOT_SETTINGS})

    @cached_property
    def token_key(self) -> str:
        """A digest of what tokens depend on."""
        return self._key({name: getattr(self, name) for name in TOKENS} | asdict(self.tokens))

    def _key(self, values: dict) -> str:
        return settings_key(values, self.backbone, self.weights, self.weights_dir)

    @property
    def reach(self) -> int | None:
        """How many cells apart tokens are compared; None: all of them."""
        return None

    @property
    def files(self):
        """Where the files of the steps are."""
        from ..neighbours.stages import Files

        return Files(self.root)

    @property
    def case_run(self) -> CaseRun:
        """What the work on a case needs of these settings."""
        return CaseRun(
            output=str(self.root),
            label="",
            paths=lambda case_id: result_paths(self.root, case_id),
            skip_existing=True,
            keep_identifiers=self.keep_identifiers,
            brain_mask=None,
            allow=self.allow,
            placement=self.placement,
            resample_mask=False,
            series=self.series,
            shard=None,
            patience=self.patience,
        )

    def load(self, slot: int):
        """The backbone, for `execution.execute`."""
        from .detectors import load_model

        return load_model(self, slot, self.backbone)

    def work(self, state: Callable[[], object], item: dict, progress: Progress) -> dict:
        """Work on an item of one of the steps, for `execution.execute`."""
        from ..detection.devices import choose_device
        from ..neighbours.stages import work_on_pairs, work_on_tokens

        if item["step"] == "tokens":
            return work_on_tokens(self.case_run, state, item, self.tokens, self.batch_size, progress)
        return work_on_pairs(self.files, item, choose_device(self.device), progress)

    def cases(self, report) -> list:
        """The volumes to work on, in the order of their ids."""
        from ..detection.inputs import expand_inputs

        found = expand_inputs(self.inputs, self.keep_identifiers, self.output, report, self.channel)
        return sorted(found, key=lambda case: case.id)

    def item(self, case, step: str, settings: str, token: str) -> dict:
        """A case as an item of a step."""
        mask = str(case.mask) if case.mask else None
        item = {"step": step, "id": case.id, "image": str(case.image), "mask": mask, "beside": case.beside}
        return item | {"settings": settings, "run": token}

    def make_tokens(self, cases: Sequence, token: str, progress: Progress) -> dict[str, dict]:
        """The tokens of all cases, as files; the row of each by its id."""
        items = [
            self.item(case, "tokens", self.token_key, token) | {"target": str(self.files.tokens(case.id))}
            for case in cases
        ]
        return self.rows_of(items, progress)

    def compare(self, plan, turn: int, batch: str, sample: dict | None, progress: Progress) -> None:
        """The distances of all pairs in a pass, as files; raises ZSADCLIPError when some could not be computed."""
        from ..neighbours.stages import key_of

        items = []
        for blocks, pairs in plan.blocks().items():
            item = {"step": "pairs", "id": f"pass {turn + 1}, blocks {blocks[0]} and {blocks[1]}", "turn": turn}
            item |= {"blocks": list(blocks), "pairs": [list(pair) for pair in pairs], "sample": sample}
            item["reach"] = self.reach
            items.append(item | {"settings": key_of(batch, turn, item["pairs"])})
        failed = [row for row in self.rows_of(items, progress).values() if row["status"] != "done"]
        if failed:
            raise ZSADCLIPError(f"{failed[0]['id']} could not be compared: {failed[0]['error']}; run again to go on")

    def rows_of(self, items: list[dict], progress: Progress) -> dict[str, dict]:
        """Work on items; the row of each by its id."""
        rows: dict[str, dict] = {}
        execute(self, items, lambda n, row: rows.__setitem__(items[n]["id"], row), progress)
        return rows


def refuse_failed(rows: dict[str, dict]) -> None:
    """Raise InputError when volumes could not be used, saying why the first could not."""
    failed = {name: row["error"] for name, row in rows.items() if row["status"] != "done"}
    if failed:
        first = next(iter(failed))
        raise InputError(
            f"{listed(list(failed))} cannot be used ({failed[first]}); leave them out, or repair them and run again to go on"
        )
