"""Slices to train on and to score, cut from labelled cases in one way for all rows."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..datasets.records import Record, read_case
from ..errors import InputError
from ..files.atomic import atomic_path
from ..files.text import write_json
from ..progress import Progress, silent
from ..volume import Volume
from ..volumes.components import largest_part
from ..volumes.crop import view_of
from ..volumes.intensity import to_uint8
from ..volumes.slicing import Fit, SliceStack, View, slice_volume, stored_order
from .settings import MASKS, Slices, slice_rule
from .specs import BrainSlices, DataSpec, IndustrialSlices, ReferenceSlices, SliceSpec, TrainingSpec


@dataclass(frozen=True, eq=False)
class CaseSlices:
    """One case as axial slices from inferior to superior: 8-bit image and masks (N, R, C), and their grid.

    `spacing` is (row, column, slice) in mm, the slice distance multiplied by `every`; `stack` is the whole volume's, `taken`
    the slices of it that are here, and `view` the field of view that all its slices share (None: whole slices). `volume` and
    `head` (I, J, K) are what other planes are cut from (`plane_slices`).
    """

    record: Record
    image: np.ndarray
    truth: np.ndarray
    ignore: np.ndarray
    brain: np.ndarray
    intensities: np.ndarray
    spacing: tuple[float, float, float]
    stack: SliceStack
    taken: slice
    volume: Volume
    head: np.ndarray
    view: View | None = None

    def fit(self, size: int, resample: str = "bicubic") -> Fit:
        """How the slices fill the square of `size` pixels that models see."""
        return Fit(self.image.shape[1:], self.spacing[:2], size, resample, self.view)


def read_slices(record: Record, data: DataSpec, slices: Slices) -> CaseSlices:
    """Read a case as `data` and `slices` say; raises InputError as `read_case`.

    Contrast is set over the whole volume before every k-th slice is taken.
    """
    case = read_case(record, data.target, data.ignore, data.placement, data.allow)
    stack = slice_volume(case.image)
    if slices.orientation == "array":
        stack = stored_order(case.image, stack)
    every = slices.every
    taken = slice((min(every, len(stack.array)) - 1) // 2, None, every)
    image = to_uint8(stack.array, slices.intensity, slices.window)
    masks = [np.ascontiguousarray(stack.arrange(mask)[taken]) for mask in (case.truth, case.ignore, case.brain)]
    spacing = (*stack.spacing[:2], stack.spacing[2] * every)
    head = case.brain if slices.crop == "none" else largest_part(case.brain)
    view = view_of(stack.arrange(head), spacing[:2], slices.crop)
    image = np.ascontiguousarray(image[taken])
    return CaseSlices(record, image, *masks, stack.array[taken], spacing, stack, taken, case.image, head, view)


def plane_slices(case: CaseSlices, plane: str, slices: Slices, resample: str) -> tuple[SliceStack, np.ndarray, Fit]:
    """All slices of a case in another plane: their stack, 8-bit version (N, R, C), and fit to the models' square."""
    stack = slice_volume(case.volume, plane)
    view = view_of(stack.arrange(case.head), stack.spacing[:2], slices.crop)
    image = to_uint8(stack.array, slices.intensity, slices.window)
    return stack, image, Fit(stack.shape[1:], stack.spacing[:2], slices.image_size, resample, view)


def chosen_slices(case: CaseSlices, rule: str, seed: int) -> np.ndarray:
    """Indices of the slices that train, ascending, by `settings.slice_rule`; the draw depends on seed and case only."""
    kind, count = slice_rule(rule)
    brain, lesion = (mask.any(axis=(1, 2)) for mask in (case.brain & (case.image > 0), case.truth))
    if kind == "all":
        return np.arange(len(case.image))
    if kind == "brain":
        return np.flatnonzero(brain)
    digest = hashlib.sha256(f"{seed}:{case.record.id}".encode()).digest()
    others = np.flatnonzero(brain & ~lesion)
    drawn = np.random.default_rng(list(digest[:8])).permutation(others)[:count]
    return np.sort(np.concatenate([np.flatnonzero(lesion), drawn]))


def build_slices(spec: SliceSpec, records: tuple[Record, ...], progress: Progress = silent) -> dict:
    """Write slices of cases into the folder of `spec` unless they are there: images.bin, masks.bin and info.json.

    Returns the content of info.json: {"slices", "lesion", "size"} and, of reference slices, "drawn" ("CASE slice N" each).
    Raises InputError when the cases have too few slices.
    """
    if isinstance(spec, IndustrialSlices):
        return _industrial_slices(spec, progress)
    build = _brain_slices if isinstance(spec, BrainSlices) else _reference_slices
    return build(spec, records, progress)


def _brain_slices(spec: BrainSlices, records: tuple[Record, ...], progress: Progress) -> dict:
    size = spec.slices.image_size

    def pieces():
        for i, record in enumerate(records):
            progress(i / len(records), f"slices of case {i + 1} of {len(records)}", i, len(records))
            case = read_slices(record, spec.data, spec.slices)
            rows = chosen_slices(case, spec.rule, spec.seed)
            masks = case.fit(size, MASKS[spec.masks]).apply(case.truth[rows].astype(np.uint8) * 255)
            yield case.fit(size).apply(case.image[rows]), masks > 127

    return _build(Path(spec.folder), pieces, size)


