"""One case of the mri world: a seed draws head, disease, grid, contrast, scanner and units."""

from __future__ import annotations

import numpy as np

from ...errors import UsageError
from ...volume import Volume
from .. import lesions as marks
from ..case import PhantomCase
from . import scanner
from . import settings as s
from .blobs import Layer, draw_voxels, ellipsoid, fall, noise_like
from .contrast import Levels, render
from .disease import make_layers, plan
from .head import CANVAS, Anatomy, Head, is_brain
from .settings import CHANNELS, DISEASES, STRIPPINGS, MriWorld
from .stripping import behind_plane, face_plane, strip

WORLD = MriWorld()
_STREAM = 7219  # keeps the random numbers of this world apart from those of met-t2


def make_scan(
    seed: int,
    channels: tuple[str, ...] | None = None,
    disease: str | None = None,
    head: bool | None = None,
    anatomy: str | None = None,
    world: MriWorld = WORLD,
    name: str = "",
) -> PhantomCase:
    """Make one case of the mri world; the same arguments give the same bytes, and what is None is drawn from the seed.

    `channels` are some of t2w, t2f, t1n, t1c, pd and free, all on one grid; `disease` is one of DISEASES or "none";
    `head` is True for a whole head and False for a skull-stripped brain. `seg` (uint8) has the values of LABELS and
    `tissue` (uint8) those of TISSUES, as before the lesions. `record` says what was drawn: world, anatomy, mirrored,
    age, sulci, ventricles_mm, head, stripping, defaced, disease, labels (name to mm3), grid, shape, spacing_mm,
    thickness_mm, partial, storage, and for each channel noise, bias, ringing, ghosts, units, background. Raises
    UsageError for a negative seed, an unknown channel or an unknown disease.
    """
    _check(seed, channels, disease)
    rng = np.random.default_rng([seed, _STREAM])
    drawn = _draw(rng, channels, disease, head, anatomy, world)
    shape = Head(rng, drawn["anatomy"], world)
    planned = plan(rng, shape, drawn["disease"]) if drawn["disease"] != "none" else []
    site = shape.sample(whole=drawn["head"] or drawn["stripping"] == "loose")
    _dura(rng, site)
    _perivascular(rng, site)
    layers = make_layers(rng, site, drawn["disease"], planned) if drawn["disease"] != "none" else []
    tubes = marks.vessels(rng, site.code, site.mask)
    shown = (site.tissue > 0) | site.mask if drawn["head"] else strip(rng, site, drawn["stripping"])
    plane = face_plane(rng, site) if drawn["defaced"] else None
    if plane:
        shown = shown & behind_plane(plane, *(np.arange(n, dtype=float) for n in CANVAS[1:]))
    label, number = _labels(layers, site.mask & shown)
    low, high = _ends(shown, site.corner)
    grid = scanner.draw_grid(rng, world, low, high, drawn["head"])
    visible = scanner.nearest(shown, site.corner, grid)
    tissue = scanner.nearest(site.tissue * shown, site.corner, grid)
    seg = scanner.label_slabs(label, site.corner, grid) * is_brain(tissue)
    owner = scanner.nearest(number, site.corner, grid) * (seg > 0)
    storage = _Storage(rng, grid)
    record = {
        "seed": seed, "world": "mri", **{k: v for k, v in drawn.items() if k != "channels"},
        "mirrored": shape.mirrored, "age": shape.age, "sulci": shape.sulci, "ventricles_mm": shape.ventricles,
        "grid": grid.kind, "shape": grid.shape, "spacing_mm": grid.spacing, "thickness_mm": grid.profile[2],
        "partial": grid.partial, "storage": storage.words, "channels": {},
    }  # fmt: skip
    volume_mm3 = float(np.prod(grid.spacing))
    counts = np.bincount(seg.ravel(), minlength=len(s.LABELS) + 1)
    record["labels"] = {text: float(counts[k] * volume_mm3) for k, text in s.LABELS.items() if counts[k]}
    name = name or f"mri-{seed}"
    scene = (site, layers, tubes, grid, visible, tissue, plane)
    volumes = {}
    for channel in drawn["channels"]:
        array, record["channels"][channel] = _scan(seed, channel, world, drawn["head"], *scene)
        volumes[channel] = Volume(storage.stored(array), storage.affine, name)
    lesions = _describe(drawn["disease"], seg, owner, storage, volume_mm3)
    maps = (Volume(storage.stored(m), storage.affine, name) for m in (seg, tissue))
    return PhantomCase(name, volumes, *maps, lesions, record)


