"""Slices to train on and to score, cut from labelled cases in one way for all rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np

from ..datasets.records import Record, read_case
from ..errors import InputError
from ..files.atomic import atomic_path
from ..files.text import write_json
from ..progress import Progress, silent
from ..synthetic.anomalies.draws import versions
from ..volume import Volume
from ..volumes.components import largest_part
from ..volumes.crop import view_of
from ..volumes.intensity import to_uint8
from ..volumes.neighbours import neighbours
from ..volumes.slicing import Fit, SliceStack, View, slice_volume, stored_order
from .settings import MASKS, Slices, slice_rule
from .specs import (
    BrainSlices,
    DataSpec,
    HealthySlices,
    IndustrialSlices,
    ReferenceSlices,
    SliceSpec,
    StackSlices,
    TrainingSpec,
)


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
    drawn = drawn_order(seed, case).permutation(np.flatnonzero(brain & ~lesion))[:count]
    return np.sort(np.concatenate([np.flatnonzero(lesion), drawn]))


def without_lesion(case: CaseSlices) -> np.ndarray:
    """Indices of the slices that show brain, and nothing of the target or of what is ignored, ascending."""
    shown, lesion, ignored = (mask.any(axis=(1, 2)) for mask in (case.brain, case.truth, case.ignore))
    return np.flatnonzero(shown & ~lesion & ~ignored)


def drawn_order(seed: int, case: CaseSlices) -> np.random.Generator:
    """The generator of what is drawn of a case, whatever other cases there are."""
    digest = hashlib.sha256(f"{seed}:{case.record.id}".encode()).digest()
    return np.random.default_rng(list(digest[:8]))


def build_slices(spec: SliceSpec, records: tuple[Record, ...], progress: Progress = silent) -> dict:
    """Write slices of cases into the folder of `spec` unless they are there: images.bin, masks.bin and info.json.

    Returns the content of info.json: {"slices", "lesion", "size"} and, of reference slices, "drawn" ("CASE slice N" each).
    Raises InputError when the cases have too few slices.
    """
    if isinstance(spec, IndustrialSlices):
        return _industrial_slices(spec, progress)
    if isinstance(spec, HealthySlices):
        return _healthy_slices(spec, records, progress)
    if isinstance(spec, StackSlices):
        return _stack_slices(spec, records, progress)
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


def _stack_slices(spec: StackSlices, records: tuple[Record, ...], progress: Progress) -> dict:
    """Brain slices with neighbours.npy, their rows int64 (N, K) in images.bin; neighbours that do not train come last there."""
    folder, size, tables = Path(spec.folder), spec.slices.image_size, []

    def pieces():
        further = 0
        with TemporaryFile() as spool:
            for i, record in enumerate(records):
                progress(i / len(records), f"slices of case {i + 1} of {len(records)}", i, len(records))
                case = read_slices(record, spec.data, spec.slices)
                rows = chosen_slices(case, spec.rule, spec.seed)
                near = neighbours(len(case.image), case.spacing[2], spec.context)[rows]
                others, place = np.setdiff1d(near, rows), np.empty(len(case.image), np.int64)
                place[rows] = sum(map(len, tables)) + np.arange(len(rows))
                place[others] = -1 - further - np.arange(len(others))  # counted from the end of those that train
                tables.append(place[near])
                spool.write(case.fit(size).apply(case.image[others]).tobytes())
                further += len(others)
                masks = case.fit(size, MASKS[spec.masks]).apply(case.truth[rows].astype(np.uint8) * 255)
                yield case.fit(size).apply(case.image[rows]), masks > 127
            spool.seek(0)
            while block := spool.read(64 * size * size):
                yield np.frombuffer(block, np.uint8).reshape(-1, size, size), np.zeros((0, size, size), bool)

    def stack(count: int) -> dict:
        table = np.concatenate(tables)
        with atomic_path(folder / "neighbours.npy") as temporary, open(temporary, "wb") as file:
            np.save(file, np.where(table < 0, count - 1 - table, table))
        return {"further": int(max(0, -table.min(initial=0))), "context": list(spec.context)}

    return _build(folder, pieces, size, stack)


def _healthy_slices(spec: HealthySlices, records: tuple[Record, ...], progress: Progress) -> dict:
    """Slices without lesion, of all cases at once, as pieces of each are pasted into others; version by version."""
    size, count = spec.slices.image_size, slice_rule(spec.rule)[1]

    def pieces():
        images, heads = [], []
        for i, record in enumerate(records):
            progress(i / len(records), f"slices of case {i + 1} of {len(records)}", i, len(records))
            case = read_slices(record, spec.data, spec.slices)
            rows = np.sort(drawn_order(spec.seed, case).permutation(without_lesion(case))[: count or None])
            images.append(case.fit(size).apply(case.image[rows]))
            heads.append(case.fit(size, "nearest").apply(case.brain[rows].astype(np.uint8) * 255) > 127)
        inside = np.concatenate(heads) if spec.within == "head" else None
        if sum(map(len, images)):
            yield from versions(np.concatenate(images), inside, spec.variants, spec.seed, spec.within)

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


def _build(folder: Path, pieces, size: int, more: Callable[[int], dict] = lambda count: {}) -> dict:
    """Stream pieces to images.bin and masks.bin; info.json comes last and says that they are complete.

    It holds what `more`, given the number of slices, adds to it. Images may be more than masks.
    """
    info = folder / "info.json"
    if info.is_file():
        return json.loads(info.read_text(encoding="utf-8"))
    count = lesion = 0
    with atomic_path(folder / "images.bin") as images, atomic_path(folder / "masks.bin") as masks:
        with open(images, "wb") as first, open(masks, "wb") as second:
            for image, mask in pieces():
                image.tofile(first)
                mask.tofile(second)
                count, lesion = count + len(mask), lesion + int(mask.any(axis=(1, 2)).sum())
        if not count:
            raise InputError("there is no slice to train on: the chosen cases have no brain or lesion slices")
    content = {"slices": count, "lesion": lesion, "size": size, **more(count)}
    write_json(info, content)
    return content


def open_slices(folder: str | Path, limit: int | None = None, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Images uint8 and masks bool (N, S, S) of a folder, memory-mapped; with `limit` a seeded subset, copied.

    Of slices with neighbours also the rows of these, int64 (N, K), in images, which are then more than N.
    """
    folder = Path(folder)
    info = json.loads((folder / "info.json").read_text(encoding="utf-8"))
    count, square = info["slices"], (info["size"], info["size"])
    images = np.memmap(folder / "images.bin", "u1", "r", shape=(count + info.get("further", 0), *square))
    masks = np.memmap(folder / "masks.bin", "?", "r", shape=(count, *square))
    table = np.load(folder / "neighbours.npy") if "further" in info else None
    if limit is None or limit >= count:
        return (images, masks) if table is None else (images, masks, table)
    rows = np.sort(np.random.default_rng(seed).permutation(count)[:limit])
    if table is None:
        return np.asarray(images[rows]), np.asarray(masks[rows])
    kept = np.concatenate([rows, np.setdiff1d(table[rows], rows)])
    place = np.empty(len(images), np.int64)
    place[kept] = np.arange(len(kept))
    return np.asarray(images[kept]), np.asarray(masks[rows]), place[table[rows]]


