"""VAND / APRIL-GAN (Chen et al., arXiv 2305.17382): linear layers take tapped tokens into the text space.

Step by step in docs/methods/vand.md. The map is the sum over layers of sigmoid(upsampled 100 * cosine difference).
"""

from __future__ import annotations

from collections.abc import Mapping
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
    group_direction,
    quarters,
    sentence_embeddings,
    with_own,
)
from .losses import dice, focal
from .maps import full_precision, to_grid, upsample


@dataclass(frozen=True)
class VANDConfig:
    """Settings of VAND; the defaults are the authors'.

    layers           tapped blocks or stages, from 1; empty = the quarters of the depth.
    context          offsets in mm of the slices whose tokens are mixed before the linear layers; empty = a slice alone.
    temperature      factor of the cosine, a constant in the authors' code.
    upsample         faithful (= corners), half-pixel or centres.
    reference_layers taps compared with the memory bank of normal images; empty = `layers`.
    dice             what one Dice sample is: image, rows or batch (see `losses`).
    """

    layers: tuple[Positive, ...] = ()
    object_name: str = "brain"
    prompts: str | dict = "vand"
    temperature: AboveZero = 100.0
    upsample: Upsample = "faithful"
    pos_embed: PosEmbed = "bicubic-antialias"
    reference_layers: tuple[Positive, ...] = ()
    context: tuple[Offset, ...] = ()
    dice: Dice = "image"
    learning_rate: AboveZero = 1e-3
    epochs: Positive = 15
    batch_size: Positive = 8


