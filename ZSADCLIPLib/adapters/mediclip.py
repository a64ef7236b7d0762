"""MediCLIP (Zhang et al., arXiv 2405.11315): learned context before phrases, made for normal images with synthetic anomalies.

Step by step in docs/methods/mediclip.md. The map is the sigmoid of the cosine difference, averaged over layers, no temperature.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backbones.base import Backbone
from ..errors import WeightsError
from ..fields import OneOf, Positive
from .base import AboveZero, Adapter, Dice, Features, PosEmbed, Scores, Upsample, quarters
from .losses import dice, focal
from .maps import full_precision, to_grid, upsample
from .phrases import POSITIONS, Phrases, Positions, phrase_directions, phrases_of, start_vectors


@dataclass(frozen=True)
class MediCLIPConfig:
    """Settings of MediCLIP; the defaults are the authors'.

    layers       tapped blocks or stages, from 1; empty = the last three quarters of the depth.
    object_name  what stands behind each phrase; empty in the authors' code.
    context      learned vectors of a phrase.
    shared       one set of them for all phrases of a group, not one for each.
    positions    where they stand: before the phrase (end), around it (middle) or behind it (front); all sentences are averaged.
    attention    open: the text tower without its causal mask, as in the authors' code; causal: as CLIP was trained.
    temperature  factor of the cosine; the authors have none.
    dice         what one Dice sample is: image, rows or batch (see `losses`).
    """

    layers: tuple[Positive, ...] = ()
    object_name: str = ""
    prompts: str | dict = "mediclip"
    context: Positive = 8
    shared: bool = False
    positions: Positions = ("end",)
    attention: Annotated[str, OneOf(("open", "causal"))] = "open"
    temperature: AboveZero = 1.0
    upsample: Upsample = "faithful"
    pos_embed: PosEmbed = "bicubic-antialias"
    dice: Dice = "image"
    learning_rate: AboveZero = 1e-3
    epochs: Positive = 200
    batch_size: Positive = 8


class MediCLIP(Adapter):
    """Learns a linear layer for each tapped layer and the context of the phrases; both towers only run."""

    method = "mediclip"
    Config = MediCLIPConfig
    not_in_features = frozenset(MediCLIPConfig.__dataclass_fields__) - {"layers", "pos_embed"}
    resample: ClassVar[str] = "bilinear"
    without_tokens = (
        "stages 2 to 4 are tapped, all brought to the grid of stage 2; learned context enters a bidirectional text tower",
    )
    published_key = "adapter_state_dict"

    def __init__(self, config: MediCLIPConfig, backbone: Backbone):
        layers = tuple(sorted(set(config.layers))) or quarters(backbone)[-3:]
        super().__init__(replace(config, layers=layers), backbone)
        self.fc = nn.ModuleList(nn.Linear(backbone.vision.tap_width(k), backbone.embed_dim) for k in layers)
        self.ctx = start_vectors(self.phrases(), config.positions, config.context, backbone.text.width, config.shared)

    @classmethod
    def from_published(cls, state: Mapping, file: str) -> tuple[dict, Mapping] | None:
        if cls.published_key not in state or "prompt_state_dict" not in state:
            return None
        layers, context = state[cls.published_key], state["prompt_state_dict"]
        own = {
            f"fc.{key.replace('_adapter.0', '')}": value.flatten(1) if key.endswith("weight") else value
            for key, value in layers.items()
        }
        normal = {key.rpartition("_")[2]: value for key, value in context.items() if key.startswith("ctx.normal_")}
        if not own or not normal or set(normal) - set(POSITIONS):
            raise WeightsError(f"{file} is no MediCLIP file: its context is {sorted(context)[:6]}")
        first = next(iter(normal.values()))
        config = {"positions": list(normal), "context": first.shape[-2], "shared": first.dim() == 2}
        return config, {**own, **context}

    def display_range(self, backbone: Backbone) -> tuple[float, float]:
        """All that a cosine difference of unit vectors with these texts can reach."""
        with torch.no_grad():
            text = self.learned_text(backbone)
        high = float((self.config.temperature * (text[:, 1] - text[:, 0]).norm()).sigmoid())
        return 1 - high, high

    def phrases(self) -> Phrases:
        """The normal and the abnormal phrases."""
        return phrases_of(self.prompts, self.config.object_name)

    def text(self, backbone: Backbone) -> Tensor:
        """Unit text directions (C, 2), columns normal and abnormal."""
        causal = self.config.attention == "causal"
        return phrase_directions(backbone, self.phrases(), self.ctx, self.config.positions, causal)

    @torch.no_grad()
    def features(self, backbone: Backbone, images: Tensor) -> Features:
        """Tokens (B, L, W) of each tapped layer, class token left out."""
        taps = backbone.encode_image(images, taps=self.config.layers, pos_embed=self.config.pos_embed).taps
        return {f"tap{layer}": tokens[:, backbone.vision.prefix :] for layer, tokens in taps.items()}

    def patches(self, features: Features) -> list[Tensor]:
        """Unit patch vectors (B, g, g, C) of each tapped layer, on the largest of their grids."""
        grids = [
            to_grid(linear(features[f"tap{layer}"]).float())
            for layer, linear in zip(self.config.layers, self.fc, strict=True)
        ]
        largest = max(grid.shape[1] for grid in grids)
        # A linear layer commutes with the enlarging that comes before it in the authors' code; the norm does not.
        grids = [g if g.shape[1] == largest else _enlarged(g, largest) for g in grids]
        return [F.normalize(grid, dim=-1) for grid in grids]

    def maps(self, backbone: Backbone, features: Features, size: int) -> Tensor:
        """Abnormal probabilities (B, S, S)."""
        text = self.learned_text(backbone)
        with full_precision(text.device):
            direction = self.config.temperature * (text[:, 1] - text[:, 0])
            grid = torch.stack([patches @ direction for patches in self.patches(features)]).mean(dim=0)
            mode = "corners" if self.config.upsample == "faithful" else self.config.upsample
            return upsample(grid, size, mode, backbone.vision.cell(size, grid.shape[-1])).sigmoid()

    def predict(self, backbone: Backbone, features: Features, size: int) -> Scores:
        maps = self.maps(backbone, features, size)
        return Scores(maps, maps.flatten(1).amax(dim=1))

    def objective(self, backbone: Backbone, features: Features, masks: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Focal takes a soft mask truncated to whole numbers and Dice as it is, as in the authors' code."""
        maps = self.maps(backbone, features, masks.shape[-1])
        parts = {"focal": focal(maps, masks.trunc()), "dice": dice(maps, masks, self.config.dice)}
        return {"total": parts["focal"] + parts["dice"], **parts}

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam(1e-3, betas 0.5 and 0.999), constant rate (docs/methods/mediclip.md, "Training")."""
        return torch.optim.Adam(self.parameters(), lr=self.config.learning_rate, betas=(0.5, 0.999))


def _enlarged(grids: Tensor, cells: int) -> Tensor:
    """Grids (B, g, g, C) -> (B, cells, cells, C), first and last cell kept."""
    return upsample(grids.movedim(-1, 1), cells, "corners").movedim(1, -1)
