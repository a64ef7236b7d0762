"""Volumetric tokens: what an image tower sees of a volume, averaged over cells of some millimetres in the brain.

As in CoDeGraph3D (arXiv 2602.15315): patch tokens of slices are averaged along depth and made unit vectors, those of several
planes stand side by side, and a random projection shortens them. Cells are of mm, not of patches, so any spacing will do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..adapters.base import quarters
from ..backbones.focus import patch_box
from ..detection.batches import run_batches
from ..detection.detector import MOST_SLICES
from ..detection.preparation import Look, Prepared
from ..detection.slice_maps import FAST_RUN, check_finite
from ..errors import InputError, UsageError
from ..execution.shared import on_device
from ..fields import Between, Count, OneOf, Positive
from ..progress import Progress, silent, sub_progress
from ..volume import Volume
from ..volumes.slicing import PLANES
from .cells import CellGrid

CELL_MM = 8.0
PROJECTION = 64
AT_ONCE = 1 << 25  # bytes of token sums a step of the projection


@dataclass(frozen=True)
class TokenSettings:
    """What tokens depend on beside volume and backbone; only tokens of equal settings can be compared.

    cell_mm     side of a cell.
    planes      in which slices are looked at; each adds channels, and the first has the slices of findings.
    layers      tapped blocks or stages, from 1; empty: the quarters of the depth.
    projection  channels after a Gaussian random projection drawn from `seed`; 0, or more than there are: none.
    image_size  pixels of the square the model sees.
    intensity, window, crop   as in `preparation.Look`.
    fast        only the patches of the brain's bounding box are computed; not exact (docs/explanation/performance.md).
    """

    cell_mm: Annotated[float, Between(0)] = CELL_MM
    planes: tuple[Annotated[str, OneOf(tuple(PLANES))], ...] = ("axial",)
    layers: tuple[Positive, ...] = ()
    projection: Count = PROJECTION
    seed: Count = 0
    image_size: Positive = 240
    intensity: str = "auto"
    window: tuple[float, float] | None = None
    crop: str | float = "head"
    fast: bool = False

    def __post_init__(self):
        if not self.planes or len(set(self.planes)) < len(self.planes):
            raise UsageError(f"planes {' '.join(self.planes) or 'none'}: expected one or more, each once")
        self.look(0)

    def look(self, n: int) -> Look:
        """How volumes are looked at in the n-th plane; raises UsageError for values that are not allowed."""
        return Look(self.planes[n], self.intensity, self.window, self.crop)


@dataclass(frozen=True, eq=False)
class VolumeTokens:
    """Cells int16 (n, 3) of a `CellGrid`, and their unit tokens float16 (n, C)."""

    cells: np.ndarray
    tokens: np.ndarray

    def units(self, device: str | torch.device = "cpu") -> Tensor:
        """The tokens as float32 (n, C), of length 1 again: half precision has rounded them."""
        return units(self.tokens, device)


def units(tokens: np.ndarray, device: str | torch.device = "cpu") -> Tensor:
    """Tokens (n, C) as unit vectors in float32."""
    return F.normalize(torch.from_numpy(np.ascontiguousarray(tokens)).to(device).float(), dim=-1)


def volume_tokens(
    backbone,
    volume: Volume,
    settings: TokenSettings,
    brain: np.ndarray | None = None,
    batch_size: int = 8,
    progress: Progress = silent,
) -> VolumeTokens:
    """The tokens of the cells of a volume that are brain to a half and seen in every plane.

    `brain` (I, J, K) bool is found from the image unless given. Slices go through the model in batches, and what is kept are sums
    over cells: memory is cells x channels numbers, however many slices there are. Raises InputError when no cell is brain or a
    plane has too many slices, UsageError for layers or a fast mode that the model does not have, ZSADCLIPError when tokens are
    not finite.
    """
    if settings.fast and backbone.vision.patch is None:
        raise UsageError(f"fast mode skips patches of a ViT; the image tower of {backbone.name} has none")
    views = [_prepared(volume, settings, n, brain) for n in range(len(settings.planes))]
    grid = CellGrid(views[0].stack, settings.cell_mm)
    cells = grid.brain(np.logical_and.reduce([view.scored for view in views]))
    parts, count = [], len(views)
    for n, view in enumerate(views):
        share = sub_progress(progress, n / count, (n + 1) / count, f"{view.stack.plane} " if count > 1 else "")
        sums = _PlaneSums(backbone, view, grid, cells, settings)
        sums.add_slices(batch_size, share)
        parts += sums.layers.values()
    check_finite(volume.name or "the volume", backbone, *parts)
    at = np.argwhere(cells).astype(np.int16)
    return VolumeTokens(at, _joined(parts, settings))


def _prepared(volume: Volume, settings: TokenSettings, n: int, brain: np.ndarray | None) -> Prepared:
    prepared = settings.look(n).prepare(volume, settings.image_size, brain=brain)
    slices = len(prepared.stack.array)
    if slices > MOST_SLICES:
        raise InputError(
            f"{volume.name or 'the volume'} has {slices} {prepared.stack.plane} slices; expected at most {MOST_SLICES}: choose "
            "another plane, or resample it"
        )
    return prepared


class _PlaneSums:
    """The running sums of one plane's tokens: for each layer float32 (cells, W)."""

    def __init__(self, backbone, view: Prepared, grid: CellGrid, cells: np.ndarray, settings: TokenSettings):
        self.backbone, self.view, self.settings = backbone, view, settings
        names = sorted(set(settings.layers)) or quarters(backbone)
        self.layers = {n: np.zeros((int(cells.sum()), backbone.vision.tap_width(n)), np.float32) for n in names}
        stack, first = view.stack, grid.stack
        axes = [first.permutation.index(axis) for axis in stack.permutation]  # this plane's N, R, C among the cells'
        turned = [stack.flips[n] != first.flips[axis] for n, axis in enumerate(axes)]
        self._rows = np.full(cells.shape, -1)
        self._rows[cells] = np.arange(int(cells.sum()))
        self._rows = self._rows.transpose(axes)
        depth = np.arange(len(stack.array) + 1) * stack.spacing[2]
        self.depth = self._weights(grid, axes[0], turned[0], depth, depth[-1])
        self._grid, self._axes, self._turned = grid, axes, turned
        self._inside: dict[tuple[int, int], Tensor] = {}

    @staticmethod
    def _weights(grid: CellGrid, axis: int, turned: bool, edges: np.ndarray, length: float) -> np.ndarray:
        """mm that cells share with the intervals between `edges`, which run against the cells' axis where `turned`."""
        starts, ends = (length - edges[1:], length - edges[:-1]) if turned else (edges[:-1], edges[1:])
        return grid.overlaps(axis, starts, ends)

    def add_slices(self, batch_size: int, progress: Progress) -> None:
        """Let the model see the slices that cells with a token reach into."""
        slices = self.view.fit.apply(self.view.image)
        wanted = self.depth[(self._rows >= 0).any(axis=(1, 2))].any(axis=0)
        on_device(self._add_rows, slices, np.flatnonzero(wanted), batch_size, progress)
        total = self.depth.sum(axis=1)
        layer_of = np.broadcast_to(np.arange(len(total))[:, None, None], self._rows.shape)[self._rows >= 0]
        for sums in self.layers.values():
            sums[self._rows[self._rows >= 0]] /= total[layer_of][:, None]

    def _add_rows(self, slices: np.ndarray, todo: np.ndarray, batch_size: int, progress: Progress) -> None:
        done, runs = 0, np.unique(todo // FAST_RUN) if self.settings.fast else [None]
        for run in runs:
            rows = todo if run is None else todo[todo // FAST_RUN == run]
            model = self.backbone if run is None else self._focused(int(run))
            score = partial(self._cells_of, model)
            batch_size = run_batches(model, slices, rows, batch_size, score, self._add, progress, (done, len(todo)))
            done += len(rows)

    def _focused(self, run: int):
        """The model that looks only at the patches which hold brain in a run of slices."""
        slices = slice(run * FAST_RUN, (run + 1) * FAST_RUN)
        inside = self.view.stack.arrange(self.view.brain)[slices].astype(np.uint8) * 255
        shown = (self.view.fit.apply(inside) > 0).any(axis=0)
        vision = self.backbone.vision
        return self.backbone.focused(patch_box(shown, vision.patch, vision.grid(self.settings.image_size)))

    def _cells_of(self, model, images: Tensor) -> tuple[Tensor, ...]:
        """Of each layer the tokens of a batch averaged over the cells of a slice, (B, cells of a slice, W)."""
        tapped, found = model.encode_image(images, taps=tuple(self.layers)).taps, []
        for layer in self.layers:
            tokens = tapped[layer][:, model.vision.prefix :]
            side = model.vision.grid(images.shape[-1], layer)
            down, across = (self._in_plane(axis, side, images.shape[-1], tokens.device) for axis in (1, 2))
            tokens = torch.einsum("kr,brcw->bkcw", down, tokens.unflatten(1, (side, side)))
            found.append(torch.einsum("lc,bkcw->bklw", across, tokens).flatten(1, 2))
        return tuple(found)

    def _in_plane(self, axis: int, side: int, size: int, device: torch.device) -> Tensor:
        """The weights (cells, side) of the mean over the tokens that each cell shares with, along rows (1) or columns (2)."""
        if (axis, side) not in self._inside:
            stack, first, end = self.view.stack, *self.view.fit.box[2 * axis - 2 : 2 * axis]
            pixels = np.arange(side + 1) * self.backbone.vision.cell(size, side)
            edges = (first + pixels * (end - first) / size) * stack.spacing[axis - 1]
            length = stack.shape[axis] * stack.spacing[axis - 1]
            weights = self._weights(self._grid, self._axes[axis], self._turned[axis], edges, length)
            weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-6)
            self._inside[axis, side] = torch.from_numpy(weights)
        return self._inside[axis, side].to(device)

    def _add(self, rows: np.ndarray, results: list[np.ndarray]) -> None:
        for n, row in enumerate(rows):
            for depth in np.flatnonzero(self.depth[:, row]):
                at = self._rows[depth].ravel()
                inside = np.flatnonzero(at >= 0)
                for sums, result in zip(self.layers.values(), results, strict=True):
                    sums[at[inside]] += self.depth[depth, row] * result[n][inside]


def _joined(parts: list[np.ndarray], settings: TokenSettings) -> np.ndarray:
    """Unit vectors of every plane and layer side by side, projected where that is asked for, as unit vectors float16 (n, C)."""
    widths = [part.shape[1] for part in parts]
    matrix = projection(sum(widths), settings.projection, settings.seed)
    out = np.empty((len(parts[0]), sum(widths) if matrix is None else matrix.shape[1]), np.float16)
    step = max(1, AT_ONCE // (4 * sum(widths)))
    for start in range(0, len(out), step):
        one = torch.cat([F.normalize(torch.from_numpy(part[start : start + step]), dim=-1) for part in parts], dim=-1)
        one = one if matrix is None else one @ torch.from_numpy(matrix)
        out[start : start + step] = F.normalize(one, dim=-1).numpy()
    return out


def projection(width: int, channels: int, seed: int) -> np.ndarray | None:
    """A Gaussian random matrix float32 (width, channels), which keeps angles in the mean; None where it would not shorten.

    Drawn by NumPy, whose streams are the same on every machine.
    """
    if not 0 < channels < width:
        return None
    drawn = np.random.default_rng(seed).standard_normal((width, channels)) / np.sqrt(channels)
    return drawn.astype(np.float32)
