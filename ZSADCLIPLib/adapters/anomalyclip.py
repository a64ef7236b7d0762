"""AnomalyCLIP (Zhou et al., arXiv 2310.18961): learned, object-agnostic text prompts over V-V attention features.

Step by step in docs/methods/anomalyclip.md.
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
from ..fields import AtLeast, Positive
from .base import AboveZero, Adapter, Dice, Features, PosEmbed, Scores, Sigma, Upsample
from .losses import dice, focal
from .maps import full_precision, to_grid, upsample_blur


@dataclass(frozen=True)
class AnomalyCLIPConfig:
    """Settings of AnomalyCLIP; the defaults are the authors' scripts'.

    layers        blocks whose joint tokens make the map, summed; empty = the last.
    vv_blocks     how many of the last blocks run V-V attention; -1 = 19 of every 24, 0 = none.
    context       learned vectors before the words; `deep_depth` - 1 text blocks get `deep_length` deep prompts.
    sigma         Gaussian blur of the map in pixels.
    half_prompts  round deep prompts through float16, as the authors' code does on every device.
    """

    layers: tuple[Positive, ...] = ()
    vv_blocks: Annotated[int, AtLeast(-1)] = -1
    object_name: str = "object"
    prompts: str | dict = "anomalyclip"
    context: Positive = 12
    deep_depth: Positive = 9
    deep_length: Positive = 4
    temperature: AboveZero = 0.07
    sigma: Sigma = 4.0
    upsample: Upsample = "faithful"
    pos_embed: PosEmbed = "bilinear"
    half_prompts: bool = False
    dice: Dice = "image"
    learning_rate: AboveZero = 1e-3
    epochs: Positive = 15
    batch_size: Positive = 8


class AnomalyCLIP(Adapter):
    """Learns a normal and an abnormal context and deep text prompts; the image tower only runs, with V-V attention."""

    method = "anomalyclip"
    Config = AnomalyCLIPConfig
    not_in_features = frozenset(
        ("object_name", "prompts", "context", "deep_depth", "deep_length", "half_prompts", "temperature")
        + ("sigma", "upsample", "dice", "learning_rate", "epochs", "batch_size")
    )
    unblurred: ClassVar[Mapping] = {"sigma": 0.0}
    without_tokens = (
        "AnomalyCLIP-style: one dense tap, value-value attention in the attention pool on an undilated-stride stage 4; "
        "no DPAM; learned prompts enter a bidirectional text tower",
    )
    published_key = "prompt_learner"

    def __init__(self, config: AnomalyCLIPConfig, backbone: Backbone):
        depth, width = backbone.vision.depth, backbone.text.width
        config = replace(
            config,
            layers=config.layers or (depth,),
            vv_blocks=round(depth * 19 / 24) if config.vv_blocks < 0 else config.vv_blocks,
            deep_depth=min(config.deep_depth, backbone.text.depth),
        )
        if config.deep_length > config.context and config.deep_depth > 1:
            raise UsageError(
                f"deep_length {config.deep_length} exceeds the {config.context} context vectors it overwrites"
            )
        super().__init__(config, backbone)
        self.ctx_pos = nn.Parameter(torch.randn(1, 1, config.context, width) * 0.02)
        self.ctx_neg = nn.Parameter(torch.randn(1, 1, config.context, width) * 0.02)
        self.compound_prompts_text = nn.ParameterList(
            nn.Parameter(torch.randn(config.deep_length, width) * 0.02) for _ in range(config.deep_depth - 1)
        )

    @classmethod
    def from_published(cls, state: Mapping, file: str) -> tuple[dict, Mapping] | None:
        if cls.published_key not in state:
            return None
        state = state[cls.published_key]
        learned = {k: v for k, v in state.items() if k.startswith(("ctx_", "compound_prompts_text."))}
        # The projections are in every published file and were never used by the authors' code.
        others = ("token_prefix_", "token_suffix_", "tokenized_prompts_", "compound_prompt_projections.")
        unknown = sorted(k for k in set(state) - set(learned) if not k.startswith(others))
        if unknown or not {"ctx_pos", "ctx_neg"} <= set(learned):
            raise WeightsError(
                f"{file} is no AnomalyCLIP file: unknown keys {unknown[:6]}, known {sorted(learned)[:3]}"
            )
        deep = [v for k, v in sorted(learned.items()) if k.startswith("compound")]
        shape = {"context": learned["ctx_pos"].shape[-2], "deep_depth": len(deep) + 1, "half_prompts": True}
        return shape | ({"deep_length": len(deep[0])} if deep else {}), learned

    def check_published(self, backbone: Backbone, state: Mapping, file: str) -> None:
        state, tokens = state[self.published_key], self._tokens(backbone).cpu()
        for row, name in enumerate(("pos", "neg")):
            ids, prefix = state.get(f"tokenized_prompts_{name}"), state.get(f"token_prefix_{name}")
            if ids is not None and not (ids.reshape(-1) == tokens[row]).all():
                raise WeightsError(f"{file} was trained with other prompt words than {backbone.name} makes of 'object'")
            if prefix is not None:
                own = backbone.text.token_vectors(tokens[row, :1].to(backbone.device)).float().cpu()
                if (own - prefix.reshape(own.shape).float()).abs().max() > 1e-2:
                    raise WeightsError(
                        f"{file} carries other CLIP token vectors than {backbone.name}; load the right backbone"
                    )

    @property
    def summed_layers(self) -> int:
        return len(self.config.layers)

    def display_range(self, backbone: Backbone) -> tuple[float, float]:
        return 0.0, float(self.summed_layers)

    def _tokens(self, backbone: Backbone) -> Tensor:
        groups = self.prompts.sentences(self.config.object_name)
        if any(len(group) != 1 for group in groups):
            raise UsageError(
                "AnomalyCLIP learns its context and takes one normal and one abnormal sentence; the prompt set "
                f"{self.prompts.label!r} has {len(groups[0])} and {len(groups[1])}"
            )
        key = ("context tokens", self.prompts, self.config.object_name, self.config.context)
        if key not in backbone.cache:
            with torch.inference_mode(False):
                rows = [backbone.text.with_context(group[0], self.config.context) for group in groups]
                backbone.cache[key] = torch.cat(rows).to(backbone.device)
        return backbone.cache[key]

    def text(self, backbone: Backbone) -> Tensor:
        """Unit text features (2, C), rows normal and abnormal."""
        tokens, stop = self._tokens(backbone), 1 + self.config.context
        vectors = backbone.text.token_vectors(tokens).float()
        context = torch.cat([self.ctx_pos[0], self.ctx_neg[0]])
        vectors = torch.cat([vectors[:, :1], context, vectors[:, stop:]], dim=1)

        def edit(i: int, x: Tensor) -> Tensor:
            if not 0 < i < self.config.deep_depth:
                return x
            prompt = self.compound_prompts_text[i - 1]
            prompt = prompt.half().float() if self.config.half_prompts else prompt
            rows = prompt.to(x.dtype).expand(len(x), -1, -1)
            return torch.cat([x[:, :1], rows, x[:, 1 + self.config.deep_length :]], dim=1)

        return F.normalize(backbone.encode_text(tokens, edit=edit, embeddings=vectors), dim=-1)

    @torch.no_grad()
    def features(self, backbone: Backbone, images: Tensor) -> Features:
        start = backbone.vision.depth - self.config.vv_blocks + 1 if self.config.vv_blocks else None
        layers = self.config.layers
        features = backbone.encode_image(images, joint=layers, vv_from=start, pos_embed=self.config.pos_embed)
        tokens = {f"joint{k}": v[:, backbone.vision.prefix :] for k, v in features.joint.items()}
        return {"embedding": features.raw_embedding, **tokens}

    def patch_probabilities(self, text: Tensor, features: Features) -> list[Tensor]:
        """Abnormal probability (B, g, g) of every patch, for each layer."""
        direction = (text[1] - text[0]).float() / self.config.temperature
        return [
            to_grid((F.normalize(features[f"joint{layer}"].float(), dim=-1) @ direction).sigmoid())
            for layer in self.config.layers
        ]

    def _draw(self, grid: Tensor, size: int, backbone: Backbone, sigma: float = 0.0) -> Tensor:
        mode = "half-pixel" if self.config.upsample == "faithful" else self.config.upsample
        patch = backbone.vision.cell(size, grid.shape[-1])
        return upsample_blur(grid, size, mode, sigma, patch)

    def _image_logits(self, text: Tensor, features: Features) -> Tensor:
        return F.normalize(features["embedding"].float(), dim=-1) @ text.float().T / self.config.temperature

    def raw_map(self, backbone: Backbone, text: Tensor, features: Features, size: int, sigma: float = 0.0) -> Tensor:
        """Sum over layers of the enlarged probabilities (B, S, S), with a blur of `sigma` in the same products."""
        return self._draw(sum(self.patch_probabilities(text, features)), size, backbone, sigma)

    def predict(self, backbone: Backbone, features: Features, size: int) -> Scores:
        text = self.learned_text(backbone)
        maps = self.raw_map(backbone, text, features, size, self.config.sigma)
        return Scores(maps, self._image_logits(text, features).softmax(dim=-1)[:, 1])

    def objective(self, backbone: Backbone, features: Features, masks: Tensor, labels: Tensor) -> dict[str, Tensor]:
        text, pixel, over = self.text(backbone), 0, self.config.dice
        with full_precision(masks.device):
            for grid in self.patch_probabilities(text, features):
                p = self._draw(grid, masks.shape[-1], backbone)
                pixel = pixel + focal(p, masks) + dice(p, masks, over) + dice(1 - p, 1 - masks, over)
            image = F.cross_entropy(self._image_logits(text, features), labels)
        return {"total": 4 * pixel + image, "pixel": 4 * pixel, "image": image}

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam(1e-3, betas 0.5 and 0.999) (docs/methods/anomalyclip.md, "Training")."""
        return torch.optim.Adam(self.parameters(), lr=self.config.learning_rate, betas=(0.5, 0.999))