def _check(seed, channels, disease) -> None:
    if seed < 0:
        raise UsageError(f"seed {seed} is negative; use 0 or more")
    wrong = [c for c in channels or () if c not in CHANNELS]
    if wrong or channels == ():
        raise UsageError(f"channels {wrong or 'none'}: expected some of {', '.join(CHANNELS)}")
    if disease not in (None, "none", *DISEASES):
        raise UsageError(f"disease {disease!r}: expected none or one of {', '.join(DISEASES)}")


def _draw(rng, channels, disease, head, anatomy, world: MriWorld) -> dict:
    """The choices of a case; each takes its random numbers whether it is given or not."""
    channel = CHANNELS[int(rng.choice(len(CHANNELS), p=[0.22, 0.26, 0.14, 0.14, 0.06, 0.18]))]
    sick, kind = rng.random() >= world.healthy, DISEASES[int(rng.choice(len(DISEASES), p=world.diseases))]
    whole, second = bool(rng.random() < world.heads), rng.random() < world.second
    stripping, face = STRIPPINGS[int(rng.choice(4, p=world.stripping))], rng.random() < world.defaced
    whole = whole if head is None else bool(head)
    return {
        "channels": channels or (channel,),
        "disease": disease or (kind if sick else "none"),
        "head": whole,
        "anatomy": anatomy or ("mni152" if second else "colin27"),
        "stripping": "none" if whole else stripping,
        "defaced": bool(whole and face),
    }


