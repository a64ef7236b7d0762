"""Sentences that begin alike share their beginnings: in a causal tower a position depends on nothing behind it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

NODES = 320
"""Positions encoded at once; more would spend attention on pairs that do not see each other."""


@dataclass(frozen=True)
class PrefixTree:
    """Every distinct prefix of some sentences once, M in all.

    tokens (M,) ids; positions (M,) from 0; sees (M, M) bool: row attends to column, itself and what stands before it in
    its sentence; ends (n,) the node that a sentence ends in.
    """

    tokens: Tensor
    positions: Tensor
    sees: Tensor
    ends: Tensor

    def behind(self, length: int) -> tuple[Tensor, Tensor, Tensor]:
        """The tree with positions 1..`length` the same rows for all sentences.

        (nodes (m,) further back than that, sees (1 + length + m, 1 + length + m), ends (n,) in the new rows).
        """
        nodes = torch.nonzero(self.positions > length)[:, 0]
        head = 1 + length
        sees = torch.ones(head + len(nodes), head + len(nodes), dtype=torch.bool, device=nodes.device).tril()
        sees[head:, head:] = self.sees[nodes][:, nodes]
        row = torch.full_like(self.positions, -1)
        row[nodes] = head + torch.arange(len(nodes), device=nodes.device)
        ends = torch.where(self.positions[self.ends] > length, row[self.ends], self.positions[self.ends])
        return nodes, sees, ends


def prefix_tree(tokens: Tensor, lengths: Tensor) -> PrefixTree:
    """The tree of sentences (n, context) of which the first `lengths` (n,) positions count."""
    nodes: dict[tuple[int, int], int] = {}
    ids, positions, parents, ends = [], [], [], []
    for row, length in zip(tokens.tolist(), lengths.tolist(), strict=True):
        node = -1
        for position, token in enumerate(row[:length]):
            key = (node, token)
            if key not in nodes:
                nodes[key] = len(ids)
                ids.append(token)
                positions.append(position)
                parents.append(node)
            node = nodes[key]
        ends.append(node)
    sees = np.eye(len(ids), dtype=bool)
    for node, parent in enumerate(parents):
        if parent >= 0:
            sees[node] |= sees[parent]
    made = (torch.tensor(ids), torch.tensor(positions), torch.from_numpy(sees), torch.tensor(ends))
    return PrefixTree(*(t.to(tokens.device) for t in made))


def groups(tokens: Tensor, lengths: Tensor, limit: int = NODES) -> list[Tensor]:
    """Row indices of sentences that stand together in the alphabet of ids, at most `limit` new positions a group."""
    rows, out, new = tokens.tolist(), [[]], 0
    order = sorted(range(len(rows)), key=rows.__getitem__)
    before: list[int] = []
    for index in order:
        row = rows[index][: int(lengths[index])]
        shared = next(
            (i for i, (a, b) in enumerate(zip(row, before, strict=False)) if a != b), min(len(row), len(before))
        )
        if out[-1] and new + len(row) - shared > limit:
            out.append([])
            new, shared = 0, 0
        new += len(row) - shared
        out[-1].append(index)
        before = row
    return [torch.tensor(group) for group in out]
