"""Phrases with learned vectors around them, through a text tower with or without its mask (docs/methods/mediclip.md, "Text")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from ..backbones.base import Backbone
from ..backbones.text import TextTower
from ..errors import UsageError
from ..fields import OneOf
from .base import group_direction
from .prompts import PromptSet

GROUPS = ("normal", "abnormal")
POSITIONS = ("end", "middle", "front")

Positions = tuple[Annotated[str, OneOf(POSITIONS)], ...]
"""Where learned vectors stand: before the phrase (end), around it (middle) or behind it (front)."""

Phrases = tuple[tuple[str, ...], tuple[str, ...]]
"""The normal and the abnormal phrases, each with its full stop."""


def phrases_of(prompts: PromptSet, name: str) -> Phrases:
    """The phrases about `name` of both groups."""
    return tuple(tuple(f"{s.replace('_', ' ').strip()}." for s in group) for group in prompts.sentences(name))


def start_vectors(
    phrases: Phrases, positions: Sequence[str], count: int, width: int, shared: bool = False
) -> nn.ParameterDict:
    """Small random vectors {GROUP_POSITION: (n, count, width)}, one set for each of n phrases, or one `shared` (count, width).

    Raises UsageError when a position is there twice, or none is.
    """
    if not positions or len(set(positions)) < len(positions):
        raise UsageError(f"positions {list(positions)}: expected {', '.join(POSITIONS)}, each once at most")
    vectors = nn.ParameterDict()
    for name, group in zip(GROUPS, phrases, strict=True):
        for position in positions:
            shape = (count, width) if shared else (len(group), count, width)
            vectors[f"{name}_{position}"] = nn.Parameter(torch.randn(shape) * 0.02)
    return vectors


def sentences(backbone: Backbone, phrases: Phrases, count: int) -> list[tuple[Tensor, dict[str, Tensor]]]:
    """Of each group the ids (n, context) with room for `count` vectors, and for each position the order (n, context) of rows."""
    text, key = backbone.text, ("phrases", phrases, count)
    if key not in backbone.cache:
        with torch.inference_mode(False):
            backbone.cache[key] = [
                (
                    torch.cat([text.with_context(phrase, count) for phrase in group]).to(backbone.device),
                    {position: _orders(text, group, count, position).to(backbone.device) for position in POSITIONS},
                )
                for group in phrases
            ]
    return backbone.cache[key]


def phrase_directions(
    backbone: Backbone, phrases: Phrases, vectors: Mapping[str, Tensor], positions: Sequence[str], causal: bool = False
) -> Tensor:
    """Unit text directions (C, 2), columns normal and abnormal: means of the raw embeddings of all phrases and positions."""
    columns, count = [], vectors[f"{GROUPS[0]}_{positions[0]}"].shape[-2]
    for name, (tokens, orders) in zip(GROUPS, sentences(backbone, phrases, count), strict=True):
        looked_up, found = backbone.text.token_vectors(tokens).float(), []
        for position in positions:
            learned = vectors[f"{name}_{position}"].expand(len(tokens), -1, -1)
            rows = torch.cat([looked_up[:, :1], learned, looked_up[:, 1 + count :]], dim=1)
            order = orders[position][:, :, None].expand_as(rows)
            found.append(backbone.encode_text(tokens, embeddings=rows.gather(1, order), causal=causal))
        columns.append(group_direction(torch.cat(found), unit_first=False))
    return torch.stack(columns, dim=1)


def _orders(text: TextTower, phrases: Sequence[str], count: int, position: str) -> Tensor:
    """Rows (n, context) of start, learned vectors, phrase, full stop and the rest in the order that `position` says."""
    orders, ahead = [], {"end": count, "middle": count // 2, "front": 0}[position]
    for words in text.lengths(text.tokenize(phrases)).tolist():
        own, rows = words - 3, torch.arange(text.context)  # less start, full stop and end
        learned, phrase = rows[1 : 1 + count], rows[1 + count : 1 + count + own]
        orders.append(torch.cat([rows[:1], learned[:ahead], phrase, learned[ahead:], rows[1 + count + own :]]))
    return torch.stack(orders)
