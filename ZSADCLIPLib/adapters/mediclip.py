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
from ..errors import UsageError, WeightsError
from ..fields import OneOf, Positive
from .base import AboveZero, Adapter, Dice, Features, PosEmbed, Scores, Upsample, group_direction, quarters
from .losses import dice, focal
from .maps import full_precision, to_grid, upsample

GROUPS = ("normal", "abnormal")
POSITIONS = ("end", "middle", "front")


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
    positions: tuple[Annotated[str, OneOf(POSITIONS)], ...] = ("end",)
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
        if not config.positions or len(set(config.positions)) < len(config.positions):
            raise UsageError(f"positions {list(config.positions)}: expected {', '.join(POSITIONS)}, each once at most")
        super().__init__(replace(config, layers=layers), backbone)
        self.fc = nn.ModuleList(nn.Linear(backbone.vision.tap_width(k), backbone.embed_dim) for k in layers)
        self.ctx = nn.ParameterDict()
        for name, phrases in zip(GROUPS, self.phrases(), strict=True):
            shape = (config.context, backbone.text.width)
            for position in config.positions:
                start = torch.randn(shape if config.shared else (len(phrases), *shape)) * 0.02
                self.ctx[f"{name}_{position}"] = nn.Parameter(start)

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

    def phrases(self) -> tuple[list[str], list[str]]:
        """The normal and the abnormal phrases, each with its full stop."""
        groups = self.prompts.sentences(self.config.object_name)
        return tuple([f"{phrase.replace('_', ' ').strip()}." for phrase in group] for group in groups)

    def _sentences(self, backbone: Backbone) -> list[tuple[Tensor, dict[str, Tensor]]]:
        """Of each group the ids (n, context) with room for the context, and for each position the order (n, context) of rows."""
        text, count = backbone.text, self.config.context
        key = ("mediclip", self.prompts, self.config.object_name, count, self.config.positions)
        if key not in backbone.cache:
            with torch.inference_mode(False):
                backbone.cache[key] = [
                    (
                        torch.cat([text.with_context(phrase, count) for phrase in group]).to(backbone.device),
                        {position: _orders(text, group, count, position).to(backbone.device) for position in POSITIONS},
                    )
                    for group in self.phrases()
                ]
        return backbone.cache[key]

    def text(self, backbone: Backbone) -> Tensor:
        """Unit text directions (C, 2), columns normal and abnormal: means of the raw sentence embeddings."""
        columns, open_ = [], self.config.attention == "open"
        for name, (tokens, orders) in zip(GROUPS, self._sentences(backbone), strict=True):
            vectors, found = backbone.text.token_vectors(tokens).float(), []
            for position in self.config.positions:
                context = self.ctx[f"{name}_{position}"].expand(len(tokens), -1, -1)
                rows = torch.cat([vectors[:, :1], context, vectors[:, 1 + context.shape[1] :]], dim=1)
                order = orders[position][:, :, None].expand_as(rows)
                found.append(backbone.encode_text(tokens, embeddings=rows.gather(1, order), causal=not open_))
            columns.append(group_direction(torch.cat(found), unit_first=False))
        return torch.stack(columns, dim=1)

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


def _orders(text, phrases: list[str], count: int, position: str) -> Tensor:
    """Rows (n, context) of start, context, phrase, full stop and the rest in the order that `position` says."""
    orders = []
    for words in text.lengths(text.tokenize(phrases)).tolist():
        own, ahead = (
            words - 3,
            {"end": count, "middle": count // 2, "front": 0}[position],
        )  # less start, full stop and end
        rows = torch.arange(text.context)
        context, phrase = rows[1 : 1 + count], rows[1 + count : 1 + count + own]
        orders.append(torch.cat([rows[:1], context[:ahead], phrase, context[ahead:], rows[1 + count + own :]]))
    return torch.stack(orders)