def _ends(shown: np.ndarray, corner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last mm on the canvas at which something is shown, along each axis."""
    spans = [np.flatnonzero(shown.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    return np.array([i[0] for i in spans]) + corner, np.array([i[-1] for i in spans]) + corner


def _dura(rng: np.random.Generator, site: Anatomy) -> None:
    """Take the outer 0 to 3 mm of fluid away, unevenly: the templates have a rim of it all around."""
    wide = rng.uniform(-0.5, 2.5) + 0.8 * noise_like(rng, site.mask.shape, 30)
    rim = site.mask & (site.code < 0.6) & (site.depth < wide)
    site.mask &= ~rim
    site.tissue[rim] = s.BONE if site.detail is not None else 0


def _perivascular(rng: np.random.Generator, site: Anatomy) -> None:
    """Up to 60 thin spaces of fluid below the ganglia and in white matter, without a label."""
    count = int(rng.integers(5, 60)) if rng.random() < 0.5 else int(rng.integers(0, 5))
    where = (site.code > 0.72) & site.mask & (site.depth > 12) & (site.ventricle > 3)
    for at in draw_voxels(rng, where, count):
        radii = np.array([rng.uniform(1.5, 5), *rng.uniform(0.4, 0.9, 2)])
        found = ellipsoid(rng, site, at, radii, 0.1, 0.0, site.mask.shape / np.array([2, 2, 4]) - at)
        if found is not None:
            part = site.code[found[0]]
            part += fall(found[1], 0.3) * (np.float32(0.36) - part)


def _labels(layers: list[Layer], where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Label and lesion number (uint8) of every voxel: the last layer that fills more than half of it."""
    label, number = np.zeros(where.shape, np.uint8), np.zeros(where.shape, np.uint8)
    for layer in layers:
        at = (layer.fraction > 0.5) & where[layer.box]
        label[layer.box][at], number[layer.box][at] = layer.label, layer.number
    return label, number


class _Storage:
    """In which order and direction the axes of a scan are stored; canvas axes run left, posterior, superior."""

    def __init__(self, rng: np.random.Generator, grid: scanner.Grid):
        self.flips = [bool(rng.random() < p) for p in (0.5, 0.5, 0.1)]
        orders = ((0, 1, 2), (1, 2, 0), (0, 2, 1))  # axial, sagittal, coronal storage
        self.order = orders[int(rng.choice(3, p=[0.9, 0.05, 0.05])) if grid.kind == "volume" else 0]
        matrix, origin = np.zeros((4, 4)), np.zeros(3)
        for axis, (places, step, sign) in enumerate(zip(grid.positions, grid.spacing, (-1, -1, 1), strict=True)):
            start = places[-1] if self.flips[axis] else places[0]
            matrix[axis, axis] = sign * step * (-1 if self.flips[axis] else 1)
            origin[axis] = sign * (start - (CANVAS[axis] - 1) / 2)
        self.affine = np.eye(4)
        self.affine[:3, :3], self.affine[:3, 3] = matrix[:3, list(self.order)], origin
        letters = [pair[flip] for pair, flip in zip(("LR", "PA", "SI"), self.flips, strict=True)]
        self.words = "".join(letters[a] for a in self.order)

    def to_ras(self, voxel: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """RAS mm of a voxel (3,) of the grid before it is stored."""
        turned = [n - 1 - v if flip else v for v, n, flip in zip(voxel, shape, self.flips, strict=True)]
        return (self.affine @ np.append(np.array(turned)[list(self.order)], 1))[:3]

    def stored(self, array: np.ndarray) -> np.ndarray:
        """The array as it lies in the file."""
        turned = array[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]
        return np.ascontiguousarray(turned.transpose(self.order))


def _scan(seed, channel, world, head, site, layers, tubes, grid, visible, tissue, plane) -> tuple[np.ndarray, dict]:
    """One channel on the grid, in its units, and what was drawn for it."""
    rng = np.random.default_rng([seed, _STREAM, 1 + CHANNELS.index(channel)])
    levels = Levels(rng, channel)
    image = render(rng, site, layers, tubes, levels)
    ringing, smooth = bool(rng.random() < 0.3), bool(rng.random() < 0.4)
    scan = scanner.acquire(image, site.corner, grid, ringing)
    strength = float(np.exp(rng.uniform(*np.log(world.bias))))
    scan *= scanner.bias_field(rng, grid, strength)
    ghost = float(rng.uniform(0.01, 0.06)) if rng.random() < 0.25 else 0.0
    if ghost:
        scanner.ghosts(rng, scan, ghost)
    noise = max(levels.tissue[s.WHITE], 0.4) * float(np.exp(rng.uniform(*np.log(world.noise))))
    where = visible
    if rng.random() < 0.6 and head:  # the air around a head has noise too
        where = np.ones(grid.shape, bool)
        if plane:
            where &= behind_plane(plane, grid.positions[1], grid.positions[2])
    scan = scanner.noisy(rng, scan, noise, where, smooth)
    gamma = float(np.exp(rng.uniform(-0.2, 0.2))) if rng.random() < 0.4 else 1.0
    if gamma != 1:
        scan **= np.float32(gamma)
    scan, units, background = _in_units(rng, scan, where, is_brain(tissue), world)
    words = {"noise": noise, "bias": strength, "ringing": ringing, "ghosts": ghost, "gamma": gamma}
    return scan, words | {"units": units, "background": background, "levels": levels.tissue}


def _in_units(rng, scan, where, brain, world) -> tuple[np.ndarray, str, float]:
    """The scan as int16 of some gain, as z-scores within the brain, or as float32 of some gain; background constant."""
    units = str(rng.choice(list(world.units), p=list(world.units.values())))
    peak = float(np.percentile(scan[brain][::7], 99)) + 1e-6
    background = 0.0
    if units == "int16":
        scan *= np.float32(np.exp(rng.uniform(np.log(150), np.log(4000))) / peak)
        out = np.round(scan)
        out[where] = np.clip(out[where], 0 if rng.random() < 0.5 else 1, 32767)
        return out.astype(np.int16), units, background
    if units == "z-score":
        inside = scan[brain]
        scan = (scan - np.float32(inside.mean())) / np.float32(inside.std() + 1e-6)
        if rng.random() < 0.4:
            background = round(float(scan[where].min()) - rng.uniform(0, 2), 2)
    else:
        scan *= np.float32(np.exp(rng.uniform(np.log(1e-2), np.log(1e3))) / peak)
        if rng.random() < 0.4:  # as after interpolation with a kernel that overshoots
            scan -= np.float32(rng.uniform(0, 0.03) * scan[brain].mean())
    scan[~where] = background
    return scan.astype(np.float32), units, float(np.float32(background))


def _describe(disease, seg, owner, storage, volume_mm3) -> list[dict]:
    """One dict a lesion that the grid shows: number, disease, volume_mm3, labels (name to mm3), centre_ras."""
    out = []
    at = np.argwhere(seg)
    numbers, values = owner[tuple(at.T)], seg[tuple(at.T)]
    for number in np.unique(numbers):
        mine = numbers == number
        counts = np.bincount(values[mine], minlength=len(s.LABELS) + 1)
        centre = storage.to_ras(at[mine].mean(0), seg.shape)
        out.append(
            {
                "number": int(number),
                "disease": disease,
                "volume_mm3": float(mine.sum() * volume_mm3),
                "labels": {text: float(counts[k] * volume_mm3) for k, text in s.LABELS.items() if counts[k]},
                "centre_ras": [round(float(c), 1) for c in centre],
            }
        )
    return out
