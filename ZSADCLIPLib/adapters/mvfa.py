"""MVFA-AD (Huang et al., arXiv 2403.12570): pairs of bottlenecks inside the image tower, whose middles meet the texts.

Step by step in docs/methods/mvfa.md. The map is the sum over layers of sigmoid(upsampled 100 * cosine difference), with normal
references the mean of that and the distance to their memory, each scaled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backbones.base import Backbone
from ..errors import WeightsError
from ..fields import Positive
from .base import (
    AboveZero,
    Adapter,
    Dice,
    Features,
    PosEmbed,
    Scores,
    Upsample,
    group_direction,
    quarters,
    sentence_embeddings,
)
from .losses import dice, focal
from .maps import full_precision, to_grid, upsample
from .support import Memory, Shots, leave_one_out, minmax, nearest_distance, versions_of

STREAM, EACH = 0.8, 0.1
"""Shares of the next block's input: the stream as it was, and what each of the two bottlenecks gives."""

Kept = dict[int, Tensor]
"""{layer: middles (B, prefix + L, 2 C)}: first those of the segmentation bottleneck, then those of the detection one."""


@dataclass(frozen=True)
class MVFAConfig:
    """Settings of MVFA-AD; the defaults are the authors', for training on other domains.

    layers       blocks or stages, from 1, after which the bottlenecks sit; empty = the quarters of the depth.
    temperature  factor of the cosine, a constant in the authors' code.
    normalise    what the network sees: values in 0..1 (none), or CLIP's mean and standard deviation (clip).
    supervision  masks, or labels: training, map and few-shot score from the detection bottlenecks alone.
    references   the most reference slices that are remembered; of more these many, evenly spaced.
    versions     remember each in its eleven versions (`versions_of`), else as it is.
    class_rows   keep the class token in the memory.
    scaling      of the two maps that are averaged: by constants (support), or over the slices scored at once (batch).
    dice         what one Dice sample is: image, rows or batch (see `losses`).
    """

    layers: tuple[Positive, ...] = ()
    object_name: str = "brain"
    prompts: str | dict = "vand"
    temperature: AboveZero = 100.0
    normalise: Literal["none", "clip"] = "none"
    supervision: Literal["masks", "labels"] = "masks"
    upsample: Upsample = "faithful"
    pos_embed: PosEmbed = "bicubic-antialias"
    references: Positive = 16
    versions: bool = True
    class_rows: bool = True
    scaling: Literal["support", "batch"] = "support"
    dice: Dice = "image"
    learning_rate: AboveZero = 1e-4
    epochs: Positive = 50
    batch_size: Positive = 1


class Bottleneck(nn.Module):
    """Tokens (..., W) to the space of the texts (..., C) and back; linear without bias, leaky ReLU after both."""

    def __init__(self, width: int, dim: int):
        super().__init__()
        self.fc1 = nn.Sequential(nn.Linear(width, dim, bias=False), nn.LeakyReLU())
        self.fc2 = nn.Sequential(nn.Linear(dim, width, bias=False), nn.LeakyReLU())


