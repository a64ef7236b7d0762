"""The image tower of CLIP ResNets (RN50, PMC-CLIP): stage outputs as taps, the attention pool as dense joint tokens.

Stages run as they are. Dense tokens in the joint space come from value-value attention in the pool on a stage 4 whose
stride is removed and whose later 3x3 convolutions are dilated, so that the grid is twice as fine without new weights
(docs/methods/pmcclip.md, "Dense tokens").
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UsageError
from .base import ImageFeatures
from .blocks import Edit, Mix
from .posembed import resize_positions
from .windows import window_cells

STAGES = 4


class ResNetTower:
    """Runs a ModifiedResNet; layers 1 to 4 are its stages, joint tokens exist for layer 4 only."""

    kind = "resnet"
    prefix = 0
    patch = None
    takes_prompts = False
    depth = STAGES

    def __init__(self, visual: nn.Module):
        self.visual, self.pool = visual, visual.attnpool
        self.stages = [visual.layer1, visual.layer2, visual.layer3, visual.layer4]
        self.width = visual.conv3.out_channels
        self.embed_dim = self.pool.c_proj.out_features

    def tap_width(self, layer: int) -> int:
        """Channels of stage `layer`: width * 4 * 2^(layer - 1)."""
        return self.width * 2 ** (layer + 1)

    def grid(self, size: int, layer: int | None = None) -> int:
        """Cells along one side of stage `layer` (default: of the joint tokens, which keep stage 3's resolution)."""
        side = (size + 1) // 2 // 2
        return side // 2 ** ((layer or 3) - 1)

    def cell(self, size: int, cells: int) -> float:
        """Pixels that one of `cells` cells along a side stands for: its share of the image."""
        return size / cells

    def encode(
        self,
        images: Tensor,
        taps: Sequence[int] = (),
        joint: Sequence[int] = (),
        vv_from: int | None = None,
        edit: Edit | None = None,
        pos_embed: str = "bicubic-antialias",
    ) -> ImageFeatures:
        """Images (B, 3, S, S) -> `ImageFeatures`; `vv_from` is ignored, the pool has a single attention layer.

        Raises UsageError for layers other than 1 to 4, joint layers other than 4, or token edits, which need a ViT.
        """
        if edit is not None:
            raise UsageError("a ResNet image tower has no token sequence, so visual prompts cannot be inserted")
        self._check_layers(taps)
        if any(layer != STAGES for layer in joint):
            raise UsageError(f"joint tokens exist for stage {STAGES} only on a ResNet, not for {list(joint)}")
        x = self.visual.stem(images.to(self.visual.conv1.weight.dtype))
        tapped, stage3 = {}, x
        for layer, stage in enumerate(self.stages, 1):
            if layer == STAGES:
                stage3 = x
            x = stage(x)
            if layer in taps:
                tapped[layer] = x.flatten(2).transpose(1, 2)
        embedding = self._pool_mean(x, pos_embed)
        dense = {STAGES: self._pool_dense(self._stage4_fine(stage3), pos_embed)} if joint else {}
        return ImageFeatures(embedding, embedding, tapped, dense)

    def _check_layers(self, layers: Sequence[int]) -> None:
        for layer in layers:
            if not 1 <= layer <= STAGES:
                raise UsageError(f"layer {layer} does not exist: this image tower has stages 1 to {STAGES}")

    def begin(self, images: Tensor, layer: int, pos_embed: str = "bicubic-antialias") -> Tensor:
        """Images (B, 3, S, S) -> cells (B, L, W) of stage `layer`; positions come later, in the pool."""
        self._check_layers([layer])
        x = self.visual.stem(images.to(self.visual.conv1.weight.dtype))
        for stage in self.stages[:layer]:
            x = stage(x)
        return x.flatten(2).transpose(1, 2)

    def resume(self, tokens: Tensor, layers: Sequence[int], mix: Mix) -> dict[int, Tensor]:
        """From cells (B, L, W) of the first of `layers`, which are stages, to the last: {layer: what `mix` keeps there}."""
        self._check_layers(layers)
        x, kept = tokens, {}
        for layer, following in zip(layers, (*layers[1:], layers[-1]), strict=True):
            x, kept[layer] = mix(layer, x)
            for stage in self.stages[layer:following]:
                side = math.isqrt(x.shape[1])
                x = stage(x.transpose(1, 2).unflatten(2, (side, side))).flatten(2).transpose(1, 2)
        return kept

    def _with_positions(self, x: Tensor, pos_embed: str) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1)
        return tokens + resize_positions(self.pool.positional_embedding.detach(), x.shape[-1], pos_embed)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.pool.num_heads, -1)).transpose(1, 2)

    def _pool_mean(self, x: Tensor, pos_embed: str) -> Tensor:
        """The ordinary image embedding (B, C): attention pooling with the mean token as the only query."""
        tokens, pool = self._with_positions(x, pos_embed), self.pool
        q, k, v = (
            self._split(pool.q_proj(tokens[:, :1])),
            self._split(pool.k_proj(tokens)),
            self._split(pool.v_proj(tokens)),
        )
        return pool.c_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))[:, 0]

    def _pool_dense(self, x: Tensor, pos_embed: str) -> Tensor:
        """Joint tokens (B, L, C): softmax(8 / sqrt(d) * v_hat v_hat^T) v per head, v_hat of unit length (CLIP Surgery)."""
        v = self._split(self.pool.v_proj(self._with_positions(x, pos_embed)))
        unit = F.normalize(v, dim=-1)
        mixed = F.scaled_dot_product_attention(unit, unit, v, scale=8 / v.shape[-1] ** 0.5)
        return self.pool.c_proj(mixed.transpose(1, 2).flatten(2))[:, 1:]

    def encode_windows(self, images: Tensor, scale: int, wanted: Tensor, pos_embed: str) -> Tensor:
        """Images (B, 3, S, S) -> embeddings (m, C) of the `wanted` (B, n) windows: the pool, reading only a window's cells.

        Their mean token is the query, as in `_pool_mean`. Cells are those of the finer stage 4; its convolutions have seen
        the whole image (docs/methods/pmcclip.md, "Dense tokens").
        """
        x = self.visual.stem(images.to(self.visual.conv1.weight.dtype))
        for stage in self.stages[:-1]:
            x = stage(x)
        x, pool = self._stage4_fine(x), self.pool
        cells, plain = window_cells(x.shape[-1], scale, x.device), x.flatten(2).transpose(1, 2)
        positions = resize_positions(pool.positional_embedding.detach(), x.shape[-1], pos_embed)
        tokens, means = plain + positions[1:], plain[:, cells].mean(dim=2) + positions[0]
        image, window = wanted.nonzero(as_tuple=True)

        def rows(project) -> Tensor:
            """Mean token and cells of each window, projected once for all windows that share a cell."""
            of_means, of_cells = project(means)[image, window], project(tokens)[image[:, None], cells[window]]
            return self._split(torch.cat([of_means[:, None], of_cells], dim=1))

        q, k, v = self._split(pool.q_proj(means)[image, window][:, None]), rows(pool.k_proj), rows(pool.v_proj)
        return pool.c_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))[:, 0]

    def _stage4_fine(self, x: Tensor) -> Tensor:
        for index, block in enumerate(self.visual.layer4):
            out = block.act1(block.bn1(block.conv1(x)))
            dilation = 1 if index == 0 else 2
            out = F.conv2d(out, block.conv2.weight, padding=dilation, dilation=dilation)
            out = block.bn3(block.conv3(block.act2(block.bn2(out))))
            if block.downsample is not None:
                x = block.downsample[2](block.downsample[1](x))
            x = block.act3(out + x)
        return x
