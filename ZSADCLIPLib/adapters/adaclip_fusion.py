"""AdaCLIP's hybrid semantic fusion: the most abnormal patches, clustered, stand beside the class token.

Step by step in docs/methods/adaclip.md, "Slice score".
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .clustering import kmeans_labels
from .maps import to_grid

PATCHES_PER_CLUSTER = 5


def labels_of(picked: Tensor, clusters: int, seed: int) -> Tensor:
    """Cluster labels (B, n) of points (B, n, d), on their device."""
    points = picked.detach()
    points = (points.cpu() if points.device.type == "mps" else points).double()  # which has no float64
    return kmeans_labels(points @ points.transpose(1, 2), points.shape[-1], clusters, seed).to(picked.device)


def fuse(logits: Tensor, tokens: Tensor, clusters: int, seed: int) -> Tensor:
    """Unit vectors (B, C): mean over clusters of the mean token of the most abnormal patches.

    `logits` (B, L) is the layers' mean logit difference, `tokens` (B, L, J, C) the unit tokens of J layers. At most
    5 * `clusters` patches take part; labels are constants, the means carry the gradient. Every image is clustered for
    itself with the same seed, so its result does not depend on the batch.
    """
    count = min(logits.shape[1], PATCHES_PER_CLUSTER * clusters)
    chosen = logits.sigmoid().topk(count, dim=1).indices
    picked = tokens.gather(1, chosen[:, :, None, None].expand(-1, -1, *tokens.shape[2:]))
    labels = labels_of(picked.flatten(2), clusters, seed)
    onehot = F.one_hot(labels, min(clusters, count)).to(picked)
    sizes = onehot.sum(dim=1)
    sums = torch.einsum("bnk,bnc->bkc", onehot, picked.mean(dim=2))
    filled = (sizes > 0).to(picked)
    means = sums / sizes.clamp(min=1)[..., None]
    return F.normalize((means * filled[..., None]).sum(dim=1) / filled.sum(dim=1, keepdim=True), dim=-1)


def common_grid(layers: list[Tensor]) -> list[Tensor]:
    """Bring the stages of a ResNet, (B, L_j) or (B, L_j, C), to the grid of the third: finer ones averaged, coarser enlarged.

    Clustering needs the same patches on all layers, and 60 x 60 stage-1 tokens would dominate it.
    """
    side = to_grid(layers[min(2, len(layers) - 1)]).shape[1]
    out = []
    for layer in layers:
        flat = layer.dim() == 2
        grid = to_grid(layer[..., None] if flat else layer).permute(0, 3, 1, 2)
        if grid.shape[-1] > side:
            grid = F.adaptive_avg_pool2d(grid, side)
        elif grid.shape[-1] < side:
            grid = F.interpolate(grid, size=(side, side), mode="bilinear", align_corners=False)
        tokens = grid.flatten(2).transpose(1, 2)
        out.append(tokens[..., 0] if flat else F.normalize(tokens, dim=-1))
    return out
