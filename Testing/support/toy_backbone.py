"""A whole backbone family in one file, as a newcomer would write it: patches through one linear layer, a causal text tower."""

from __future__ import annotations

import torch
from torch import nn

from ZSADCLIPLib.backbones import BackboneInfo
from ZSADCLIPLib.backbones.base import ImageFeatures, Towers
from ZSADCLIPLib.backbones.plainclip import PlainCLIP, tokenize
from ZSADCLIPLib.backbones.text import CausalText
from ZSADCLIPLib.backbones.windows import window_cells

NAME = "toy-tower"
ENTRY = BackboneInfo(
    label="Toy tower",
    builder="toy_backbone:build",
    config={
        "embed_dim": 8,
        "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 4, "head_width": 4, "layers": 2},
        "text_cfg": {"width": 8, "heads": 1, "layers": 1},
    },
    files={"toy.pt": ("https://example.org/toy.pt", "")},
    native_size=32,
)


class ToyTower:
    """Two linear layers on the mean colours of patches; no class token, no prompts, no fast mode."""

    kind = "toy"
    prefix, depth, patch, takes_prompts = 0, 2, None, False

    def __init__(self, layers: nn.ModuleList, side: int):
        self.layers, self.side = layers, side
        self.width, self.embed_dim = layers[0].out_features, layers[-1].out_features

    def tap_width(self, layer):
        return self.width

    def grid(self, size, layer=None):
        return size // self.side

    def cell(self, size, cells):
        return self.side

    def encode(self, images, taps=(), joint=(), vv_from=None, edit=None, pos_embed=""):
        tapped = {layer: self.begin(images, layer) for layer in (1, 2)}
        x = tapped[2]
        dense = self.layers[-1](x)
        embedding = dense.mean(dim=1)
        return ImageFeatures(embedding, embedding, {k: tapped[k] for k in taps}, dict.fromkeys(joint, dense))

    def begin(self, images, layer, pos_embed=""):
        x = nn.functional.avg_pool2d(images, self.side).flatten(2).transpose(1, 2)
        for each in self.layers[:layer]:
            x = torch.tanh(each(x))
        return x

    def resume(self, tokens, layers, mix):
        x, kept = tokens, {}
        for layer, following in zip(layers, (*layers[1:], layers[-1]), strict=True):
            x, kept[layer] = mix(layer, x)
            for each in self.layers[layer:following]:
                x = torch.tanh(each(x))
        return kept

    def encode_windows(self, images, scale, wanted, pos_embed):
        tokens = self.encode(images, joint=(2,)).joint[2]
        return tokens[:, window_cells(self.grid(images.shape[-1]), scale, tokens.device)].mean(dim=2)[wanted]


def build(config, state, activation, origin):
    model, vision = PlainCLIP(config, activation), config["vision_cfg"]
    sizes = (3, vision["width"], vision["width"], config["embed_dim"])
    model.visual = nn.ModuleList(nn.Linear(*pair) for pair in zip(sizes, sizes[1:], strict=False))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    if state is not None:
        model.load_state_dict(state)
    return Towers(model, ToyTower(model.visual, vision["patch_size"]), CausalText(model, tokenize), activation)