def _reference_slices(spec: ReferenceSlices, cases: tuple[Record, ...], progress: Progress) -> dict:
    """Normal slices, with brain and without lesion, and then, where they are asked for, slices with a lesion."""
    wanted, drawn = {"normal": spec.count, "abnormal": spec.abnormal}, {"normal": [], "abnormal": []}

    def pieces():
        for kind, count in wanted.items():
            yield from _drawn(spec, cases, kind, count, drawn[kind], progress)

    info = _build(Path(spec.folder), pieces, spec.slices.image_size, lambda count: {"drawn": sum(drawn.values(), [])})
    lacking = {"normal": info["slices"] - info["lesion"] < spec.count, "abnormal": info["lesion"] < spec.abnormal}
    for kind, lacks in lacking.items():
        if lacks:
            found = info["lesion"] if kind == "abnormal" else info["slices"] - info["lesion"]
            raise InputError(
                f"the training cases gave {found} {kind} slices and {wanted[kind]} are wanted; give a smaller kshot"
            )
    return info


def _drawn(
    spec: ReferenceSlices, cases: tuple[Record, ...], kind: str, wanted: int, drawn: list[str], progress: Progress
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images and masks of `wanted` slices: of the cases in their order one each and round again; `drawn` gets their names.

    The next case stands in for what one lacks.
    """
    size, used = spec.slices.image_size, [0] * len(cases)
    for turn in range(2 * len(cases)):  # the second time round only for what the first one did not give
        i, owed = turn % len(cases), wanted - len(drawn)
        share = wanted // len(cases) + (i < wanted % len(cases)) or 1
        asked = min(owed, share) if turn < len(cases) else owed
        if not asked:
            return
        record = cases[i]
        progress(len(drawn) / wanted, f"reference slices of case {i + 1}", len(drawn), wanted)
        case = read_slices(record, spec.data, spec.slices)
        lesion = case.truth.any(axis=(1, 2))
        free = np.flatnonzero(lesion) if kind == "abnormal" else without_lesion(case)
        order = drawn_order(spec.seed, case).permutation(free)
        rows = np.sort(order[used[i] : used[i] + asked])
        used[i] += len(rows)
        drawn.extend(f"{record.id} slice {row}" for row in rows)
        if rows.size:
            masks = case.fit(size, MASKS[spec.masks]).apply(case.truth[rows].astype(np.uint8) * 255)
            yield case.fit(size).apply(case.image[rows]), masks > 127


def training_slices(spec: TrainingSpec) -> tuple[tuple, tuple | None]:
    """What trains, as `open_slices` gives it, and what chooses the epoch, or None; each industrial image is its own subject."""
    seed, validation = spec.schedule.seed, spec.validation
    arrays = open_slices(spec.slices.folder, spec.max_slices, seed)
    if not isinstance(validation, float):
        return arrays, validation and open_slices(validation.folder)
    images, masks = arrays
    order = np.random.default_rng([seed, 2]).permutation(len(images))
    count = min(len(images) - 1, max(1, round(validation * len(images))))
    chooses, trains = np.sort(order[:count]), np.sort(order[count:])
    return (images[trains], masks[trains]), (images[chooses], masks[chooses])
