"""Which volumes are compared with which: all, or a fixed number each, in blocks that are work for one process."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BLOCK = 4  # volumes; two blocks are an item of work


class PairPlan:
    """The pairs of volumes of a batch, each named once.

    Volumes stand on a ring in an order drawn by `seed`, and each is compared with its `references` nearest there, half on either
    side, so that every volume has equally many and is a reference as often: the pairs grow with the batch, not with its square.
    An odd number is rounded up; as many as there are others are all. The order of `ids` does not matter.
    """

    def __init__(self, ids: Sequence[str], references: int, seed: int = 0, block: int = BLOCK):
        named = sorted(ids)
        self.ring = [named[n] for n in np.random.default_rng(seed).permutation(len(named))]
        self.reach = (references + 1) // 2
        self._at = {name: n for n, name in enumerate(self.ring)}
        self._block = block

    @property
    def references(self) -> int:
        """With how many others each volume is compared."""
        return min(2 * self.reach, len(self.ring) - 1)

    def partners(self, name: str) -> list[str]:
        """The others that a volume is compared with, in order."""
        return sorted(other for other in self.ring if other != name and self._are_near(name, other))

    def block_of(self, one: str, other: str) -> tuple[int, int]:
        """The two blocks that a pair belongs to, the lower one first."""
        return tuple(sorted((self._at[one] // self._block, self._at[other] // self._block)))

    def blocks(self) -> dict[tuple[int, int], list[tuple[str, str]]]:
        """The pairs by the two blocks they belong to, within a pair and within a block in the order of their names."""
        found: dict[tuple[int, int], list[tuple[str, str]]] = {}
        for one in sorted(self.ring):
            for other in self.partners(one):
                if one < other:
                    found.setdefault(self.block_of(one, other), []).append((one, other))
        return dict(sorted(found.items()))

    def _are_near(self, one: str, other: str) -> bool:
        steps = abs(self._at[one] - self._at[other])
        return min(steps, len(self.ring) - steps) <= self.reach