class VAND(Adapter):
    """Zero-shot with trained linear layers; with `remember` also few-shot."""

    method = "vand"
    Config = VANDConfig
    not_in_features = frozenset(
        (
            "object_name",
            "prompts",
            "temperature",
            "upsample",
            "context",
            "dice",
            "learning_rate",
            "epochs",
            "batch_size",
        )
    )
    without_tokens = (
        "stages 1 to 4 are tapped, as in the authors' ResNet path; batch norms use their stored statistics",
    )
    published_key = "trainable_linearlayer"

    def __init__(self, config: VANDConfig, backbone: Backbone):
        layers = tuple(sorted(set(config.layers))) or quarters(backbone)
        references = tuple(sorted(set(config.reference_layers))) or layers
        context = self.offsets(config)
        super().__init__(replace(config, layers=layers, reference_layers=references, context=context), backbone)
        widths = [backbone.vision.tap_width(layer) for layer in layers]
        self.fc = nn.ModuleList(nn.Linear(width, backbone.embed_dim) for width in widths)
        self.kernel = nn.ParameterList(_identity_kernel(context, width) for width in widths if context)
        self.memory: dict[int, Tensor] = {}

    @classmethod
    def from_published(cls, state: Mapping, file: str) -> tuple[dict, Mapping] | None:
        return ({}, state[cls.published_key]) if cls.published_key in state else None

    @classmethod
    def offsets(cls, config) -> tuple[float, ...]:
        return with_own(config.context)

    @property
    def summed_layers(self) -> int:
        return len(self.config.layers)

    def display_range(self, backbone: Backbone) -> tuple[float, float]:
        return 0.0, float(self.summed_layers + (2 * len(self.config.reference_layers) if self.memory else 0))

    def text(self, backbone: Backbone) -> Tensor:
        """Unit text directions (C, 2), columns normal and abnormal."""
        groups = sentence_embeddings(backbone, self.prompts, self.config.object_name)
        return torch.stack([group_direction(group) for group in groups], dim=1)

    def _taps(self, backbone: Backbone, images: Tensor, layers) -> Features:
        features = backbone.encode_image(images, taps=layers, pos_embed=self.config.pos_embed)
        tokens = {f"tap{k}": v[:, backbone.vision.prefix :] for k, v in features.taps.items()}
        return {"embedding": features.embedding, **tokens}

    @torch.no_grad()
    def features(self, backbone: Backbone, images: Tensor) -> Features:
        layers = self.config.layers + (self.config.reference_layers if self.memory else ())
        return self._taps(backbone, images, sorted(set(layers)))

    @torch.no_grad()
    def remember(self, backbone: Backbone, images: Tensor) -> None:
        """Add normal images (k, 3, S, S) to the memory bank (docs/methods/vand.md, "Few-shot")."""
        taps = self._taps(backbone, images, self.config.reference_layers)
        for layer in self.config.reference_layers:
            bank = F.normalize(taps[f"tap{layer}"].flatten(0, 1), dim=-1)
            self.memory[layer] = torch.cat([self.memory[layer], bank]) if layer in self.memory else bank

    def _draw(self, tokens: Tensor, size: int, backbone: Backbone) -> Tensor:
        mode = "corners" if self.config.upsample == "faithful" else self.config.upsample
        grid = to_grid(tokens)
        patch = backbone.vision.cell(size, grid.shape[-1])
        return upsample(grid, size, mode, patch)

    def mixed(self, features: Features, n: int) -> Tensor:
        """Tokens (B, L, W) of the n-th tapped layer: with a context, each channel weighted over the neighbouring slices."""
        tokens = features[f"tap{self.config.layers[n]}"]
        if not self.context:
            return tokens
        if NEIGHBOURS not in features:  # a slice stands in for its neighbours
            return tokens * self.kernel[n].sum(dim=0)
        return sum(tokens[rows] * weights for rows, weights in zip(features[NEIGHBOURS].T, self.kernel[n], strict=True))

    def own(self, features: Features) -> Features:
        """Features of the slices that are asked for, without those that came for being neighbours."""
        if NEIGHBOURS not in features:
            return features
        rows = features[NEIGHBOURS][:, self.context.index(0.0)]
        return {name: values[rows] for name, values in features.items() if name != NEIGHBOURS}

    def layer_maps(self, backbone: Backbone, features: Features, size: int) -> list[Tensor]:
        """Abnormal probabilities (B, S, S) of each layer, after upsampling the logits."""
        text = self.text(backbone)
        direction = text[:, 1] - text[:, 0]
        maps = []
        for n, linear in enumerate(self.fc):
            tokens = linear(self.mixed(features, n)).float()
            with full_precision(tokens.device):
                logits = self.config.temperature * (tokens @ direction) / tokens.norm(dim=-1)
                maps.append(self._draw(logits, size, backbone).sigmoid())
        return maps

    def reference_map(self, backbone: Backbone, features: Features, size: int) -> Tensor:
        """Sum over layers of 1 - the best cosine with the memory bank, (B, S, S), range 0..2 a layer."""
        total = 0
        for layer, bank in self.memory.items():
            tokens = F.normalize(features[f"tap{layer}"], dim=-1)
            nearest = torch.stack([(one @ bank.T).amax(dim=-1) for one in tokens])
            total = total + self._draw(1 - nearest, size, backbone)
        return total

    def predict(self, backbone: Backbone, features: Features, size: int) -> Scores:
        maps, own = sum(self.layer_maps(backbone, features, size)), self.own(features)
        if self.memory:
            maps = maps + self.reference_map(backbone, own, size)
        image = F.normalize(own["embedding"], dim=-1)
        return Scores(maps, (100 * image @ self.text(backbone)).softmax(dim=-1)[:, 1])

    def volume_scores(self, scores: Tensor, map_maxima: Tensor) -> Tensor:
        """With a memory bank: mean of the text score and the map maximum, min-max scaled over the volume's slices."""
        if not self.memory:
            return scores
        span = map_maxima.max() - map_maxima.min()
        return 0.5 * (scores + (map_maxima - map_maxima.min()) / span) if span > 0 else 0.5 * scores

    def objective(self, backbone: Backbone, features: Features, masks: Tensor, labels: Tensor) -> dict[str, Tensor]:
        maps = self.layer_maps(backbone, features, masks.shape[-1])
        focals = torch.stack([focal(p, masks) for p in maps])
        dices = torch.stack([dice(p, masks, self.config.dice) for p in maps])
        return {"total": (focals + dices).sum(), "focal": focals.sum(), "dice": dices.sum()}

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam(1e-3, betas 0.5 and 0.999), constant rate (docs/methods/vand.md, "Training")."""
        return torch.optim.Adam(self.parameters(), lr=self.config.learning_rate, betas=(0.5, 0.999))


def _identity_kernel(context: tuple[float, ...], width: int) -> nn.Parameter:
    """Weights (K, W) of a slice's neighbours that leave it as it is: training begins at the slice head."""
    own = torch.tensor([float(mm == 0) for mm in context])
    return nn.Parameter(own[:, None].repeat(1, width))
