"""A memory of healthy volumes: their volumetric tokens, and the threshold that they have among themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, UsageError, WeightsError
from ..evaluation.sketches import ScoreSketch
from ..evaluation.thresholds import from_sketches, parse_rule
from ..fields import from_dict
from .mutual import CHUNK, check_shares, nearest, share_scores
from .storing import read_arrays, write_arrays
from .tokens import TokenSettings, VolumeTokens, units

FORMAT = "zsadclip-bank-1"
RATE = 0.0005
"""Of the brain voxels of healthy volumes, the share that the threshold of a bank lets through (docs/methods/volumes.md)."""
FARTHEST = 2.0  # distance of opposite unit vectors
LEAST_SPAN = 1e-3  # of a colour scale
SUGGESTED = 10  # volumes; so far into the tail of fewer is a guess


@dataclass(frozen=True, eq=False)
class TokenBank:
    """Tokens float16 (m, C) of healthy volumes, `origin` int32 (m,) saying of which.

    backbone    `Backbone.describe()` of the model that made them.
    settings    how they were made.
    interval    of the distances to the volumes, which of them a score is the mean of; shares of 0 to 1.
    threshold   raw score that `RATE` of the brain voxels of the bank's own volumes reach when each is scored by the others;
                None for a single volume.
    display     raw scores drawn as the ends of the colour scale.
    seen        tokens before a sample was taken.
    """

    tokens: np.ndarray
    origin: np.ndarray
    backbone: dict
    settings: TokenSettings
    interval: tuple[float, float] = (0.0, 1.0)
    threshold: float | None = None
    display: tuple[float, float] = (0.0, 1.0)
    seen: int = 0

    @property
    def volumes(self) -> int:
        """How many volumes it remembers."""
        return int(self.origin.max()) + 1

    def check_backbone(self, backbone) -> None:
        """Raise WeightsError for another backbone than the one that made the tokens."""
        here = backbone.describe()
        differences = [
            f"{key} {here[key]!r} instead of {self.backbone.get(key)!r}"
            for key in ("fingerprint", "activation")
            if here[key] != self.backbone.get(key)
        ]
        if differences:
            raise WeightsError(
                f"the bank was made with {self.backbone.get('name')}, but this backbone ({backbone.name}) has "
                f"{' and '.join(differences)}; load the right one, or build a bank with this one"
            )

    def scores(self, tokens: Tensor, chunk: int = CHUNK) -> Tensor:
        """Scores (n,) of unit tokens (n, C): the mean of the distances to the volumes that lie in the interval."""
        return share_scores(self.distances(tokens, chunk), self.interval)

    def distances(self, tokens: Tensor, chunk: int = CHUNK) -> Tensor:
        """Distances (n, volumes) of unit tokens (n, C) to the nearest token of each volume."""
        of = (units(self.tokens[self.origin == n], tokens.device).to(tokens.dtype) for n in range(self.volumes))
        return torch.stack([nearest(tokens, each, chunk=chunk)[0] for each in of], dim=1)

    def save(self, path: str | Path) -> None:
        """Write the bank, complete or not at all."""
        facts = {name: getattr(self, name) for name in ("backbone", "interval", "threshold", "display", "seen")}
        facts |= {"format": FORMAT, "settings": asdict(self.settings)}
        write_arrays(Path(path), {"tokens": self.tokens, "origin": self.origin}, facts)


def load_bank(path: str | Path) -> TokenBank:
    """The bank in a file; raises WeightsError when it is missing, damaged or something else."""
    try:
        arrays, facts = read_arrays(Path(path))
        if facts.pop("format", None) != FORMAT:
            raise InputError("its format is another")
        tokens, origin, settings = arrays["tokens"], arrays["origin"], facts.pop("settings")
        bank = TokenBank(tokens, origin, settings=from_dict(TokenSettings, settings, "its settings:"), **facts)
        _check(bank)
        return bank
    except (InputError, UsageError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{Path(path).name} is no bank of 'zsadclip bank build' that can be used ({error}); build it again"
        ) from error


def _check(bank: TokenBank) -> None:
    """Raise ValueError for a bank that does not hold together."""
    tokens, origin = bank.tokens, bank.origin
    fits = tokens.ndim == 2 and tokens.dtype == np.float16 and tokens.size and origin.shape == tokens.shape[:1]
    if not fits or not np.isfinite(tokens).all():
        raise ValueError("its tokens are damaged")
    if origin.dtype.kind != "i" or origin.min() < 0 or len(np.unique(origin)) != origin.max() + 1:
        raise ValueError("it does not say of which volumes its tokens are")
    numbers = [*bank.interval, *bank.display, *([] if bank.threshold is None else [bank.threshold])]
    if len(bank.interval) != 2 or len(bank.display) != 2 or not np.isfinite(numbers).all():
        raise ValueError("its numbers are damaged")
    if not isinstance(bank.backbone, dict) or not bank.display[0] < bank.display[1]:
        raise ValueError("its facts are damaged")
    check_shares(bank.interval)


def sample(counts: Sequence[int], most: int, seed: int) -> list[np.ndarray]:
    """Which tokens of volumes with `counts` of them a bank keeps, in rising order: at most `most` together, drawn by `seed`.

    Each volume gives the same share; 0 keeps all. Raises UsageError when a volume would have none.
    """
    total = sum(counts)
    kept = [count if not most or total <= most else count * most // total for count in counts]
    if not all(kept):
        raise UsageError(f"{most} tokens are too few for {len(counts)} volumes; keep more")
    seeds = np.random.SeedSequence(seed).spawn(len(counts))
    return [
        np.sort(np.random.default_rng(each).choice(count, number, replace=False))
        for each, count, number in zip(seeds, counts, kept, strict=True)
    ]


def coreset(tokens: np.ndarray, number: int) -> np.ndarray:
    """Which `number` of a volume's tokens (n, C) stand for all of them, in rising order.

    Greedy, as in PatchCore (arXiv 2106.08265): the first one, then always the one that is farthest from those chosen.
    """
    vectors, chosen = units(tokens), [0]
    likeness = vectors @ vectors[0]
    while len(chosen) < number:
        chosen.append(int(likeness.argmin()))
        likeness = torch.maximum(likeness, vectors @ vectors[chosen[-1]])
    return np.sort(chosen)


def joined(parts: Sequence[VolumeTokens]) -> tuple[np.ndarray, np.ndarray]:
    """`tokens` and `origin` of a bank from those of its volumes."""
    origin = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part.tokens) for part in parts])
    return np.concatenate([part.tokens for part in parts]), origin


def healthy_sketch(scores: np.ndarray) -> ScoreSketch:
    """The scores of the brain voxels of a healthy volume, counted; raises InputError for NaN."""
    return ScoreSketch(0.0, FARTHEST).add(scores, np.zeros(scores.size, bool))


def healthy_cut(sketch: ScoreSketch) -> tuple[float, float]:
    """(threshold, median) of the counted scores of healthy volumes, each scored by the others.

    The threshold is the lowest that at most `RATE` of the voxels reach, to 1 / 32768 of a distance.
    """
    half = np.searchsorted(np.cumsum(sketch.negatives), sketch.negatives.sum() / 2)
    return from_sketches(parse_rule(f"fpr:{RATE}"), (), sketch), max(0.0, sketch.edge(int(half)))


def display_range(threshold: float | None, median: float = 0.0) -> tuple[float, float]:
    """The ends of the colour scale: a healthy brain's median, and as far above the threshold as that is below it."""
    return (0.0, 1.0) if threshold is None else (median, max(2 * threshold - median, median + LEAST_SPAN))
