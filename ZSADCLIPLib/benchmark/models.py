"""The backbones of specifications, opened once in a process."""

from __future__ import annotations

import json
from functools import lru_cache

from ..backbones import load_backbone
from ..detection.devices import choose_device, choose_dtype
from .specs import BackboneSpec, from_json, to_json


def device_of(model: BackboneSpec) -> str:
    """The device behind a specification's; of several GPUs the one that this process was given (`steps.Steps.load`)."""
    return choose_device(model.device)


@lru_cache(maxsize=2)
def _backbone(text: str):
    model = from_json(BackboneSpec, json.loads(text))
    device, dtype = device_of(model), choose_dtype(model.precision, device_of(model))
    return load_backbone(model.name, model.weights, model.activation, device, dtype, model.weights_dir)


def open_backbone(model: BackboneSpec):
    """The backbone of a specification, kept in this process."""
    return _backbone(json.dumps(to_json(model), sort_keys=True))
