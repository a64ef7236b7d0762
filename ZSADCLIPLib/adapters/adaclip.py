"""AdaCLIP (Cao et al., arXiv 2407.15795): static and image-dependent prompts in both towers, batched over images.

Step by step in docs/methods/adaclip.md. The authors' code takes one image at a time; here image b has its own text prompts,
so a batch gives the mean of the single losses and gradients.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..backbones.base import Backbone
from ..fields import Count, Positive
from .adaclip_fusion import common_grid, fuse
from .base import AboveZero, Adapter, Dice, Features, PosEmbed, Scores, Sigma, Upsample, group_direction, quarters
from .losses import dice, focal
from .maps import blur, full_precision, to_grid, upsample


@dataclass(frozen=True)
class AdaCLIPConfig:
    """Settings of AdaCLIP; the defaults are the authors'.

    branch    towers that get prompts: VL, V or L (an image tower without a sequence of tokens allows L only).
    kind      S static, D image-dependent, SD both.
    clusters  k of the hybrid semantic fusion, 0 switches it off; seeded per image by `seed`.
    dice      what one Dice sample is; the authors' weights were trained with "rows".
    """

    layers: tuple[Positive, ...] = ()
    object_name: str = "brain"
    prompts: str | dict = "adaclip"
    depth: Positive = 4
    length: Positive = 5
    branch: Literal["VL", "V", "L"] = "VL"
    kind: Literal["S", "D", "SD"] = "SD"
    clusters: Count = 20
    sigma: Sigma = 4.0
    upsample: Upsample = "faithful"
    pos_embed: PosEmbed = "bicubic"
    seed: int = 0
    dice: Dice = "image"
    learning_rate: AboveZero = 1e-2
    epochs: Positive = 5
    batch_size: Positive = 1


class Prompts(nn.Module):
    """`depth` learned prompts of `length` rows (static part)."""

    def __init__(self, depth: int, length: int, width: int):
        super().__init__()
        self.static_prompts = nn.ParameterList(nn.Parameter(torch.randn(length, width) * 0.02) for _ in range(depth))


class Heads(nn.Module):
    """Parallel linear layers."""

    def __init__(self, widths: list[int], out: int):
        super().__init__()
        self.head = nn.ModuleList(nn.Linear(width, out) for width in widths)


def _one_grid(layers: list[Tensor]) -> bool:
    """True when all layers have the same patches, which those of a ResNet have not."""
    return len({len(one[0]) for one in layers}) == 1


class AdaCLIP(Adapter):
    """Prompts in the text and image towers, projection heads for patches and class token, semantic fusion."""

    method = "adaclip"
    Config = AdaCLIPConfig
    # The prompted pass, which most of these belong to, is no part of the features.
    not_in_features = frozenset(
        ("object_name", "prompts", "depth", "length", "branch", "clusters", "seed")
        + ("sigma", "upsample", "dice", "learning_rate", "epochs", "batch_size")
    )
    map_only: ClassVar[Mapping] = {"clusters": 0}
    unblurred: ClassVar[Mapping] = {"sigma": 0.0}
    seed_field = "seed"
    without_tokens = (
        "text prompts only: a ResNet has no token sequence for visual prompts; stages share stage 3's grid for HSF",
    )
    published_key = "clip_model.*"

    def __init__(self, config: AdaCLIPConfig, backbone: Backbone):
        branch = config.branch if backbone.vision.takes_prompts else "L"
        depth = min(config.depth, backbone.text.depth, backbone.vision.depth)
        layers = tuple(sorted(set(config.layers))) or quarters(backbone)
        super().__init__(replace(config, layers=layers, branch=branch, depth=depth), backbone)
        text_width, dim = backbone.text.width, backbone.embed_dim
        if "S" in config.kind and "L" in branch:
            self.text_prompter = Prompts(depth, config.length, text_width)
        if "S" in config.kind and "V" in branch:
            self.visual_prompter = Prompts(depth, config.length, backbone.vision.width)
        self.patch_token_layer = Heads([backbone.vision.tap_width(layer) for layer in layers], dim)
        self.cls_token_layer = Heads([dim], dim)
        if "D" in config.kind:
            if backbone.vision.takes_prompts:
                self.dynamic_visual_prompt_generator = Heads([dim] * config.length, backbone.vision.width)
            self.dynamic_text_prompt_generator = Heads([dim] * config.length, text_width)

    @classmethod
    def from_published(cls, state: Mapping, file: str) -> tuple[dict, Mapping] | None:
        """Depth, length, kind and branch are read from keys and shapes."""
        if not any(key.startswith("clip_model.") for key in state):
            return None
        state = {key.removeprefix("clip_model."): value for key, value in state.items()}
        static = {tower: sorted(k for k in state if k.startswith(f"{tower}_prompter.")) for tower in ("visual", "text")}
        generators = [k for k in state if re.fullmatch(r"dynamic_text_prompt_generator\.head\.\d+\.bias", k)]
        branch = ("V" if static["visual"] else "") + ("L" if static["text"] else "")
        prompts = static["visual"] or static["text"]
        shape = {
            "dice": "rows",
            "kind": ("S" if prompts else "") + ("D" if generators else ""),
            "branch": branch or "VL",
        }
        if prompts:
            shape |= {"depth": len(prompts), "length": len(state[prompts[0]])}
        elif generators:
            shape |= {"length": len(generators)}
        return shape, state

    @torch.no_grad()
    def features(self, backbone: Backbone, images: Tensor) -> Features:
        """The images themselves, and the embedding of the unprompted pass when prompts depend on the image."""
        if "D" not in self.config.kind:
            return {"images": images}
        return {"images": images, "plain": backbone.encode_image(images, pos_embed=self.config.pos_embed).embedding}

    def prompt_rows(self, tower: str, features: Features) -> Callable[[int], Tensor]:
        """Prompt rows (B or 1, length, W) of block i of the "visual" or "text" tower: static, dynamic or their sum."""
        static, dynamic = None, 0
        if "S" in self.config.kind:
            static = (self.visual_prompter if tower == "visual" else self.text_prompter).static_prompts
        if "D" in self.config.kind:
            heads = getattr(self, f"dynamic_{tower}_prompt_generator").head
            dynamic = torch.stack([head(features["plain"]) for head in heads], dim=1)
        return lambda i: dynamic if static is None else static[i][None] + dynamic

    def _vision(self, backbone: Backbone, features: Features):
        images, config = features["images"], self.config
        if "V" not in config.branch:
            return backbone.encode_image(images, taps=config.layers, pos_embed=config.pos_embed)
        prompts = self.prompt_rows("visual", features)

        def edit(i: int, x: Tensor) -> Tensor:
            if i >= config.depth:
                return x
            rows = prompts(i).to(x.dtype).expand(len(x), -1, -1)
            return torch.cat([x if i == 0 else x[:, : -config.length], rows], dim=1)

        return backbone.encode_image(images, taps=config.layers, edit=edit, pos_embed=config.pos_embed)

    def text(self, backbone: Backbone, features: Features) -> Tensor:
        """Unit text directions (B, C, 2), columns normal and abnormal, of each image's own prompts."""
        config, batch = self.config, len(features["images"])
        groups = self.prompts.sentences(config.object_name.replace("-", " "))
        key = ("tokens", self.prompts, config.object_name)
        if key not in backbone.cache:
            with torch.inference_mode(False):
                tokens = backbone.text.tokenize([s for group in groups for s in group])
                backbone.cache[key] = tokens.to(backbone.device)
        tokens = backbone.cache[key]

        if "L" in config.branch and config.depth > 1:
            encoded = backbone.encode_prompted(tokens, self.prompt_rows("text", features), config.depth)
        else:
            encoded = backbone.encode_text(tokens)[None]
        split = len(groups[0])
        text = torch.stack([group_direction(encoded[:, :split]), group_direction(encoded[:, split:])], dim=2)
        return text.expand(batch, -1, -1)

    def _forward(self, backbone: Backbone, features: Features):
        """(per-layer logit differences (B, L_j), unit tokens per layer, unit class vectors (B, C), text (B, C, 2))."""
        vision, text = self._vision(backbone, features), self.text(backbone, features).float()
        direction = 100 * (text[:, :, 1] - text[:, :, 0])
        logits, tokens = [], []
        for layer, head in zip(self.config.layers, self.patch_token_layer.head, strict=True):
            unit = F.normalize(head(vision.taps[layer][:, backbone.vision.prefix :]).float(), dim=-1)
            tokens.append(unit)
            with full_precision(unit.device):
                logits.append((unit @ direction[:, :, None])[..., 0])
        return logits, tokens, F.normalize(self.cls_token_layer.head[0](vision.embedding).float(), dim=-1), text

    def _score(self, backbone: Backbone, logits, tokens, class_vector: Tensor, text: Tensor) -> Tensor:
        if self.config.clusters:
            if not _one_grid(logits):
                logits, tokens = common_grid(logits), common_grid(tokens)
            mean = torch.stack(list(logits)).mean(dim=0)
            cluster = fuse(mean, torch.stack(list(tokens), dim=2), self.config.clusters, self.config.seed)
            class_vector = F.normalize(0.2 * cluster + 0.8 * class_vector, dim=-1)
        return (100 * (class_vector[:, None] @ text)[:, 0]).softmax(dim=-1)[:, 1]

    def _draw(self, logits: Tensor, size: int, backbone: Backbone) -> Tensor:
        mode = "corners" if self.config.upsample == "faithful" else self.config.upsample
        grid = to_grid(logits)
        patch = backbone.vision.cell(size, grid.shape[-1])
        return upsample(grid, size, mode, patch)

    def raw_map(self, backbone: Backbone, logits: list[Tensor], size: int) -> Tensor:
        """Map (B, S, S) from the mean of the layers' enlarged logits, before the blur."""
        if _one_grid(logits):
            return self._draw(sum(logits) / len(logits), size, backbone).sigmoid()
        return (sum(self._draw(one, size, backbone) for one in logits) / len(logits)).sigmoid()

    def predict(self, backbone: Backbone, features: Features, size: int) -> Scores:
        logits, tokens, class_vector, text = self._forward(backbone, features)
        maps = blur(self.raw_map(backbone, logits, size), self.config.sigma)
        return Scores(maps, self._score(backbone, logits, tokens, class_vector, text))

    def objective(self, backbone: Backbone, features: Features, masks: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits, tokens, class_vector, text = self._forward(backbone, features)
        over, pixel = self.config.dice, 0
        with full_precision(masks.device):
            for one in logits:
                p = self._draw(one, masks.shape[-1], backbone).sigmoid()
                pixel = pixel + focal(p, masks) + dice(p, masks, over) + dice(1 - p, 1 - masks, over)
            image = focal(self._score(backbone, logits, tokens, class_vector, text), labels.to(masks.dtype))
        return {"total": pixel + image, "pixel": pixel, "image": image}

    def optimizer(self) -> torch.optim.Optimizer:
        """AdamW(1e-2, betas 0.5 and 0.999, weight decay 0.01) (docs/methods/adaclip.md, "Training")."""
        return torch.optim.AdamW(self.parameters(), lr=self.config.learning_rate, betas=(0.5, 0.999), weight_decay=0.01)
