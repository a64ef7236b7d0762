"""Synthetic brains with metastases in BraTS-MET geometry: a seed makes a case, without torch and without patients."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import UsageError
from ..progress import silent
from ..volume import Volume
from .anatomy import BOX, Shape, contrast, smooth_noise, tissue_labels
from .case import PhantomCase
from .lesions import Growth, grow, place, push, vessels, white_matter_spots

SHAPE = (240, 240, 155)
AFFINE = np.array([[-1, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]], float)  # axes L, P, S; 1 mm
CHANNELS = ("t2w", "t1n", "t1c", "t2f")

# ranges of the intensity of each tissue per sequence: fluid, grey, white matter, oedema, tumour, necrosis, spot, vessel
_RANGES = {
    "t2w": dict(fluid=(0.86, 1.0), grey=(0.42, 0.54), white=(0.26, 0.36), oedema=(0.66, 0.86), tumour=(0.40, 0.62),
                necrosis=(0.55, 0.95), spot=(0.55, 0.75), vessel=(0.05, 0.2)),
    "t2f": dict(fluid=(0.08, 0.16), grey=(0.50, 0.62), white=(0.38, 0.48), oedema=(0.80, 1.0), tumour=(0.6, 0.8),
                necrosis=(0.35, 0.6), spot=(0.7, 0.9), vessel=(0.05, 0.15)),
    "t1n": dict(fluid=(0.12, 0.2), grey=(0.5, 0.6), white=(0.7, 0.85), oedema=(0.45, 0.58), tumour=(0.5, 0.6),
                necrosis=(0.25, 0.4), spot=(0.5, 0.6), vessel=(0.1, 0.2)),
    "t1c": dict(fluid=(0.12, 0.2), grey=(0.45, 0.55), white=(0.6, 0.72), oedema=(0.4, 0.5), tumour=(0.9, 1.1),
                necrosis=(0.2, 0.35), spot=(0.48, 0.56), vessel=(0.8, 1.1)),
}  # fmt: skip


WORLDS = ("met-t2", "mri")


def make_case(
    seed: int,
    healthy: bool = False,
    channels: tuple[str, ...] | None = ("t2w",),
    anatomy: str | None = "colin27",
    name: str = "",
    world: str = "met-t2",
) -> PhantomCase:
    """Make one case; the same arguments give the same bytes.

    In the world met-t2 it has 240 x 240 x 155 voxels of 1 mm and metastases. In the world mri all of it is drawn, about
    a fifth of the cases without lesions, and None draws the channel or the anatomy (`mri.scans.make_scan` fixes more).
    The shape and the lesions do not depend on `channels`. Raises UsageError for a negative seed, an unknown world, an
    unknown channel or an unknown anatomy.
    """
    if world not in WORLDS:
        raise UsageError(f"world {world!r} is not one of {', '.join(WORLDS)}")
    if world == "mri":
        from .mri.scans import make_scan

        return make_scan(seed, channels, "none" if healthy else None, anatomy=anatomy, name=name)
    if seed < 0:
        raise UsageError(f"seed {seed} is negative; use 0 or more")
    wrong = [c for c in channels or () if c not in CHANNELS]
    if wrong or not channels:
        raise UsageError(f"channels {wrong or 'none'}: expected some of {', '.join(CHANNELS)}")
    rng = np.random.default_rng([seed, 0])
    corner = [
        max(0, (n - b) // 2 + int(rng.integers(-j, j + 1))) for n, b, j in zip(SHAPE, BOX, (4, 4, 2), strict=True)
    ]
    window = tuple(slice(c, c + b) for c, b in zip(corner, BOX, strict=True))
    shape = Shape(rng, anatomy)
    planned = [] if healthy else place(rng, shape)
    push(shape, planned)
    code, mask = shape.sample()
    growth = grow(rng, planned, code, mask)
    scene = _Scene(
        code, mask, growth, spots=white_matter_spots(rng, code, mask), vessels=vessels(rng, code, mask), rng=rng
    )
    name = name or f"synthetic-{seed}"
    volumes = {c: Volume(_on_grid(scene.render(seed, c), window), AFFINE, name) for c in channels}
    return PhantomCase(
        name,
        volumes,
        Volume(_on_grid(growth.labels * mask, window), AFFINE, name),
        Volume(_on_grid(tissue_labels(code, mask), window), AFFINE, name),
        _describe(planned, growth, corner),
    )


class _Scene:
    """What all channels of one head share: anatomy, lesions, look-alikes, coil and noise level."""

    def __init__(self, code, mask, growth: Growth, spots, vessels, rng):
        self.code, self.mask, self.growth, self.spots, self.vessels = code, mask, growth, spots, vessels
        self.texture = 0.6 * (smooth_noise(rng, BOX, (34, 40, 30)) + smooth_noise(rng, BOX, (10, 11, 9)))
        self.bias = np.exp(smooth_noise(rng, BOX, (3, 3, 3)) * rng.uniform(0.05, 0.12))
        self.noise = rng.uniform(0.012, 0.03)
        self.blur = rng.uniform(0.25, 0.5) if rng.random() < 0.4 else 0.0

    def render(self, seed: int, channel: str) -> np.ndarray:
        """The box of one sequence, int16: 0 outside the brain, at least 1 inside."""
        rng = np.random.default_rng([seed, 1 + CHANNELS.index(channel)])
        level = {tissue: float(rng.uniform(*bounds)) for tissue, bounds in _RANGES[channel].items()}
        image = contrast(self.code, level["fluid"], level["grey"], level["white"]) * (1 + 0.045 * self.texture)
        rough = 1 + 0.10 * self.texture
        for fraction, tissue, strength in (
            (self.growth.oedema, "oedema", 0.88),
            (self.growth.tumour, "tumour", 0.9),
            (self.growth.necrosis, "necrosis", 0.95),
            (self.spots, "spot", 0.9),
            (self.vessels, "vessel", 0.85),
        ):
            at = fraction > 1e-3
            change = level[tissue] * rough[at] - image[at]
            if channel == "t2w" and tissue == "oedema":
                change = np.maximum(change, 0)  # oedema never darkens T2
            image[at] += strength * fraction[at] * change
        image *= self.bias
        if self.blur:
            padded = np.pad(image, ((0, 0), (0, 0), (1, 1)), mode="edge")
            image = (self.blur * (padded[:, :, :-2] + padded[:, :, 2:]) + image) / (1 + 2 * self.blur)
        real = image[self.mask] + self.noise * rng.standard_normal(int(self.mask.sum()), dtype=np.float32)
        imaginary = self.noise * rng.standard_normal(real.size, dtype=np.float32)
        box = np.zeros(BOX, np.int16)
        box[self.mask] = np.clip(np.round(np.hypot(real, imaginary) * rng.uniform(500, 1500)), 1, 32767)
        return box


def _on_grid(box: np.ndarray, window: tuple[slice, ...]) -> np.ndarray:
    array = np.zeros(SHAPE, box.dtype)
    array[window] = box
    return array


def _describe(planned, growth: Growth, corner) -> list[dict]:
    lesions = []
    core = np.bincount(growth.number[(growth.labels == 1) | (growth.labels == 3)], minlength=len(planned) + 1)
    whole = np.bincount(growth.number.ravel(), minlength=len(planned) + 1)
    necrotic = np.bincount(growth.number[growth.labels == 1], minlength=len(planned) + 1)
    for number, lesion in enumerate(planned, 1):
        if whole[number]:
            voxel = np.append(lesion.centre + corner, 1)
            lesions.append(
                dict(
                    volume_mm3=float(whole[number]),
                    core_mm3=float(core[number]),
                    radius_mm=round(lesion.radius_mm, 2),
                    oedema_mm=round(lesion.oedema_mm, 2),
                    has_necrosis=bool(necrotic[number]),
                    centre_ras=[round(float(x), 1) for x in (AFFINE @ voxel)[:3]],
                )
            )
    return lesions


def write_dataset(
    out: str | Path,
    cases: int = 1,
    seed: int = 0,
    healthy: bool = False,
    channels: tuple[str, ...] | None = ("t2w",),
    domain: str = "brain",
    progress=silent,
    world: str = "met-t2",
) -> list[Path]:
    """Write `cases` synthetic cases, seeds `seed` upwards, and return their folders.

    Brains lie in BraTS-MET layout, BraTS-MET-NNNNN-000/BraTS-MET-NNNNN-000-{channel,seg}.nii.gz with NNNNN = seed. The
    world mri names them mri-NNNNN and draws the anatomy too. The industrial domain writes each image as a volume of one
    slice, industrial-NNNNN/industrial-NNNNN-{image,seg}.nii.gz. The same arguments give the same bytes. Raises UsageError
    for a count below 1, an unknown domain or an unknown world.
    """
    from ..volumes.reading import write_volume

    if cases < 1 or domain not in ("brain", "industrial"):
        raise UsageError(f"{cases} cases of domain {domain!r}: expected 1 or more, brain or industrial")
    folders = []
    for number in range(seed, seed + cases):
        done = number - seed
        progress(done / cases, f"case {done} of {cases}", done, cases)
        if domain == "brain":
            name = f"BraTS-MET-{number:05d}-000" if world == "met-t2" else f"{world}-{number:05d}"
            case = make_case(number, healthy, channels, "colin27" if world == "met-t2" else None, name, world)
            volumes = {**case.volumes, "seg": case.seg}
        else:
            name = f"industrial-{number:05d}"
            volumes = _industrial(number, healthy, name)
        folder = Path(out) / name
        for kind, volume in volumes.items():
            write_volume(folder / f"{name}-{kind}.nii.gz", volume)
        folders.append(folder)
    progress(1.0, f"case {cases} of {cases}", cases, cases)
    return folders


def _industrial(seed: int, healthy: bool, name: str) -> dict[str, Volume]:
    """An industrial image as a volume of one axial slice, with the placement of a BraTS slice."""
    from .industrial import make_image

    image, mask, _, _ = make_image(seed, defect=not healthy)
    return {
        "image": Volume(np.ascontiguousarray(image.T[:, :, None]), AFFINE, name),
        "seg": Volume(np.ascontiguousarray(mask.T[:, :, None]).astype(np.uint8), AFFINE, name),
    }
