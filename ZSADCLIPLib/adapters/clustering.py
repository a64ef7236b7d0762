"""k-means of many small sets of points at once, where the points are, with the seeds and the labels of scikit-learn.

Steps and rules are those of its KMeans (sklearn/cluster/_kmeans.py, version 1.9) with one start: greedy k-means++ (Arthur and
Vassilvitskii 2007), then Lloyd's algorithm. Only inner products of points are needed: a centre is a mean of points, kept as its
weights of them.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

TOLERANCE = 1e-4
"""scikit-learn's default, relative to the mean variance of a dimension."""
MOST_STEPS = 300


def kmeans_labels(products: Tensor, dims: int, clusters: int, seed: int) -> Tensor:
    """Labels (B, n) int64 of B sets of n points in `dims` dimensions, by their inner products (B, n, n) float64.

    Of fewer points than `clusters` each is its own. All sets draw the same numbers, so that a label does not depend on the
    batch. Points that are equal make fewer clusters.
    """
    clusters = min(clusters, products.shape[-1])
    norms = products.diagonal(dim1=1, dim2=2)
    distances = (norms[:, :, None] + norms[:, None] - 2 * products).clamp(min=0)
    centres = F.one_hot(_seeds(distances, clusters, seed), products.shape[-1]).to(products)
    variance = norms.mean(dim=1) - products.mean(dim=(1, 2))
    return _lloyd(products, norms, centres, TOLERANCE * variance / dims)


def _seeds(distances: Tensor, clusters: int, seed: int) -> Tensor:
    """Points (B, k) that k-means++ begins with, of squared distances (B, n, n)."""
    n, rows = distances.shape[-1], torch.arange(len(distances), device=distances.device)
    random = np.random.RandomState(seed)
    first = int(random.choice(n, p=np.ones(n, np.float32) / n))
    draws = random.uniform(size=(clusters - 1, 2 + int(math.log(clusters))))
    found, closest = [torch.full_like(rows, first)], distances[:, first]
    total = closest.sum(dim=-1)
    for draw in torch.from_numpy(draws).to(distances):
        tried = torch.searchsorted(closest.cumsum(dim=-1), draw * total[:, None]).clamp(max=n - 1)
        left = torch.minimum(closest[:, None], distances[rows[:, None], tried])
        totals = left.sum(dim=-1)
        best = totals.argmin(dim=-1)
        found.append(tried[rows, best])
        closest, total = left[rows, best], totals[rows, best]
    return torch.stack(found, dim=1)


def _lloyd(products: Tensor, norms: Tensor, centres: Tensor, tolerance: Tensor) -> Tensor:
    """Labels (B, n) from centres (B, k, n) on, until none changes or the centres move by less than `tolerance` (B,)."""
    labels = torch.full_like(norms, -1, dtype=torch.long)
    active = torch.ones_like(tolerance, dtype=torch.bool)
    last = ~active
    for _ in range(MOST_STEPS + 1):
        cross = centres @ products
        away = (cross * centres).sum(dim=-1, keepdim=True) - 2 * cross
        away.masked_fill_((centres.sum(dim=-1) == 0)[..., None], math.inf)
        nearest, found = away.min(dim=1)
        settled = last | (found == labels).all(dim=-1)
        labels = torch.where(active[:, None], found, labels)
        active = active & ~settled
        if not active.any():
            break
        means = _means(found, nearest + norms, centres.shape[1])
        moved = means - centres
        last = ((moved @ products) * moved).sum(dim=(1, 2)) <= tolerance
        centres = means
    return labels


def _means(labels: Tensor, away: Tensor, clusters: int) -> Tensor:
    """The clusters' means (B, k, n) as weights of points; one without points gets the point that is farthest `away` (B, n)."""
    members = F.one_hot(labels, clusters).transpose(1, 2).to(away)
    empty = members.sum(dim=-1) == 0
    for n in torch.nonzero(empty.any(dim=1) & (away.amax(dim=1) > 0))[:, 0].tolist():
        lonely = torch.nonzero(empty[n])[:, 0]
        far = away[n].topk(len(lonely)).indices
        members[n, labels[n, far], far] = 0
        members[n, lonely, far] = 1
    return members / members.sum(dim=-1, keepdim=True).clamp(min=1)
