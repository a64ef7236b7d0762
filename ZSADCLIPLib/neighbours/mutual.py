"""Distances of tokens to their nearest ones in other images, and scores of these (MSM of MuSc, arXiv 2401.16753)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..adapters.maps import to_grid
from ..errors import InputError, UsageError

INTERVAL = (0.0, 0.3)
"""Of the distances to the other images, in rising order, those that a score is the mean of: the authors' choice."""
FEW = 8
"""Images; of fewer, 0.3 of the others are one or two."""
CHUNK = 2048
"""Rows of a matrix of distances that are there at once."""


def nearest(
    first: Tensor, second: Tensor, references: tuple[int, int] | None = None, chunk: int = CHUNK
) -> tuple[Tensor, Tensor]:
    """Euclidean distances of the unit vectors `first` (n, C) to the nearest of `second` (m, C), (n,), and back, (m,).

    One matrix of products serves both directions, `chunk` rows at a time, so that memory is chunk x m numbers. `references`
    counts the leading rows of `first` and of `second` that may be nearest; all may where it is None. In float32 the expansion
    2 - 2 cos errs by up to 5e-4 where vectors are nearly equal. Raises InputError when there is nothing to be nearest.
    """
    of_first, of_second = references or (len(first), len(second))
    if not of_first or not of_second or not len(first) or not len(second):
        raise InputError(f"{len(first)} and {len(second)} tokens, {of_first} and {of_second} references: expected some")
    rows = first.new_empty(len(first))
    columns = first.new_full((len(second),), -torch.inf)
    for start in range(0, len(first), chunk):
        cosines = first[start : start + chunk] @ second.T
        rows[start : start + chunk] = cosines[:, :of_second].amax(dim=1)
        if start < of_first:
            torch.maximum(columns, cosines[: of_first - start].amax(dim=0), out=columns)
    return tuple((2 - 2 * cosine).clamp(min=0).sqrt() for cosine in (rows, columns))


def mutual_distances(tokens: Sequence[Tensor], chunk: int = CHUNK) -> list[Tensor]:
    """Of the unit tokens (n_i, C) of each of N images the distances (n_i, N - 1) to the nearest token of each other image.

    The other images are in their order. Each pair is computed once for both. Raises InputError for fewer than two images.
    """
    if len(tokens) < 2:
        raise InputError(f"{len(tokens)} images cannot be compared with each other; give two or more")
    found = [each.new_empty((len(each), len(tokens) - 1)) for each in tokens]
    for i, one in enumerate(tokens):
        for j in range(i + 1, len(tokens)):
            found[i][:, j - 1], found[j][:, i] = nearest(one, tokens[j], chunk=chunk)
    return found


def positions(others: int, low: float = INTERVAL[0], high: float = INTERVAL[1]) -> tuple[int, int]:
    """First and end position of the interval among the distances to `others` images, in rising order.

    A bound below 1 is a share of the images, rounded down; from 1 on it is a count. The bounds may come in either order. The
    interval holds at least one distance: with up to three others the authors' code has none there, and NaN for a score.
    Raises UsageError for negative bounds.
    """
    if not (low >= 0 and high >= 0):
        raise UsageError(f"the interval {low} to {high} is negative; give shares from 0, or counts")
    first, end = sorted(min(int(others * bound) if bound < 1 else int(bound), others) for bound in (low, high))
    first = min(first, others - 1)
    return first, max(end, first + 1)


def mutual_scores(distances: Tensor, low: float = INTERVAL[0], high: float = INTERVAL[1]) -> Tensor:
    """Scores (n,) of tokens: the mean of those of their `distances` (n, images) that lie in the interval of `positions`."""
    first, end = positions(distances.shape[1], low, high)
    if first == 0 and end == distances.shape[1]:
        return distances.mean(dim=1)
    return distances.sort(dim=1).values[:, first:end].mean(dim=1)


def share_scores(distances: Tensor, shares: Sequence[float]) -> Tensor:
    """`mutual_scores` with bounds that are shares from 0 to 1, where 1 is all images and not a count of one."""
    check_shares(shares)
    return mutual_scores(distances, *(distances.shape[1] if bound == 1 else bound for bound in shares))


def check_shares(shares: Sequence[float]) -> None:
    """Raise UsageError unless the two bounds of an interval are shares, the lower one first."""
    if len(shares) != 2 or not 0 <= shares[0] <= shares[1] <= 1:
        raise UsageError(f"the interval {' to '.join(map(str, shares))}: expected shares with 0 <= LOW <= HIGH <= 1")


def image_scores(
    levels: Sequence[Tensor], low: float = INTERVAL[0], high: float = INTERVAL[1], chunk: int = CHUNK
) -> Tensor:
    """Patch scores float64 (N, L) of a batch: the mean over `levels` of the mutual scores of their unit tokens (N, L, C).

    A level is one degree of aggregation and one layer. Warns for fewer than 8 images, where the interval is a matter of chance.
    """
    if len(levels[0]) < FEW:
        warnings.warn(
            f"mutual scores of {len(levels[0])} images say little: expected {FEW} or more; add normal ones",
            stacklevel=2,
        )
    total = 0
    for tokens in levels:
        found = mutual_distances(list(tokens), chunk)
        total = total + torch.stack([mutual_scores(each.double(), low, high) for each in found])
    return total / len(levels)


def score_maps(scores: Tensor, size: int) -> Tensor:
    """Patch scores (N, L) as maps (N, size, size), bilinear between the corners; an image's score is its largest pixel.

    Raises UsageError for patches that form no square.
    """
    return F.interpolate(to_grid(scores)[:, None], size=(size, size), mode="bilinear", align_corners=True)[:, 0]


def rescored(scores: Tensor, embeddings: Tensor, windows: Sequence[int]) -> Tensor:
    """Image scores (N,) of a batch, scaled to 0..1 over it and averaged with those of images that look alike (RsCIN of MuSc).

    W holds the cosines of the unit `embeddings` (N, C). For each window k a row keeps its k largest (of which the image itself is
    one) and is divided by their sum; the result is the mean over the windows of W_k times the scores. A window of 0 anywhere
    leaves the scores as they are. Scores of different batches cannot be compared. Raises UsageError for a window below 0.
    """
    if not windows or any(window < 0 for window in windows):
        raise UsageError(f"windows {list(windows)}: expected one or more numbers of images from 0")
    if 0 in windows:
        return scores
    span = scores.max() - scores.min()
    scaled = ((scores - scores.min()) / span if span > 0 else torch.zeros_like(scores)).double()
    cosines = embeddings.double() @ embeddings.double().T
    total = torch.zeros_like(scaled)
    for window in windows:
        values, at = cosines.topk(min(window, len(scores)), dim=1)
        total += (values / values.sum(dim=1, keepdim=True) * scaled[at]).sum(dim=1)
    return total / len(windows)
