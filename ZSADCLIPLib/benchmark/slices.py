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
from ..volumes.intensity import to_uint8
from ..volumes.slicing import Fit, SliceStack, slice_volume, stored_order
from .settings import MASKS, slice_rule


@dataclass(frozen=True, eq=False)
class CaseSlices:
    """One case as axial slices from inferior to superior: 8-bit image and masks (N, R, C), and their grid.

    `spacing` is (row, column, slice) in mm, the slice distance multiplied by `every`; `stack` is the whole volume's.
    """

    record: Record
    image: np.ndarray
    truth: np.ndarray
    ignore: np.ndarray
    brain: np.ndarray
    intensities: np.ndarray
    spacing: tuple[float, float, float]
    stack: SliceStack

    def fit(self, size: int, resample: str = "bicubic") -> Fit:
        """How the slices fill the square of `size` pixels that models are trained on."""
        return Fit(self.image.shape[1:], self.spacing[:2], size, resample)


def read_slices(record: Record, data: dict, slices: dict) -> CaseSlices:
    """Read a case with the profile sections `data` and `slices` (as dictionaries); raises InputError as `read_case`.

    Contrast is set over the whole volume before every k-th slice is taken.
    """
    case = read_case(record, data["target"], tuple(data["ignore"]))
    stack = slice_volume(case.image)
    if slices["orientation"] == "array":
        stack = stored_order(case.image, stack)
    every = slices["every"]
    chosen = slice((min(every, len(stack.array)) - 1) // 2, None, every)
    image = to_uint8(stack.array, slices["intensity"], slices["window"])
    masks = [np.ascontiguousarray(stack.arrange(mask)[chosen]) for mask in (case.truth, case.ignore, case.brain)]
    spacing = (*stack.spacing[:2], stack.spacing[2] * every)
    return CaseSlices(record, np.ascontiguousarray(image[chosen]), *masks, stack.array[chosen], spacing, stack)


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


def build_brain_slices(folder: str, records: list[dict], spec: dict, progress: Progress = silent) -> dict:
    """Write the training slices of some cases into `folder`, case by case, unless they are there.

    `spec` holds the sections data and slices, rule and seed of the choice, and how masks are resized. Returns {"slices",
    "lesion"} counts.
    """

    def pieces():
        for i, record in enumerate(map(record_from, records)):
            progress(i / len(records), f"slices of case {i + 1} of {len(records)}", i, len(records))
            case = read_slices(record, spec["data"], spec["slices"])
            rows = chosen_slices(case, spec["rule"], spec["seed"])
            size = spec["slices"]["image_size"]
            masks = case.fit(size, MASKS[spec["masks"]]).apply(case.truth[rows].astype(np.uint8) * 255)
            yield case.fit(size).apply(case.image[rows]), masks > 127

    return _build(Path(folder), pieces, spec["slices"]["image_size"])


def build_industrial_slices(
    folder: str, images: int, seed: int, size: int, masks: str = "half", progress: Progress = silent
) -> dict:
    """Write synthetic industrial images, three quarters of them with a defect, unless they are there."""
    from ..synthetic.industrial import make_image

    def pieces():
        for i in range(images):
            progress(i / images, f"industrial image {i + 1} of {images}", i, images)
            image, mask, _, _ = make_image(seed + i, defect=i % 4 > 0)
            square = [Fit(image.shape, (1.0, 1.0), size, how) for how in ("bicubic", MASKS[masks])]
            yield square[0].apply(image[None]), square[1].apply(mask[None].astype(np.uint8) * 255) > 127

    return _build(Path(folder), pieces, size)


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
    counts = {"slices": count, "lesion": lesion, "size": size} | ({} if drawn is None else {"drawn": drawn})
    write_json(info, counts)
    return counts


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


def build_reference_slices(folder: str, records: list[dict], spec: dict, progress: Progress = silent) -> dict:
    """Write `spec["count"]` normal slices of cases into `folder` unless they are there: with brain and without lesion.

    Cases are taken in the order given, one slice each and round again, the next one standing in for what a case lacks; `spec`
    also holds the sections data and slices and the seed of the draw. Returns {"slices", "lesion": 0, "drawn": ["CASE slice N",
    ...]}. Raises InputError when the cases have too few such slices.
    """
    size, drawn = spec["slices"]["image_size"], []
    wanted, cases = spec["count"], list(map(record_from, records))

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
            case = read_slices(record, spec["data"], spec["slices"])
            free = case.brain.any(axis=(1, 2)) & ~case.truth.any(axis=(1, 2)) & ~case.ignore.any(axis=(1, 2))
            digest = hashlib.sha256(f"{spec['seed']}:{record.id}".encode()).digest()
            order = np.random.default_rng(list(digest[:8])).permutation(np.flatnonzero(free))
            rows = np.sort(order[used[i] : used[i] + asked])
            used[i] += len(rows)
            drawn.extend(f"{record.id} slice {row}" for row in rows)
            if rows.size:
                yield case.fit(size).apply(case.image[rows]), np.zeros((len(rows), size, size), bool)

    counts = _build(Path(folder), pieces, size, drawn)
    if counts["slices"] < wanted:
        raise InputError(
            f"the training cases gave {counts['slices']} normal slices and {wanted} are wanted; give a smaller kshot"
        )
    return counts


def training_slices(spec: dict) -> tuple[tuple, tuple | None]:
    """(images, masks) that train and those that choose the epoch, None without; each industrial image is its own subject."""
    seed, wanted = spec["schedule"]["seed"], spec["validation"]
    images, masks = open_slices(spec["slices"], spec["max_slices"], seed)
    if wanted is None:
        return (images, masks), None
    if "slices" in wanted:
        return (images, masks), open_slices(wanted["slices"])
    order = np.random.default_rng([seed, 2]).permutation(len(images))
    count = min(len(images) - 1, max(1, round(wanted["share"] * len(images))))
    validating, training = np.sort(order[:count]), np.sort(order[count:])
    return (images[training], masks[training]), (images[validating], masks[validating])


def record_to(record: Record) -> dict:
    """A record as JSON."""
    values = {k: getattr(record, k) for k in Record.__dataclass_fields__}
    return {**values, "image": str(record.image), "mask": str(record.mask) if record.mask else None}


def record_from(data: dict) -> Record:
    """A record from JSON."""
    return Record(**{**data, "image": Path(data["image"]), "mask": Path(data["mask"]) if data["mask"] else None})
