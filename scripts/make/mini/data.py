"""Training material of the mini backbone: labelled slices of synthetic brains, and industrial images."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch

from ZSADCLIPLib.backbones.words import LESIONS, SEQUENCES, TISSUES
from ZSADCLIPLib.detection.preparation import Look
from ZSADCLIPLib.synthetic.brains import make_case
from ZSADCLIPLib.synthetic.industrial import KINDS, make_image
from ZSADCLIPLib.synthetic.mri.scans import make_scan
from ZSADCLIPLib.synthetic.mri.settings import CHANNELS
from ZSADCLIPLib.volumes.intensity import to_uint8
from ZSADCLIPLib.volumes.slicing import Fit, slice_volume

# Seeds: backbone 1000 to 1999, adapters 2000 to 2999, validation 3000 to 3999, tests 5000 to 5999.
BACKBONE_SEED = 1000
LESION = 16  # added to the lesion labels of the mri world
SIDE = 240
SHARES = (0.27, 0.33, 0.12, 0.12, 0.05, 0.11)  # of CHANNELS
NAMED = ("t2w", "t2f", "t1n", "t1c", "pd")
SHARES_OF_NAMED = (0.32, 0.4, 0.1, 0.12, 0.06)
FIRST_LESION = len(TISSUES) - len(LESIONS)


def _places(*names: str) -> np.ndarray:
    """Place in TISSUES of each value of a segmentation; value 0 is no lesion."""
    return np.array([0, *(list(TISSUES).index(name) for name in names)], np.uint8)


OF_METASTASES = _places("core", "oedema", "core")
OF_SCANS = _places(
    "core", "oedema", "core", "core", "plaque", "plaque", "infarct", "scar", "scar", "bleed", "scar"
)  # fmt: skip


def labelled_slices(seed: int, lesion: int = 14, clear: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Up to `lesion` slices with and `clear` without lesions of one case: images and labels, uint8 (N, 240, 240)."""
    rng = np.random.default_rng(seed)
    case = make_case(seed, healthy=seed % 5 == 4)
    stack = slice_volume(case.volumes["t2w"])
    image, seg = to_uint8(stack.array), stack.arrange(case.seg.array)
    label = stack.arrange(case.tissue.array).copy()
    label[seg == 2], label[(seg == 1) | (seg == 3)] = 4, 5
    brain = np.flatnonzero((label > 0).sum((1, 2)) > 400)
    sick = (label[brain] >= 4).any((1, 2))
    chosen = [
        rng.choice(group, min(count, len(group)), replace=False)
        for group, count in ((brain[sick], lesion), (brain[~sick], clear))
    ]
    rows = np.sort(np.concatenate(chosen))
    return image[rows], label[rows]


def brain_of(seed: int, lesion: int = 7, clear: int = 4) -> tuple[np.ndarray, ...]:
    """Slices of the scans of one seed, as detection looks at them.

    Every fourth seed is a T2 of the world met-t2, the others are two contrasts of one case of the mri world; one scan in
    five is cut in another plane than axial, one in four is not cropped to the head. Images and labels (N, 240, 240) uint8, the
    labels being places in `words.TISSUES`; for each slice the place of its sequence in `words.SEQUENCES`, -1 where it has no
    name, and whether it is of a whole head.
    """
    rng = np.random.default_rng([seed, 41])
    if seed % 4 == 0:
        case, labels = make_case(seed, healthy=seed % 20 == 16), OF_METASTASES
    else:
        channels = tuple(str(c) for c in rng.choice(CHANNELS, 2, replace=False, p=SHARES))
        case, labels = make_scan(seed, channels), OF_SCANS
    parts = []
    for channel, volume in case.volumes.items():
        plane = "axial" if seed % 4 == 0 else str(rng.choice(("axial", "coronal", "sagittal"), p=(0.8, 0.1, 0.1)))
        look = Look(plane, "per-volume-percentile", crop="head" if rng.random() < 0.75 else "none")
        seen = look.prepare(volume, SIDE)
        seg = seen.stack.arrange(case.seg.array)
        label = np.where(seg > 0, labels[seg], seen.stack.arrange(case.tissue.array))
        pixel_mm2 = float(np.prod(seen.stack.spacing[:2]))
        shown = np.flatnonzero((label > 0).sum((1, 2)) * pixel_mm2 > 400)
        sick = (label[shown] >= FIRST_LESION).any((1, 2))
        chosen = [
            rng.choice(group, min(count, len(group)), replace=False)
            for group, count in ((shown[sick], lesion), (shown[~sick], clear))
        ]
        rows = np.sort(np.concatenate(chosen))
        nearest = Fit(seen.stack.shape[1:], seen.stack.spacing[:2], SIDE, "nearest", seen.fit.view)
        sequence = list(SEQUENCES).index(channel) if channel in SEQUENCES else -1
        parts.append(
            (
                seen.fit.apply(np.ascontiguousarray(seen.image[rows])),
                nearest.apply(np.ascontiguousarray(label[rows])),
                np.full(len(rows), sequence, np.int8),
                np.full(len(rows), bool((case.tissue.array > 3).any())),
            )
        )
    return tuple(np.concatenate(group) for group in zip(*parts, strict=True))


def scan_of(seed: int):
    """A scan with its lesions and its brain, both bool (I, J, K): metastases of the world met-t2 for every fourth seed, else any
    disease of the mri world, in one of NAMED."""
    channel = str(np.random.default_rng([seed, 43]).choice(NAMED, p=SHARES_OF_NAMED))
    if seed % 4 == 0:
        channel = channel if channel in ("t2w", "t2f", "t1c") else "t2w"
        case = make_case(seed, healthy=seed % 20 == 16, channels=(channel,))
    else:
        case = make_scan(seed, (channel,))
    tissue = case.tissue.array
    return case.volumes[channel], case.seg.array > 0, (tissue > 0) & (tissue <= 3)


def textured(index: int) -> tuple[np.ndarray, np.ndarray, int]:
    image, mask, kind, _ = make_image(BACKBONE_SEED * 10 + index, defect=index % 2 == 0)
    return image, mask, KINDS.index(kind)


def load(folder: Path, volumes: int, textures: int, workers: int) -> dict[str, np.ndarray]:
    """All arrays, generated once and kept as .npy in `folder`."""
    names = ("brain", "label", "sequence", "head", "texture", "defect", "kind")
    files = {name: folder / f"{name}-{volumes}-{textures}.npy" for name in names}
    if not all(path.is_file() for path in files.values()):
        folder.mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            brains = list(pool.map(brain_of, range(BACKBONE_SEED, BACKBONE_SEED + volumes), chunksize=4))
            plates = list(pool.map(textured, range(textures), chunksize=50))
        arrays = [np.concatenate([b[i] for b in brains]) for i in range(4)]
        arrays += [np.stack([p[i] for p in plates]) for i in (0, 1, 2)]
        for name, array in zip(names, arrays, strict=True):
            np.save(files[name], array)
    return {name: np.load(path, mmap_mode="r") for name, path in files.items()}