def _industrial_slices(spec: IndustrialSlices, progress: Progress) -> dict:
    """Synthetic industrial images, three quarters of them with a defect."""
    from ..synthetic.industrial import make_image

    def pieces():
        for i in range(spec.images):
            progress(i / spec.images, f"industrial image {i + 1} of {spec.images}", i, spec.images)
            image, mask, _, _ = make_image(spec.seed + i, defect=i % 4 > 0)
            square = [Fit(image.shape, (1.0, 1.0), spec.size, how) for how in ("bicubic", MASKS[spec.masks])]
            yield square[0].apply(image[None]), square[1].apply(mask[None].astype(np.uint8) * 255) > 127

    return _build(Path(spec.folder), pieces, spec.size)


def _build(folder: Path, pieces, size: int, drawn: list | None = None) -> dict:
    """Stream pieces to images.bin and masks.bin; info.json comes last, with what was `drawn`, and says that they are complete."""
    info = folder / "info.json"
    if info.is_file():
        return json.loads(info.read_text(encoding="utf-8"))
    count = lesion = 0
    with atomic_path(folder / "images.bin") as images, atomic_path(folder / "masks.bin") as masks:
        with open(images, "wb") as first, open(masks, "wb") as second:
            for image, mask in pieces():
                image.tofile(first)
                mask.tofile(second)
                count, lesion = count + len(image), lesion + int(mask.any(axis=(1, 2)).sum())
        if not count:
            raise InputError("there is no slice to train on: the chosen cases have no brain or lesion slices")
    content = {"slices": count, "lesion": lesion, "size": size} | ({} if drawn is None else {"drawn": drawn})
    write_json(info, content)
    return content


def open_slices(folder: str | Path, limit: int | None = None, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 and masks bool (N, S, S) of a folder, memory-mapped; with `limit` a seeded subset, copied."""
    folder = Path(folder)
    info = json.loads((folder / "info.json").read_text(encoding="utf-8"))
    shape = (info["slices"], info["size"], info["size"])
    arrays = [np.memmap(folder / f"{n}.bin", t, "r", shape=shape) for n, t in (("images", "u1"), ("masks", "?"))]
    if limit is None or limit >= len(arrays[0]):
        return arrays[0], arrays[1]
    rows = np.sort(np.random.default_rng(seed).permutation(len(arrays[0]))[:limit])
    return np.asarray(arrays[0][rows]), np.asarray(arrays[1][rows])


def _reference_slices(spec: ReferenceSlices, cases: tuple[Record, ...], progress: Progress) -> dict:
    """Normal slices, with brain and without lesion: of the cases in their order one each and round again.

    The next case stands in for what one lacks.
    """
    size, wanted, drawn = spec.slices.image_size, spec.count, []

    def pieces():
        used = [0] * len(cases)
        for turn in range(2 * len(cases)):  # the second time round only for what the first one did not give
            i, owed = turn % len(cases), wanted - len(drawn)
            share = wanted // len(cases) + (i < wanted % len(cases)) or 1
            asked = min(owed, share) if turn < len(cases) else owed
            if not asked:
                return
            record = cases[i]
            progress(len(drawn) / wanted, f"reference slices of case {i + 1}", len(drawn), wanted)
            case = read_slices(record, spec.data, spec.slices)
            free = case.brain.any(axis=(1, 2)) & ~case.truth.any(axis=(1, 2)) & ~case.ignore.any(axis=(1, 2))
            digest = hashlib.sha256(f"{spec.seed}:{record.id}".encode()).digest()
            order = np.random.default_rng(list(digest[:8])).permutation(np.flatnonzero(free))
            rows = np.sort(order[used[i] : used[i] + asked])
            used[i] += len(rows)
            drawn.extend(f"{record.id} slice {row}" for row in rows)
            if rows.size:
                yield case.fit(size).apply(case.image[rows]), np.zeros((len(rows), size, size), bool)

    info = _build(Path(spec.folder), pieces, size, drawn)
    if info["slices"] < wanted:
        raise InputError(
            f"the training cases gave {info['slices']} normal slices and {wanted} are wanted; give a smaller kshot"
        )
    return info


def training_slices(spec: TrainingSpec) -> tuple[tuple, tuple | None]:
    """(images, masks) that train and those that choose the epoch, None without; each industrial image is its own subject."""
    seed, validation = spec.schedule.seed, spec.validation
    images, masks = open_slices(spec.slices.folder, spec.max_slices, seed)
    if not isinstance(validation, float):
        return (images, masks), validation and open_slices(validation.folder)
    order = np.random.default_rng([seed, 2]).permutation(len(images))
    count = min(len(images) - 1, max(1, round(validation * len(images))))
    chooses, trains = np.sort(order[:count]), np.sort(order[count:])
    return (images[trains], masks[trains]), (images[chooses], masks[chooses])
