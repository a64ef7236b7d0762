"""The embedded models: their config and weights, with the token rows that were never trained drawn anew."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open

from ..files.packaged import DATA, shipped

TOKEN_SEED, TOKEN_SCALE = 20240, 0.02


def initial_tokens(vocabulary: int, width: int) -> torch.Tensor:
    """The token table before training (vocabulary, width); rows that no caption uses keep these values."""
    generator = torch.Generator().manual_seed(TOKEN_SEED)
    return torch.randn(vocabulary, width, generator=generator) * TOKEN_SCALE


def mini_state_dict(name: str, folder: Path = DATA) -> tuple[dict, dict[str, torch.Tensor]]:
    """(config, float32 state dict) of an embedded model; raises WeightsError when its file is not in this installation."""
    path = shipped(f"{name}.safetensors", folder)
    with safe_open(path, framework="pt") as stored:
        config = json.loads(stored.metadata()["config"])
        state = {key: stored.get_tensor(key).float() for key in stored.keys() if key != "token_rows"}  # noqa: SIM118
        rows = stored.get_tensor("token_rows").long() if "token_rows" in stored.keys() else None  # noqa: SIM118
    text = config["text_cfg"]
    if rows is None:  # a BERT stores all its tokens, and brings its own vocabulary
        text["vocab"] = str(folder / f"{name}-vocab.txt")
        return config, state
    table = initial_tokens(text["vocab_size"], text["width"])
    table[rows] = state["token_embedding.weight"]
    state["token_embedding.weight"] = table
    return config, state
