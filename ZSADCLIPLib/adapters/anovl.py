"""AnoVL (Deng et al., arXiv 2308.15939): training-free V-V features against many prompts, with test-time adaptation.

Step by step in docs/methods/anovl.md. Probabilities are taken at temperature 1 and lie near 0.5; only their order and small
differences mean something.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones.base import Backbone
from ..fields import Count
from .anovl_adaptation import Draws, adapt, seeded_draws
from .anovl_views import views
from .base import Adapter, Features, PosEmbed, Scores, Upsample, group_direction, sentence_embeddings
from .maps import to_grid, upsample

TEXTURES = ("carpet", "leather", "grid", "tile", "wood")
"""Object names for which the authors use their texture templates."""

ALIASES = {"macaroni1": "macaroni", "macaroni2": "macaroni"}


@dataclass(frozen=True)
class AnoVLConfig:
    """Settings of AnoVL; the defaults are the authors' MVTec script's.

    vv_blocks    how many of the last blocks run V-V attention (all of a 12-block ViT).
    score_views  all: mean over 22 augmented views; identity: the image itself, 22 times cheaper.
    steps        gradient steps of test-time adaptation per image, 0 = none.
    optimizer    fresh: every image starts anew, so its result depends on nothing else; persistent: one optimiser lives on
                 through the images, as in the authors' code (order-dependent, image by image).
    seed         of the adapter's start and noise, the same for every image.
    """

    object_name: str = "brain"
    prompts: str | dict = "anovl"
    vv_blocks: Count = 12
    score_views: Literal["all", "identity"] = "all"
    steps: Count = 5
    optimizer: Literal["fresh", "persistent"] = "fresh"
    seed: int = 0
    upsample: Upsample = "faithful"
    pos_embed: PosEmbed = "bicubic-antialias"


class AnoVL(Adapter):
    """Needs no training; owns no parameters."""

    method = "anovl"
    trainable = False
    Config = AnoVLConfig
    not_in_features = frozenset(("object_name", "prompts", "steps", "optimizer", "seed", "upsample"))
    map_only: ClassVar[Mapping] = {"score_views": "identity"}
    seed_field = "seed"
    resample = "bilinear"
    without_tokens = (
        "value-value attention in the attention pool, the only attention layer, on a stage 4 without stride",
    )

    def __init__(self, config: AnoVLConfig, backbone: Backbone):
        name = ALIASES.get(config.object_name, config.object_name)
        prompts = "anovl-textures" if config.prompts == "anovl" and name in TEXTURES else config.prompts
        vv_blocks = min(config.vv_blocks, backbone.vision.depth)
        super().__init__(replace(config, vv_blocks=vv_blocks, object_name=name, prompts=prompts), backbone)
        self.draws: Callable[[int], Draws] | None = None
        self.losses: list[Tensor] = []
        self._optimizer_state: dict | None = None
        self._images_seen = 0

    def display_range(self, backbone: Backbone) -> tuple[float, float]:
        """Half of what a cosine difference can reach at most, |abnormal - normal|, on both sides of 0.5."""
        text = self.text(backbone)
        reach = float((0.5 * (text[:, 1] - text[:, 0]).norm()).sigmoid())
        return 1 - reach, reach

    def score_range(self, backbone: Backbone) -> tuple[float, float]:
        """All that a cosine difference can reach; the colour scale shows half of it."""
        low, high = self.display_range(backbone)
        return 2 * low - 0.5, 2 * high - 0.5

    def text(self, backbone: Backbone) -> Tensor:
        """Unit text directions (C, 2), columns normal and abnormal: means of the raw sentence embeddings."""
        groups = sentence_embeddings(backbone, self.prompts, self.config.object_name)
        return torch.stack([group_direction(group, unit_first=False) for group in groups], dim=1)

    @torch.no_grad()
    def features(self, backbone: Backbone, images: Tensor) -> Features:
        """Joint V-V tokens of the images, and the class embeddings of their views."""
        depth, pos_embed = backbone.vision.depth, self.config.pos_embed
        start = depth - self.config.vv_blocks + 1 if self.config.vv_blocks else None
        first = backbone.encode_image(images, joint=(depth,), vv_from=start, pos_embed=pos_embed)
        embeddings = [first.embedding]
        if self.config.score_views == "all":
            # Turned and shifted views leave the box of fast mode.
            whole = backbone.focused(None)
            embeddings += [whole.encode_image(view, pos_embed=pos_embed).embedding for view in views(images)[1:]]
        return {"joint": first.joint[depth][:, backbone.vision.prefix :], "views": torch.stack(embeddings, dim=1)}

    def view_probabilities(self, backbone: Backbone, features: Features) -> Tensor:
        """Abnormal probability (B, views) of every view."""
        text = self.text(backbone)
        return (F.normalize(features["views"], dim=-1) @ (text[:, 1] - text[:, 0])).sigmoid()

    def _adapted(self, backbone: Backbone, tokens: Tensor) -> Tensor:
        """Tokens (B, L, C) after test-time adaptation."""
        groups = sentence_embeddings(backbone, self.prompts, self.config.object_name)
        anchors, text = F.normalize(torch.cat(groups), dim=-1), self.text(backbone)
        first = self._images_seen
        self._images_seen += len(tokens)
        draw = self.draws or seeded_draws(
            self.config.seed, self.config.steps, tokens.shape[1:], len(anchors), tokens.device
        )
        each = [draw(first + i) for i in range(len(tokens))]
        if self.config.optimizer == "fresh":
            adapted, self.losses, _ = adapt(tokens, anchors, text, each)
            return adapted
        out, self.losses = [], []
        for one, draws in zip(tokens, each, strict=True):
            adapted, losses, self._optimizer_state = adapt(one[None], anchors, text, [draws], self._optimizer_state)
            self.losses += losses
            out.append(adapted)
        return torch.cat(out)

    def predict(self, backbone: Backbone, features: Features, size: int) -> Scores:
        tokens, text = features["joint"], self.text(backbone)
        if self.config.steps:
            tokens = self._adapted(backbone, tokens)
        grid = to_grid((F.normalize(tokens, dim=-1) @ (text[:, 1] - text[:, 0])).sigmoid())
        smooth = F.avg_pool2d(F.pad(grid[:, None], (1, 1, 1, 1), mode="replicate"), 3, stride=1)[:, 0]
        mode = "corners" if self.config.upsample == "faithful" else self.config.upsample
        patch = backbone.vision.cell(size, smooth.shape[-1])
        maps = upsample(smooth, size, mode, patch)
        return Scores(maps, self.view_probabilities(backbone, features).mean(dim=1))
