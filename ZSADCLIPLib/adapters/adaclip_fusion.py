"""AdaCLIP's hybrid semantic fusion: the most abnormal patches, clustered, stand beside the class token.

Step by step in docs/methods/adaclip.md, "Slice score".
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from torch import Tensor

from .maps import to_grid

PATCHES_PER_CLUSTER = 5
TOLERANCE = 1e-4
"""scikit-learn's default, relative to the mean variance of a dimension."""


def cluster_labels(products: np.ndarray, dims: int, clusters: int, seed: int) -> np.ndarray:
    """k-means++ labels (n,), one start, seeded, of n points in `dims` dimensions, given by their inner products (n, n).

    n points span n dimensions at most: there k-means sees the same distances and moves a fraction of the numbers. The
    library's tolerance is relative to the mean variance of a dimension, so it is scaled to the same absolute one.
    """
    centred = products - products.mean(axis=0) - products.mean(axis=1)[:, None] + products.mean()
    lengths, axes = np.linalg.eigh(centred)
    points = (axes * np.sqrt(lengths.clip(min=0))).astype(np.float32)
    tolerance = TOLERANCE * len(points) / dims
    return KMeans(min(clusters, len(points)), random_state=seed, n_init=1, tol=tolerance).fit_predict(points)


def labels_of(picked: Tensor, clusters: int, seed: int) -> np.ndarray:
    """Cluster labels (B, n) of points (B, n, d); products are taken where the points are, so that little leaves a GPU."""
    points = picked.detach()
    points = (points.cpu() if points.device.type == "mps" else points).double()  # which has no float64
    products = (points @ points.transpose(1, 2)).cpu().numpy()
    # The pools of torch and of the library fight; and patches that look alike make fewer clusters, which is no fault.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.stack([cluster_labels(one, points.shape[-1], clusters, seed) for one in products])


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
    onehot = F.one_hot(torch.from_numpy(labels).long(), min(clusters, count)).to(picked)
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
