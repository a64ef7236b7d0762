"""One transformer block, taken apart so that our own loops can tap, edit and re-route attention.

CLIP towers of open_clip, ViTs of timm and the text towers share the same pre-norm block; `BlockParts` names its pieces
without copying weights, so the modules themselves are never modified.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import WeightsError


@dataclass(frozen=True)
class BlockParts:
    """References to the modules and weights of one pre-norm block of width W with `heads` heads.

    `qkv_weight` (3W, W) and `qkv_bias` (3W,) hold query, key and value in this order.
    """

    norm1: nn.Module
    qkv_weight: Tensor
    qkv_bias: Tensor | None
    out: nn.Module
    norm2: nn.Module
    up: nn.Module
    activation: nn.Module
    down: nn.Module
    heads: int


def parts_of(block: nn.Module) -> BlockParts:
    """The pieces of an open_clip or timm block; raises WeightsError for block types with extra machinery."""
    is_open_clip = type(block).__name__ in ("ResidualAttentionBlock", "PlainBlock")
    if is_open_clip and isinstance(getattr(block, "ls_1", nn.Identity()), nn.Identity):
        attn = block.attn
        if attn.in_proj_weight is not None:
            mlp = (block.mlp.c_fc, block.mlp.gelu, block.mlp.c_proj)
            attention = (attn.in_proj_weight, attn.in_proj_bias, attn.out_proj)
            return BlockParts(block.ln_1, *attention, block.ln_2, *mlp, attn.num_heads)
    if hasattr(block, "norm1") and hasattr(getattr(block, "attn", None), "qkv"):
        plain = all(isinstance(getattr(block, name, nn.Identity()), nn.Identity) for name in ("ls1", "ls2"))
        plain = plain and isinstance(getattr(block.mlp, "norm", nn.Identity()), nn.Identity)
        attn = block.attn
        if plain and isinstance(attn.q_norm, nn.Identity) and isinstance(attn.k_norm, nn.Identity):
            mlp = (block.mlp.fc1, block.mlp.act, block.mlp.fc2)
            return BlockParts(block.norm1, attn.qkv.weight, attn.qkv.bias, attn.proj, block.norm2, *mlp, attn.num_heads)
    raise WeightsError(
        f"the transformer block {type(block).__name__} is not a plain pre-norm block (layer scale, query norm or rotary "
        "positions); choose a CLIP ViT such as ViT-L-14-336, ViT-B-16-plus-240 or BiomedCLIP"
    )


def _heads(x: Tensor, heads: int) -> Tensor:
    batch, tokens, width = x.shape
    return x.view(batch, tokens, heads, width // heads).transpose(1, 2)


def _pick(x: Tensor, rows: int | Tensor | None) -> Tensor:
    return x if rows is None else x[:, rows] if isinstance(rows, Tensor) else x[:, :rows]


def attend(
    parts: BlockParts,
    h: Tensor,
    rows: int | Tensor | None = None,
    vv: bool = False,
    causal: bool = False,
    sees: Tensor | None = None,
) -> tuple[Tensor | None, Tensor | None]:
    """Attention before the output projection, the heads side by side: (ordinary, V-V).

    `h` (B, N, W) is the normalised stream. `rows` limits the ordinary queries to the first rows (0 skips the ordinary
    path, None takes all) or to those of an index. With `vv` the value-value attention softmax(v v^T / sqrt(d)) v is
    returned beside it (CLIP Surgery; anomalyclip and anovl use it). `sees` (N, N) bool says which columns a row attends to.
    """
    width = h.shape[-1]
    weight, bias = parts.qkv_weight, parts.qkv_bias
    if rows is None:
        q, k, v = (_heads(x, parts.heads) for x in linear(h, weight, bias).chunk(3, dim=-1))
    else:
        tail_bias = None if bias is None else bias[width:]
        k, v = (_heads(x, parts.heads) for x in linear(h, weight[width:], tail_bias).chunk(2, dim=-1))
        q = _heads(linear(_pick(h, rows), weight[:width], None if bias is None else bias[:width]), parts.heads)
    ordinary = None
    if isinstance(rows, Tensor) or rows != 0:
        sees = sees[rows] if isinstance(rows, Tensor) and sees is not None else sees
        ordinary = _merge(F.scaled_dot_product_attention(q, k, v, attn_mask=sees, is_causal=causal))
    return ordinary, _merge(F.scaled_dot_product_attention(v, v, v)) if vv else None


def _merge(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


def forward_block(
    parts: BlockParts,
    x: Tensor,
    rows: int | Tensor | None = None,
    vv: bool = False,
    causal: bool = False,
    sees: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """One block: the ordinary stream after it (only its first `rows` rows if given) and the V-V attention output."""
    out, up, down = parts.out, parts.up, parts.down
    ordinary, value = attend(parts, parts.norm1(x), rows, vv, causal, sees)
    if value is not None:
        value = linear(value, out.weight, out.bias)
    if ordinary is None:
        return x[:, :0], value
    x = linear(ordinary, out.weight, out.bias, plus=_pick(x, rows))
    hidden = linear(parts.norm2(x), up.weight, up.bias, activation=parts.activation)
    return linear(hidden, down.weight, down.bias, plus=x), value


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, activation: nn.Module | None = None, plus: Tensor | None = None
) -> Tensor:
    """A linear layer of x (B, N, W) with an activation after it, or with `plus` added, of the shape of the result.

    In bfloat16 on a CPU, where no gradient is wanted, all of it is one pass of oneDNN that rounds once at its end.
    """
    fused = _onednn() if x.dtype is weight.dtype is torch.bfloat16 and x.device.type == "cpu" else None
    if fused is None or torch.is_grad_enabled() or not x.numel():
        x = F.linear(x, weight, bias)
        return x + plus if plus is not None else x if activation is None else _activate(activation, x)
    if plus is not None:
        return fused.binary(x, plus, weight, bias, "add")
    if _is_exact_gelu(activation):
        return fused(x, weight, bias, "gelu", [], "none")
    x = fused(x, weight, bias, "none", [], "")
    return x if activation is None else _activate(activation, x)


@cache
def _onednn():
    """oneDNN's linear layer with what follows it, as torch.compile calls it (torch/_inductor/fx_passes/mkldnn_fusion.py).

    None where torch was built without it or the processor computes no bfloat16. `F.linear` asks oneDNN, too, but copies the
    bias into the result first and leaves activation and sum to further passes: an eighth of the time of a tower.
    """
    try:
        return torch.ops.mkldnn._linear_pointwise if torch.ops.mkldnn._is_mkldnn_bf16_supported() else None
    except (AttributeError, RuntimeError):
        return None


def _is_exact_gelu(activation: nn.Module | None) -> bool:
    return type(activation) is nn.GELU and activation.approximate == "none"


def _activate(activation: nn.Module, hidden: Tensor) -> Tensor:
    """The activation of a tensor that nobody else needs: the same bits, without new memory where no gradient is wanted."""
    if not torch.is_grad_enabled():
        if _is_exact_gelu(activation):
            return torch.ops.aten.gelu_(hidden)
        if type(activation).__name__ == "QuickGELU":
            return torch.mul(hidden, 1.702).sigmoid_().mul_(hidden)
    return activation(hidden)


Edit = Callable[[int, Tensor], Tensor]
"""`edit(i, tokens (B, N, W)) -> tokens`, called before block i (0-based): insert, replace or extend prompt rows."""

Mix = Callable[[int, Tensor], tuple[Tensor, Tensor]]
"""`mix(layer, tokens (B, N, W)) -> (tokens for the next layer, what is kept (B, N, ...))`, called after a layer (from 1)."""
