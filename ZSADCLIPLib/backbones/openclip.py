"""CLIP ViTs and ResNets as open_clip makes them from a config."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from .base import Towers
from .plainclip import PlainCLIP, is_plain, tokenize
from .resnet import ResNetTower
from .states import clean_state, load_strictly
from .text import CausalText
from .vit import ViTTower


def build_open_clip(config: Mapping, state: Mapping | None, activation: str, origin: str) -> Towers:
    """The towers of an open_clip config with a causal text tower; `state` None is random."""
    if is_plain(config):
        model = _plain(config, state, activation, origin)
        return Towers(model, ViTTower(model.visual), CausalText(model, tokenize), activation)
    import open_clip

    kind = open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
    arguments = {k: v for k, v in config.items() if k in ("embed_dim", "vision_cfg", "text_cfg")}
    # Attention pool heads of a ResNet are not stored in its weights, and open_clip derives them from head_width.
    arguments["vision_cfg"] = {k: v for k, v in config["vision_cfg"].items() if k != "heads"}
    model = kind(**arguments, quick_gelu=activation == "quick_gelu")
    if state is None:
        _randomise(model)
    else:
        load_strictly(model, clean_state(state), f"weights {origin}")
    visual = model.visual
    if "heads" in config["vision_cfg"]:
        visual.attnpool.num_heads = config["vision_cfg"]["heads"]
    tower = ResNetTower(visual) if hasattr(visual, "layer4") else ViTTower(visual)
    return Towers(model, tower, CausalText(model, tokenize), activation)


def _plain(config: Mapping, state: Mapping | None, activation: str, origin: str) -> PlainCLIP:
    if state is None:
        return PlainCLIP(config, activation, random=True)
    with torch.device("meta"):
        model = PlainCLIP(config, activation)
    # A state dict may belong to a model that goes on changing; what was read from a file belongs to nobody else.
    load_strictly(model, clean_state(state), f"weights {origin}", assign=True, copy=origin == "state dict")
    return model


def _randomise(model: nn.Module) -> None:
    """open_clip leaves the vision tower's init to training code; batch norms of ResNets start at zero. Make both lively."""
    for name, parameter in model.named_parameters():
        if name.endswith("bn3.weight"):
            nn.init.ones_(parameter)
