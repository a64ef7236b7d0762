"""The image tower of every CLIP ViT: open_clip's VisionTransformer and timm's, run by one loop of our own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from ..errors import UsageError, WeightsError
from .base import ImageFeatures
from .blocks import Edit, Mix, forward_block, parts_of
from .focus import Box, crop, rows_of, spread
from .posembed import resize_positions
from .windows import window_cells

WINDOW_TOKENS = 8192
"""Tokens of windows that go through the blocks at once; more take memory and no less time."""


class ViTTower:
    """Runs a ViT block by block.

    `visual` is open_clip's `VisionTransformer` or `TimmModel`. Layers are counted from 1. Raises WeightsError for towers
    with attention pooling, average pooling or block types that the loop does not reproduce.
    """

    kind = "vit"
    prefix = 1
    takes_prompts = True

    def __init__(self, visual: nn.Module):
        trunk = getattr(visual, "trunk", None)
        if trunk is None:
            if getattr(visual, "attn_pool", None) is not None or getattr(visual, "pool_type", "tok") != "tok":
                raise WeightsError("image towers without a class token are not supported; choose a CLIP ViT")
            self.conv, self.norm_pre = visual.conv1, visual.ln_pre
            self._given = visual.class_embedding, visual.positional_embedding
            blocks, self.norm_post, projection = visual.transformer.resblocks, visual.ln_post, visual.proj
            self.embed_dim = projection.shape[1]
            self._project = lambda x: x @ projection
        else:
            if getattr(trunk, "cls_token", None) is None or trunk.pos_embed.shape[1] == trunk.patch_embed.num_patches:
                raise WeightsError("image towers without a class token are not supported; choose a CLIP ViT")
            self.conv, self.norm_pre = trunk.patch_embed.proj, trunk.norm_pre
            self._given = trunk.cls_token, trunk.pos_embed
            blocks, self.norm_post, self._project = trunk.blocks, trunk.norm, visual.head
            self.embed_dim = visual.head.proj.out_features
        self.blocks = [parts_of(block) for block in blocks]
        self.depth, self.width = len(self.blocks), self.positions.shape[1]
        self.patch = self.conv.kernel_size[0]
        self._positions: dict[tuple, Tensor] = {}

    @property
    def class_token(self) -> Tensor:
        """The class token (W,); read anew each time, since a view would not follow the model to another device."""
        return self._given[0].reshape(-1)

    @property
    def positions(self) -> Tensor:
        """The positional embedding (1 + patches, W)."""
        return self._given[1].flatten(0, -2)

    def tap_width(self, layer: int) -> int:
        """Channels of the tokens tapped after `layer`."""
        return self.width

    def grid(self, size: int, layer: int | None = None) -> int:
        """Patches along one side of a `size` x `size` image; the remainder of the division is never seen."""
        return size // self.patch

    def cell(self, size: int, cells: int) -> float:
        """Pixels that one of `cells` cells along a side stands for: a patch, whatever the image leaves over."""
        return self.patch

    def project(self, tokens: Tensor) -> Tensor:
        """Tokens (..., W) -> the joint image-text space (..., C): final layer norm, then projection."""
        return self._project(self.norm_post(tokens))

    def _embed(self, images: Tensor, pos_embed: str, box: Box | None = None) -> Tensor:
        side = self.grid(images.shape[-1])
        if side < 1 or images.shape[-1] != images.shape[-2]:
            raise UsageError(f"images of {tuple(images.shape[-2:])} pixels: need a square of at least {self.patch}")
        key = (side, pos_embed, self.positions.device, self.positions.dtype)
        if key not in self._positions:
            with torch.inference_mode(False), torch.no_grad():
                self._positions[key] = resize_positions(self.positions.detach(), side, pos_embed)
        positions = self._positions[key]
        if box is not None:
            images, positions = crop(images, box, self.patch), positions[rows_of(box, side, positions.device)]
        patches = self.conv(images.to(self.conv.weight.dtype)).flatten(2).transpose(1, 2)
        class_token = self.class_token.to(patches.dtype).expand(len(images), 1, -1)
        return self.norm_pre(torch.cat([class_token, patches], dim=1) + positions)

    def encode(
        self,
        images: Tensor,
        taps: Sequence[int] = (),
        joint: Sequence[int] = (),
        vv_from: int | None = None,
        edit: Edit | None = None,
        pos_embed: str = "bicubic-antialias",
        box: Box | None = None,
    ) -> ImageFeatures:
        """Images (B, 3, S, S) -> `ImageFeatures`.

        `taps` and `joint` list layers from 1; `vv_from` is the first layer whose V-V attention is summed into a second
        stream that starts as a copy of the ordinary one (docs/methods/README.md, "Value-value attention"). Prompt rows
        that `edit` appends are cut from every output. The last block is computed only where its result is used. With `box`
        only its patches are computed; the others get the tokens of the nearest ones in it (not exact, see `focus`).
        """
        self._check_layers({*taps, *joint})
        x = self._embed(images, pos_embed, box)
        count, stream = x.shape[1], None
        tapped, in_joint = {}, {}
        last_vv = max(joint, default=0) if vv_from is not None else 0
        for i, parts in enumerate(self.blocks):
            layer = i + 1
            if edit is not None:
                x = edit(i, x)
            dual = vv_from is not None and vv_from <= layer <= last_vv
            if dual and stream is None:
                stream = x
            wanted = layer in taps or (layer in joint and not dual)
            only_class = layer == self.depth and not wanted
            x, value = forward_block(parts, x, rows=1 if only_class else None, vv=dual)
            if dual:
                stream = stream + value
            if layer in taps:
                tapped[layer] = x[:, :count]
            if layer in joint:
                in_joint[layer] = self.project((stream if dual else x)[:, :count])
        if box is not None:
            everywhere = spread(box, self.grid(images.shape[-1]), x.device)
            tapped, in_joint = ({k: v[:, everywhere] for k, v in features.items()} for features in (tapped, in_joint))
        class_token = x[:, 0]
        return ImageFeatures(self.project(class_token), self._project(class_token), tapped, in_joint)

    def _check_layers(self, layers: Iterable[int]) -> None:
        for layer in layers:
            if not 1 <= layer <= self.depth:
                raise UsageError(f"layer {layer} does not exist: this image tower has layers 1 to {self.depth}")

    def begin(self, images: Tensor, layer: int, pos_embed: str = "bicubic-antialias", box: Box | None = None) -> Tensor:
        """Images (B, 3, S, S) -> tokens (B, 1 + L, W) after `layer`; with `box` as in `encode`."""
        self._check_layers([layer])
        x = self._embed(images, pos_embed, box)
        for parts in self.blocks[:layer]:
            x, _ = forward_block(parts, x)
        return x if box is None else x[:, spread(box, self.grid(images.shape[-1]), x.device)]

    def resume(self, tokens: Tensor, layers: Sequence[int], mix: Mix, box: Box | None = None) -> dict[int, Tensor]:
        """From tokens (B, 1 + L, W) after the first of `layers` to the last: {layer: what `mix` keeps there}."""
        self._check_layers(layers)
        side, kept, x = math.isqrt(tokens.shape[1] - 1), {}, tokens
        if box is not None:
            x = x[:, rows_of(box, side, x.device)]
        for layer, following in zip(layers, (*layers[1:], layers[-1]), strict=True):
            x, kept[layer] = mix(layer, x)
            for parts in self.blocks[layer:following]:
                x, _ = forward_block(parts, x)
        if box is None:
            return kept
        everywhere = spread(box, side, x.device)
        return {layer: values[:, everywhere] for layer, values in kept.items()}

    def encode_windows(self, images: Tensor, scale: int, wanted: Tensor, pos_embed: str) -> Tensor:
        """Images (B, 3, S, S) -> embeddings (m, C) of the `wanted` (B, n) windows, each seen alone.

        A window is the class token with its scale x scale patches, each at its own position; all other tokens are left out
        before the first block.
        """
        x = self._embed(images, pos_embed)
        cells = window_cells(self.grid(images.shape[-1]), scale, x.device)
        rows = torch.cat([cells.new_zeros(len(cells), 1), 1 + cells], dim=1)
        step, found = max(1, WINDOW_TOKENS // rows.shape[1]), []
        for image, window in zip(*(index.split(step) for index in wanted.nonzero(as_tuple=True)), strict=True):
            tokens = x[image[:, None], rows[window]]
            for layer, parts in enumerate(self.blocks, 1):
                tokens, _ = forward_block(parts, tokens, rows=1 if layer == self.depth else None)
            found.append(self.project(tokens[:, 0]))
        return torch.cat(found)
