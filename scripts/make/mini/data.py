"""Training material of the mini backbone: labelled slices of synthetic brains, and industrial images."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from ZSADCLIPLib.synthetic.brains import make_case
from ZSADCLIPLib.synthetic.industrial import KINDS, make_image
from ZSADCLIPLib.synthetic.mri.scans import make_scan
from ZSADCLIPLib.volumes.intensity import to_uint8
from ZSADCLIPLib.volumes.slicing import Fit, slice_volume

# Seeds: backbone 1000 to 1999, adapters 2000 to 2999, validation 3000 to 3999, tests 5000 to 5999.
BACKBONE_SEED = 1000
LESION = 16  # added to the lesion labels of the mri world
LABELS = ("background", "fluid", "grey", "white", "oedema", "core")


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


def scan_slices(
    seed: int, lesion: int = 8, clear: int = 6, size: int = 240, **wanted
) -> tuple[np.ndarray, np.ndarray, dict]:
    """Slices of the mri world as `labelled_slices` gives them, fitted to `size` pixels, and the record of the case.

    Labels are 0 to 8 as in TISSUES, and LESION + the value of LABELS in lesions. A whole head gives clear slices below
    the brain too. `wanted` goes to make_scan.
    """
    rng = np.random.default_rng(seed)
    case = make_scan(seed, **wanted)
    volume = next(iter(case.volumes.values()))
    stack = slice_volume(volume)
    image, seg = to_uint8(stack.array), stack.arrange(case.seg.array)
    label = np.where(seg > 0, seg + np.uint8(LESION), stack.arrange(case.tissue.array))
    pixel_mm2 = float(np.prod(stack.spacing[:2]))
    shown = np.flatnonzero((label > 0).sum((1, 2)) * pixel_mm2 > 400)
    sick = (label[shown] >= LESION).any((1, 2))
    chosen = [
        rng.choice(group, min(count, len(group)), replace=False)
        for group, count in ((shown[sick], lesion), (shown[~sick], clear))
    ]
    rows = np.sort(np.concatenate(chosen))
    shape, spacing = stack.shape[1:], stack.spacing[:2]
    fitted = Fit(shape, spacing, size).apply(np.ascontiguousarray(image[rows]))
    return fitted, Fit(shape, spacing, size, "nearest").apply(np.ascontiguousarray(label[rows])), case.record


def textured(index: int) -> tuple[np.ndarray, np.ndarray, int]:
    image, mask, kind, _ = make_image(BACKBONE_SEED * 10 + index, defect=index % 2 == 0)
    return image, mask, KINDS.index(kind)


def load(folder: Path, volumes: int, textures: int, workers: int) -> dict[str, np.ndarray]:
    """All arrays, generated once and kept as .npy in `folder`."""
    names = ("brain", "label", "texture", "defect", "kind")
    files = {name: folder / f"{name}-{volumes}-{textures}.npy" for name in names}
    if not all(path.is_file() for path in files.values()):
        folder.mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor(workers) as pool:
            brains = list(pool.map(labelled_slices, range(BACKBONE_SEED, BACKBONE_SEED + volumes), chunksize=4))
            plates = list(pool.map(textured, range(textures), chunksize=50))
        arrays = [np.concatenate([b[i] for b in brains]) for i in (0, 1)]
        arrays += [np.stack([p[i] for p in plates]) for i in (0, 1, 2)]
        for name, array in zip(names, arrays, strict=True):
            np.save(files[name], array)
    return {name: np.load(path, mmap_mode="r") for name, path in files.items()}
