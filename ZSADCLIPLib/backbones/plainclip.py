"""The bare modules of a plain CLIP ViT, under open_clip's names, without importing open_clip.

open_clip's package imports torchvision, timm and transformers, which takes seconds; the common models need none of them.
`PlainCLIP` takes weights or draws those that open_clip draws (`CLIP` in its model.py); it has no forward, the towers run it.
"""

from __future__ import annotations

import importlib.util
import json
import math
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

VISION = {"image_size", "layers", "width", "head_width", "mlp_ratio", "patch_size"}
TEXT = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), OpenAI's approximation."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class PlainBlock(nn.Module):
    """Pieces of one pre-norm block."""

    def __init__(self, width: int, heads: int, ratio: float, activation: type[nn.Module]):
        super().__init__()
        hidden = int(width * ratio)
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        layers = [("c_fc", nn.Linear(width, hidden)), ("gelu", activation()), ("c_proj", nn.Linear(hidden, width))]
        self.mlp = nn.Sequential(OrderedDict(layers))


class Blocks(nn.Module):
    """A stack of blocks."""

    def __init__(self, layers: int, *block):
        super().__init__()
        self.resblocks = nn.ModuleList(PlainBlock(*block) for _ in range(layers))


class PlainVision(nn.Module):
    """Pieces of the image tower."""

    def __init__(self, config: Mapping, embed_dim: int, activation: type[nn.Module], random: bool):
        super().__init__()
        width, patch = config.get("width", 768), config.get("patch_size", 16)
        side = config.get("image_size", 224) // patch

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(width**-0.5 * torch.randn(*shape) if random else torch.empty(*shape))

        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.class_embedding = parameter(width)
        self.positional_embedding = parameter(side * side + 1, width)
        self.ln_pre = nn.LayerNorm(width)
        heads = width // config.get("head_width", 64)
        self.transformer = Blocks(config.get("layers", 12), width, heads, config.get("mlp_ratio", 4.0), activation)
        self.ln_post = nn.LayerNorm(width)
        self.proj = parameter(width, embed_dim)


class PlainCLIP(nn.Module):
    """Both towers of open_clip's `CLIP` for a config that `is_plain`, with its random weights or, on "meta", with none.

    With `random` the modules are made in open_clip's order, and so a seed gives the very numbers that it gives there.
    """

    text_pool_type = "argmax"
    attn_mask = "causal"

    def __init__(self, config: Mapping, activation: str, random: bool = False):
        super().__init__()
        kind, text = (QuickGELU if activation == "quick_gelu" else nn.GELU), config["text_cfg"]
        width, dim = text.get("width", 512), config["embed_dim"]
        self.positional_embedding = nn.Parameter(torch.empty(text.get("context_length", 77), width))
        self.text_projection = nn.Parameter(torch.empty(width, dim))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)) if random else torch.empty(()))
        self.visual = PlainVision(config["vision_cfg"], dim, kind, random)
        vocabulary = text.get("vocab_size", 49408)
        # Drawing or computing on the meta device would import torch's compiler, which takes seconds.
        table = None if random else torch.empty(vocabulary, width)
        embedding = nn.Embedding(vocabulary, width, _weight=table)
        block = (width, text.get("heads", 8), text.get("mlp_ratio", 4.0), kind)
        self.transformer = Blocks(text.get("layers", 12), *block)
        self.token_embedding = embedding
        self.ln_final = nn.LayerNorm(width)
        if random:
            self._randomise_text()

    def _randomise_text(self) -> None:
        """What `TextTransformer.init_parameters` draws, in its order."""
        blocks, width = self.transformer.resblocks, self.text_projection.shape[0]
        attention, deep = width**-0.5, (2 * len(blocks)) ** -0.5
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        for block in blocks:
            nn.init.normal_(block.attn.in_proj_weight, std=attention)
            nn.init.normal_(block.attn.out_proj.weight, std=attention * deep)
            nn.init.normal_(block.mlp.c_fc.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.c_proj.weight, std=attention * deep)
        nn.init.normal_(self.text_projection, std=attention)


def is_plain(config: Mapping) -> bool:
    """True for a ViT pair without any of open_clip's options that change the architecture."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    return (
        not config.get("custom_text")
        and set(vision) <= VISION
        and set(text) <= TEXT
        and isinstance(vision.get("layers", 12), int)
        and isinstance(vision.get("image_size", 224), int)
    )


@lru_cache(maxsize=1)
def package() -> Path:
    """The folder of the installed open_clip, which is not imported."""
    return Path(importlib.util.find_spec("open_clip").submodule_search_locations[0])


def packaged_config(name: str) -> dict | None:
    """open_clip's own model config of that name, None if it has none."""
    path = package() / "model_configs" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


@lru_cache(maxsize=1)
def _tokenizer():
    # The module stands alone; only the package around it is heavy.
    spec = importlib.util.spec_from_file_location("zsadclip_clip_tokenizer", package() / "tokenizer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SimpleTokenizer(context_length=77)


def tokenize(sentences: list[str]) -> Tensor:
    """Ids (n, 77) by open_clip's byte-pair tokenizer, read at the first call."""
    return _tokenizer()(sentences)
