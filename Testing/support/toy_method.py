"""A whole method in one file, as a newcomer would write it: one linear layer says of each token how abnormal it looks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ZSADCLIPLib.adapters import MethodInfo
from ZSADCLIPLib.adapters.base import Adapter, Scores
from ZSADCLIPLib.adapters.losses import focal
from ZSADCLIPLib.adapters.maps import to_grid, upsample

NAME = "toy"
ENTRY = MethodInfo(
    label="Toy (one layer)",
    summary="A linear layer on the tokens of the last layer.",
    target="toy_method:Toy",
    paper="none",
    short="Toy",
    colour="#123456",
)


@dataclass(frozen=True)
class ToyConfig:
    object_name: str = "brain"
    prompts: str = "anomalyclip"
    upsample: str = "faithful"
    dice: str = "image"
    learning_rate: float = 1e-2
    epochs: int = 2
    batch_size: int = 8


class Toy(Adapter):
    method = NAME
    Config = ToyConfig
    not_in_features = frozenset(ToyConfig.__dataclass_fields__)
    published_key = "toy_layer"

    def __init__(self, config, backbone):
        super().__init__(config, backbone)
        self.layer = nn.Linear(backbone.vision.tap_width(backbone.vision.depth), 1)

    @classmethod
    def from_published(cls, state, file):
        return ({}, {f"layer.{k}": v for k, v in state["toy_layer"].items()}) if "toy_layer" in state else None

    @torch.no_grad()
    def features(self, backbone, images):
        depth = backbone.vision.depth
        return {"tokens": backbone.encode_image(images, taps=(depth,)).taps[depth][:, backbone.vision.prefix :]}

    def predict(self, backbone, features, size):
        grid = to_grid(self.layer(features["tokens"]).float()[..., 0].sigmoid())
        maps = upsample(grid, size, "half-pixel")
        return Scores(maps, maps.flatten(1).amax(dim=1))

    def objective(self, backbone, features, masks, labels):
        return {"total": focal(self.predict(backbone, features, masks.shape[-1]).maps, masks)}

    def optimizer(self):
        return torch.optim.Adam(self.parameters(), lr=self.config.learning_rate)
