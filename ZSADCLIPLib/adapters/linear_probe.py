"""A linear probe (Alain and Bengio, arXiv 1610.01644) of a frozen image tower: the least that a trained method must beat.

Step by step in docs/methods/linear-probe.md. One number for each channel of the tapped tokens, and one more; no words.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backbones.base import Backbone
from ..fields import Positive
from .base import (
    NEIGHBOURS,
    AboveZero,
    Adapter,
    Dice,
    Features,
    Offset,
    PosEmbed,
    Scores,
    Upsample,
    quarters,
    with_own,
)
from .losses import dice, focal
from .maps import full_precision, to_grid, upsample


@dataclass(frozen=True)
class LinearProbeConfig:
    """Settings of the linear probe.

    layers       tapped blocks or stages, from 1; empty = the quarters of the depth.
    context      offsets in mm of the slices whose tokens have weights of their own; empty = a slice alone.
    object_name, prompts   not used: there are no words.
    upsample     faithful (= centres), corners or half-pixel.
    dice         what one Dice sample is: image, rows or batch (see `losses`).
    """

    layers: tuple[Positive, ...] = ()
    context: tuple[Offset, ...] = ()
    object_name: str = "brain"
    prompts: str | dict = "vand"
    upsample: Upsample = "faithful"
    pos_embed: PosEmbed = "bicubic-antialias"
    dice: Dice = "batch"
    learning_rate: AboveZero = 1e-3
    epochs: Positive = 12
    batch_size: Positive = 8


class LinearProbe(Adapter):
    """A weighted sum of a patch's normalised tokens is the logit of an anomaly there."""

    method = "linear-probe"
    Config = LinearProbeConfig
    not_in_features = frozenset(
        ("context", "object_name", "prompts", "upsample", "dice", "learning_rate", "epochs", "batch_size")
    )
    without_tokens = ("stages 1 to 4 are tapped, each enlarged by itself",)

    def __init__(self, config: LinearProbeConfig, backbone: Backbone):
        layers, context = tuple(sorted(set(config.layers))) or quarters(backbone), self.offsets(config)
        super().__init__(replace(config, layers=layers, context=context), backbone)
        widths = [backbone.vision.tap_width(layer) for layer in layers]
        layer = nn.Linear(sum(widths), 1)
        own = torch.tensor([float(mm == 0) for mm in context or (0.0,)])
        # The weights of neighbours begin at 0, so that training begins at the probe of a slice alone.
        parts = layer.weight.detach()[0].split(widths)
        self.weight = nn.ParameterList(nn.Parameter(own[:, None] * part) for part in parts)
        self.bias = nn.Parameter(layer.bias.detach())

    @classmethod
    def offsets(cls, config) -> tuple[float, ...]:
        return with_own(config.context)

    @torch.no_grad()
    def features(self, backbone: Backbone, images: Tensor) -> Features:
        """Tokens (B, L, W) of each tapped layer, class token left out."""
        taps = backbone.encode_image(images, taps=self.config.layers, pos_embed=self.config.pos_embed).taps
        return {f"tap{layer}": tokens[:, backbone.vision.prefix :] for layer, tokens in taps.items()}

    def logits(self, backbone: Backbone, features: Features, size: int) -> Tensor:
        """Logits (B, S, S): the sum of all taps' enlarged grids, of each slice and its neighbours, and the bias."""
        grids: dict[int, Tensor] = {}
        for layer, weights in zip(self.config.layers, self.weight, strict=True):
            tokens = features[f"tap{layer}"]
            with full_precision(tokens.device):
                found = self._projected(F.layer_norm(tokens.float(), tokens.shape[-1:]), weights, features)
            cells = found.shape[1]  # taps of one grid are enlarged together
            grids[cells] = grids[cells] + found if cells in grids else found
        return self.bias + sum(self._draw(grid, size, backbone) for grid in grids.values())

    @staticmethod
    def _projected(tokens: Tensor, weights: Tensor, features: Features) -> Tensor:
        """Sums (B, L) over channels and neighbours: each token is projected first, and then the slices are moved and added."""
        rows = features.get(NEIGHBOURS)
        if rows is None:  # a slice stands in for its neighbours
            return tokens @ weights.sum(dim=0)
        return sum((tokens @ each)[rows[:, k]] for k, each in enumerate(weights))

    def _draw(self, tokens: Tensor, size: int, backbone: Backbone) -> Tensor:
        mode = "centres" if self.config.upsample == "faithful" else self.config.upsample
        grid = to_grid(tokens)
        return upsample(grid, size, mode, backbone.vision.cell(size, grid.shape[-1]))

    def predict(self, backbone: Backbone, features: Features, size: int) -> Scores:
        maps = self.logits(backbone, features, size).sigmoid()
        return Scores(maps, maps.flatten(1).amax(dim=1))

    def objective(self, backbone: Backbone, features: Features, masks: Tensor, labels: Tensor) -> dict[str, Tensor]:
        maps = self.logits(backbone, features, masks.shape[-1]).sigmoid()
        parts = {"focal": focal(maps, masks), "dice": dice(maps, masks, self.config.dice)}
        return {"total": parts["focal"] + parts["dice"], **parts}

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.config.learning_rate)