class MVFA(Adapter):
    """Zero-shot with bottlenecks trained on other images, few-shot with ones trained on the support; `remember` adds a memory."""

    method = "mvfa"
    Config = MVFAConfig
    not_in_features = frozenset(
        ("object_name", "prompts", "temperature", "supervision", "upsample", "references", "versions", "class_rows")
        + ("scaling", "dice", "learning_rate", "epochs", "batch_size")
    )
    without_tokens = ("stages instead of blocks get the bottlenecks, on their cells; there is no class token",)
    published_key = "seg_adapters"

    def __init__(self, config: MVFAConfig, backbone: Backbone):
        layers = tuple(sorted(set(config.layers))) or quarters(backbone)
        super().__init__(replace(config, layers=layers), backbone)
        widths, dim = [backbone.vision.tap_width(layer) for layer in layers], backbone.embed_dim
        self.seg_adapters = nn.ModuleList(Bottleneck(width, dim) for width in widths)
        self.det_adapters = nn.ModuleList(Bottleneck(width, dim) for width in widths)
        self._shots, self._memory = Shots(config.references), None

    @classmethod
    def from_published(cls, state: Mapping, file: str) -> tuple[dict, Mapping] | None:
        """The file does not tell its layers: four are those of the quarters, others need the setting `layers`."""
        kinds = ("seg_adapters", "det_adapters")
        if not any(kind in state for kind in kinds):
            return None
        for kind in kinds:
            if not isinstance(state.get(kind), Mapping):
                raise WeightsError(f"{file} lacks {kind}; an MVFA-AD file has {' and '.join(kinds)}: get it again")
        return {}, {f"{kind}.{key}": value for kind in kinds for key, value in state[kind].items()}

    @property
    def normalised(self) -> bool:
        return self.config.normalise == "clip"

    @property
    def summed_layers(self) -> int:
        return 1 if len(self._shots) else len(self.config.layers)

    def display_range(self, backbone: Backbone) -> tuple[float, float]:
        return 0.0, float(self.summed_layers)

    def score_range(self, backbone: Backbone) -> tuple[float, float]:
        """With constants the distance may leave what the support slices have among themselves."""
        if not len(self._shots) or self.config.scaling == "batch":
            return self.display_range(backbone)
        memory, most = self.memory(backbone), 2 * len(self.config.layers)
        span = memory.high - memory.low
        return -0.5 * memory.low / span, 0.5 + 0.5 * (most - memory.low) / span

    def text(self, backbone: Backbone) -> Tensor:
        """Unit text directions (C, 2), columns normal and abnormal."""
        groups = sentence_embeddings(backbone, self.prompts, self.config.object_name)
        return torch.stack([group_direction(group) for group in groups], dim=1)

    @torch.no_grad()
    def features(self, backbone: Backbone, images: Tensor) -> Features:
        """Tokens after the first bottleneck's layer: all that comes later depends on what is learned."""
        return {"tokens": backbone.begin(images, self.config.layers[0], self.config.pos_embed)}

    def middles(self, backbone: Backbone, features: Features) -> Kept:
        """What both bottlenecks of every layer have in their middles, the later ones on a stream that the earlier changed."""
        layers, detached = self.config.layers, self.config.supervision == "labels"

        def mix(layer: int, x: Tensor) -> tuple[Tensor, Tensor]:
            n = layers.index(layer)
            seg, det = self.seg_adapters[n], self.det_adapters[n]
            # Masks alone teach the segmentation bottlenecks; without any, these act and stay as they are.
            down, up = (
                [w.detach() if detached else w, getattr(det, name)[0].weight]
                for name in ("fc1", "fc2")
                for w in [getattr(seg, name)[0].weight]
            )
            middle = F.leaky_relu(F.linear(x, torch.cat(down)))
            if layer == layers[-1]:  # what follows is not looked at
                return x, middle
            both = [F.leaky_relu(F.linear(m, w)) for m, w in zip(middle.chunk(2, dim=-1), up, strict=True)]
            return STREAM * x + EACH * both[0] + EACH * both[1], middle

        return backbone.resume(features["tokens"], layers, mix)

    def _head(self, middle: Tensor, kind: str) -> Tensor:
        """Unit tokens (B, prefix + L, C) of the "seg" or "det" bottleneck in float32."""
        return F.normalize(middle.chunk(2, dim=-1)[kind == "det"].float(), dim=-1)

    @property
    def _mapped(self) -> str:
        """The bottleneck that maps are made from."""
        return "seg" if self.config.supervision == "masks" else "det"

    def _draw(self, values: Tensor, size: int, backbone: Backbone) -> Tensor:
        mode = "corners" if self.config.upsample == "faithful" else self.config.upsample
        grid = to_grid(values)
        return upsample(grid, size, mode, backbone.vision.cell(size, grid.shape[-1]))

    def logits(self, backbone: Backbone, kept: Kept, kind: str) -> list[Tensor]:
        """Logit differences (B, L) of every layer's patches: temperature times the cosine with abnormal minus normal."""
        text, prefix = self.text(backbone), backbone.vision.prefix
        direction = self.config.temperature * (text[:, 1] - text[:, 0])
        with full_precision(text.device):
            return [self._head(kept[layer], kind)[:, prefix:] @ direction for layer in self.config.layers]

    def layer_maps(self, backbone: Backbone, kept: Kept, size: int, kind: str = "") -> list[Tensor]:
        """Abnormal probabilities (B, S, S) of each layer, after upsampling the logits."""
        logits = self.logits(backbone, kept, kind or self._mapped)
        with full_precision(logits[0].device):
            return [self._draw(each, size, backbone).sigmoid() for each in logits]

    def layer_scores(self, backbone: Backbone, kept: Kept) -> Tensor:
        """Abnormal probabilities (B, layers) of the images: the mean over the patches of the detection bottlenecks."""
        return torch.stack([each.sigmoid().mean(dim=1) for each in self.logits(backbone, kept, "det")], dim=1)

    def distance_map(self, backbone: Backbone, kept: Kept, memory: Mapping[int, Tensor], size: int) -> Tensor:
        """Sum over layers of the distance to the nearest row of a memory, (B, S, S), range 0..2 a layer."""
        total, prefix = 0, backbone.vision.prefix
        for layer, rows in memory.items():
            tokens = self._head(kept[layer], self._mapped)[:, prefix:]
            total = total + self._draw(nearest_distance(tokens, rows), size, backbone)
        return total

    @torch.no_grad()
    def remember(self, backbone: Backbone, images: Tensor) -> None:
        """Add normal images (k, 3, S, S); the memory is built from all of them when it is first used."""
        self._shots.add(images)
        self._memory = None

    @torch.no_grad()
    def memory(self, backbone: Backbone) -> Memory:
        """The memory of the remembered images, with the constants that scale distances to it.

        These are the lowest and highest distance of a support slice from the other ones (docs/methods/mvfa.md, "Few-shot").
        """
        if self._memory is None:
            self._memory = self._build(backbone.focused(None), self._shots.images().to(backbone.device))
        return self._memory

    def _build(self, backbone: Backbone, images: Tensor) -> Memory:
        every, shots = versions_of(images) if self.config.versions else images, len(images)
        parts = [self.middles(backbone, self.features(backbone, part)) for part in every.split(8)]
        kept = {layer: torch.cat([part[layer] for part in parts]) for layer in self.config.layers}
        first = 0 if self.config.class_rows else backbone.vision.prefix
        rows = {layer: self._head(middle, self._mapped)[:, first:] for layer, middle in kept.items()}
        low, high = [], []
        if self.config.scaling == "support":
            for shot, others in enumerate(leave_one_out(len(every) // shots, shots)):
                one = {layer: middle[shot : shot + 1] for layer, middle in kept.items()}
                rest = {layer: each[others.to(each.device)].flatten(0, 1) for layer, each in rows.items()}
                found = self.distance_map(backbone, one, rest, images.shape[-1])
                low, high = [*low, float(found.min())], [*high, float(found.max())]
        low, high = min(low, default=0.0), max(high, default=1.0)
        flat = {layer: each.flatten(0, 1) for layer, each in rows.items()}
        return Memory(flat, low, high if high > low else low + 1.0)  # equal slices have no distance to scale by

    def fuse(self, memory: Memory, text: Tensor, distance: Tensor) -> Tensor:
        """Mean of a sum over layers of probabilities and one of distances, both scaled as the setting `scaling` says."""
        if self.config.scaling == "batch":
            return 0.5 * minmax(text) + 0.5 * minmax(distance)
        scaled = (distance - memory.low) / (memory.high - memory.low)
        return 0.5 * text / len(self.config.layers) + 0.5 * scaled

    def predict(self, backbone: Backbone, features: Features, size: int) -> Scores:
        kept = self.middles(backbone, features)
        maps, scores = sum(self.layer_maps(backbone, kept, size)), self.layer_scores(backbone, kept)
        if not len(self._shots):
            return Scores(maps, scores.mean(dim=1))
        memory = self.memory(backbone)
        distance = self.distance_map(backbone, kept, memory.rows, size)
        fused = self.fuse(memory, maps, distance)
        if self.config.supervision == "masks":
            return Scores(fused, fused.flatten(1).amax(dim=1))
        return Scores(fused, self.fuse(memory, scores.sum(dim=1), distance.flatten(1).mean(dim=1)))

    def losses(self, backbone: Backbone, features: Features, masks: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Focal, Dice and detection loss of every layer; the last is a cross-entropy of sigmoid(probability), as published."""
        kept = self.middles(backbone, features)
        with full_precision(masks.device):
            scores = self.layer_scores(backbone, kept)
            each = F.binary_cross_entropy_with_logits(
                scores, labels[:, None].expand_as(scores).float(), reduction="none"
            )
            found = {"detection": each.mean(dim=0)}
            if self.config.supervision == "masks":
                maps = self.layer_maps(backbone, kept, masks.shape[-1])
                found["focal"] = torch.stack([focal(p, masks) for p in maps])
                found["dice"] = torch.stack([dice(p, masks, self.config.dice) for p in maps])
        return found

    def objective(self, backbone: Backbone, features: Features, masks: Tensor, labels: Tensor) -> dict[str, Tensor]:
        parts = {name: each.sum() for name, each in self.losses(backbone, features, masks, labels).items()}
        return {"total": torch.stack(list(parts.values())).sum(), **parts}

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam(1e-4, betas 0.5 and 0.999), constant rate (docs/methods/mvfa.md, "Training")."""
        return torch.optim.Adam(self.parameters(), lr=self.config.learning_rate, betas=(0.5, 0.999))
