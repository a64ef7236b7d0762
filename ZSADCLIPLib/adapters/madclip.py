"""MadCLIP (Shiri et al., MICCAI 2025, arXiv 2506.23810): a normal and an abnormal branch a tap, against learned words for both.

Step by step in docs/methods/madclip.md. The map is the sum over layers of sigmoid(upsampled abnormal minus normal evidence), no
temperature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backbones.base import Backbone
from ..errors import WeightsError
from ..fields import Positive
from .base import AboveZero, Adapter, Dice, Features, PosEmbed, Scores, Upsample, quarters
from .losses import dice, focal
from .maps import full_precision, to_grid, upsample
from .phrases import GROUPS, POSITIONS, Phrases, Positions, phrase_directions, phrases_of, start_vectors

HEADS = {"det": "fc2", "seg": "fc3"}
"""The layers of a branch, by what they are for: the score of an image, and its map."""


@dataclass(frozen=True)
class MadCLIPConfig:
    """Settings of MadCLIP; the defaults are the authors'.

    layers       tapped blocks or stages, from 1; empty = the quarters of the depth.
    object_name  the thing in the phrases.
    context      learned vectors of a phrase.
    positions    where they stand: before the phrase (end), around it (middle) or behind it (front); all sentences are averaged.
    temperature  factor of the cosine; the authors have none.
    supervision  masks, or labels: training, map and score from the detection heads alone.
    dice         what one Dice sample is: image, rows or batch (see `losses`).
    """

    layers: tuple[Positive, ...] = ()
    object_name: str = "brain"
    prompts: str | dict = "madclip"
    context: Positive = 8
    positions: Positions = ("end", "front", "middle")
    temperature: AboveZero = 1.0
    supervision: Literal["masks", "labels"] = "masks"
    upsample: Upsample = "faithful"
    pos_embed: PosEmbed = "bicubic-antialias"
    dice: Dice = "image"
    learning_rate: AboveZero = 1e-3
    epochs: Positive = 60
    batch_size: Positive = 16


class Branch(nn.Module):
    """Tokens (..., W) to unit vectors (..., C) of each head: a shared layer, a norm without weights, a layer each."""

    def __init__(self, width: int, dim: int):
        super().__init__()
        for name, out in (("fc1", width), *((layer, dim) for layer in HEADS.values())):
            self.add_module(name, nn.Sequential(nn.Linear(width, out, bias=False), nn.LeakyReLU()))

    def forward(self, tokens: Tensor, heads: Sequence[str]) -> dict[str, Tensor]:
        # The authors' instance norm gets tokens where it expects channels, so it is this norm of each token over its width.
        shared = F.layer_norm(self.fc1(tokens), tokens.shape[-1:])
        return {head: F.normalize(getattr(self, HEADS[head])(shared).float(), dim=-1) for head in heads}


class MadCLIP(Adapter):
    """Learns two branches for each tapped layer and the words around the phrases; both towers only run."""

    method = "madclip"
    Config = MadCLIPConfig
    not_in_features = frozenset(MadCLIPConfig.__dataclass_fields__) - {"layers", "pos_embed"}
    without_tokens = (
        "stages instead of blocks are tapped, on their own grids; learned context enters a bidirectional text tower",
    )
    published_key = "normal_det_adapters"

    def __init__(self, config: MadCLIPConfig, backbone: Backbone):
        layers = tuple(sorted(set(config.layers))) or quarters(backbone)
        super().__init__(replace(config, layers=layers), backbone)
        widths, dim = [backbone.vision.tap_width(layer) for layer in layers], backbone.embed_dim
        self.normal_det_adapters = nn.ModuleList(Branch(width, dim) for width in widths)
        self.abnormal_det_adapters = nn.ModuleList(Branch(width, dim) for width in widths)
        self.ctx = start_vectors(self.phrases(), config.positions, config.context, backbone.text.width)

    @classmethod
    def from_published(cls, state: Mapping, file: str) -> tuple[dict, Mapping] | None:
        """The file holds the text tower twice, which is left out; it does not tell its layers, nor what it was trained for."""
        branches = [f"{name}_det_adapters" for name in GROUPS]
        if not any(kind in state for kind in branches):
            return None
        makers = [f"prompt_maker_{name}" for name in GROUPS]
        lacking = [kind for kind in (*branches, *makers) if not isinstance(state.get(kind), Mapping)]
        if lacking:
            raise WeightsError(
                f"{file} lacks {' and '.join(lacking)}; a MadCLIP file with learned words for both groups has "
                f"{', '.join(branches + makers)}: get such a one"
            )
        start, own = "prompt_learner.", {}
        for kind in branches:
            own |= {f"{kind}.{key}": value for key, value in state[kind].items()}
        for kind in makers:
            own |= {key.removeprefix(start): value for key, value in state[kind].items() if key.startswith(start)}
        normal = {key.rpartition("_")[2]: value for key, value in own.items() if key.startswith("ctx.normal_")}
        if not normal or set(normal) - set(POSITIONS):
            raise WeightsError(f"{file} is no MadCLIP file: it has no learned words at {', '.join(POSITIONS)}")
        return {"positions": list(normal), "context": next(iter(normal.values())).shape[-2]}, own

    @property
    def normalised(self) -> bool:
        return False

    @property
    def summed_layers(self) -> int:
        return len(self.config.layers)

    def display_range(self, backbone: Backbone) -> tuple[float, float]:
        """All that two cosine differences of unit vectors with these texts can reach."""
        with torch.no_grad():
            text = self.learned_text(backbone)
        high = float((2 * self.config.temperature * (text[:, 1] - text[:, 0]).norm()).sigmoid())
        return self.summed_layers * (1 - high), self.summed_layers * high

    def phrases(self) -> Phrases:
        """The normal and the abnormal phrases."""
        return phrases_of(self.prompts, self.config.object_name)

    def text(self, backbone: Backbone) -> Tensor:
        """Unit text directions (C, 2), columns normal and abnormal."""
        return phrase_directions(backbone, self.phrases(), self.ctx, self.config.positions)

    @torch.no_grad()
    def features(self, backbone: Backbone, images: Tensor) -> Features:
        """Tokens (B, L, W) of each tapped layer, class token left out."""
        taps = backbone.encode_image(images, taps=self.config.layers, pos_embed=self.config.pos_embed).taps
        return {f"tap{layer}": tokens[:, backbone.vision.prefix :] for layer, tokens in taps.items()}

    @property
    def _mapped(self) -> str:
        """The head that maps are made from."""
        return "seg" if self.config.supervision == "masks" else "det"

    def evidence(self, backbone: Backbone, features: Features, heads: Sequence[str]) -> dict[str, list[Tensor]]:
        """Of each head and layer what speaks for normal and for abnormal, (B, L, 2): cosine differences times the temperature."""
        text, found = self.learned_text(backbone), {head: [] for head in heads}
        direction = self.config.temperature * (text[:, 1] - text[:, 0])
        for n, layer in enumerate(self.config.layers):
            tokens = features[f"tap{layer}"]
            normal, abnormal = (
                kind[n](tokens, heads) for kind in (self.normal_det_adapters, self.abnormal_det_adapters)
            )
            with full_precision(tokens.device):
                for head in heads:
                    both = [-(normal[head] @ direction), abnormal[head] @ direction]
                    found[head].append(torch.stack(both, dim=-1))
        return found

    def layer_maps(self, backbone: Backbone, evidence: list[Tensor], size: int) -> list[Tensor]:
        """Abnormal probabilities (B, S, S) of each layer, after upsampling the difference of the evidence (B, L, 2)."""
        mode, maps = "corners" if self.config.upsample == "faithful" else self.config.upsample, []
        with full_precision(evidence[0].device):
            for both in evidence:
                grid = to_grid(both[..., 1] - both[..., 0])
                maps.append(upsample(grid, size, mode, backbone.vision.cell(size, grid.shape[-1])).sigmoid())
        return maps

    def predict(self, backbone: Backbone, features: Features, size: int) -> Scores:
        """The image score is the map's highest value a layer, without masks the mean over patches and layers."""
        evidence = self.evidence(backbone, features, [self._mapped])[self._mapped]
        maps = sum(self.layer_maps(backbone, evidence, size))
        if self.config.supervision == "masks":
            return Scores(maps, maps.flatten(1).amax(dim=1) / self.summed_layers)
        return Scores(maps, self.layer_scores(evidence).mean(dim=1))

    def layer_scores(self, evidence: list[Tensor]) -> Tensor:
        """Abnormal probabilities (B, layers) of the images: means over the patches."""
        return torch.stack([(both[..., 1] - both[..., 0]).sigmoid().mean(dim=1) for both in evidence], dim=1)

    def losses(self, backbone: Backbone, features: Features, masks: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Detection, focal and Dice loss of every layer (docs/methods/madclip.md, "Training")."""
        masked = self.config.supervision == "masks"
        evidence = self.evidence(backbone, features, ["det", "seg"] if masked else ["det"])
        with full_precision(masks.device):
            wanted = (2.0 * labels - 1.0)[:, None, None] * masks.new_tensor([-1.0, 1.0])
            each = [F.logsigmoid(wanted * both).mean(dim=1).sum(dim=-1) for both in evidence["det"]]
            found = {"detection": -torch.stack(each).mean(dim=1)}
            if masked:
                maps = self.layer_maps(backbone, evidence["seg"], masks.shape[-1])
                found["focal"] = torch.stack([focal(p, masks) for p in maps])
                found["dice"] = torch.stack([dice(p, masks, self.config.dice) for p in maps])
        return found

    def objective(self, backbone: Backbone, features: Features, masks: Tensor, labels: Tensor) -> dict[str, Tensor]:
        parts = {name: each.sum() for name, each in self.losses(backbone, features, masks, labels).items()}
        return {"total": torch.stack(list(parts.values())).sum(), **parts}

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam(1e-3, betas 0.5 and 0.999), constant rate (docs/methods/madclip.md, "Training")."""
        return torch.optim.Adam(self.parameters(), lr=self.config.learning_rate, betas=(0.5, 0.999))
