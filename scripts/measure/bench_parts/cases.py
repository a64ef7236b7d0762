"""What is measured: a backbone of real size with random weights or an embedded one, an adapter, slices of a synthetic brain."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch

from ZSADCLIPLib.adapters.checkpoint import find_checkpoint, load_adapter
from ZSADCLIPLib.backbones import BACKBONES, load_backbone
from ZSADCLIPLib.synthetic.brains import make_case
from ZSADCLIPLib.volume import Volume

from . import machine

REAL = {
    **dict.fromkeys(("vand", "anomalyclip", "adaclip", "mediclip", "mvfa", "madclip"), "ViT-L-14-336"),
    **dict.fromkeys(("anovl", "winclip"), "ViT-B-16-plus-240"),
}
"""The backbone that each method's authors ran."""

SETTINGS = {"anovl-1": {"score_views": "identity"}, "anovl-plain": {"score_views": "identity", "steps": 0}}
"""Variants of AnoVL: without the augmented score, and without adaptation as well."""

VARIANTS = ("vand", "anomalyclip", "adaclip", "anovl", "anovl-1", "anovl-plain", "winclip", "mediclip")
SIZE = 240


@lru_cache(maxsize=2)
def plain_weights(name: str) -> dict:
    """Seeded random tensors of a model that `zsadclip` would download, scaled so that activations stay lively."""
    from ZSADCLIPLib.backbones.plainclip import PlainCLIP, packaged_config

    with torch.device("meta"):
        shapes = {k: v.shape for k, v in PlainCLIP(packaged_config(name), "gelu").state_dict().items()}
    generator, state = torch.Generator().manual_seed(0), {}
    for key, shape in shapes.items():
        norm = ".ln_" in f".{key}" and key.endswith("weight")
        scale = 0.02 if len(shape) < 2 or "embedding" in key else shape[-1] ** -0.5
        state[key] = torch.empty(shape).normal_(0, scale, generator=generator) + float(norm)
    return state


def load(variant: str, backbone_name: str | None = None, dtype: str = "float32"):
    """(backbone, adapter) of a variant; named models get random weights, embedded ones their own."""
    method = variant.partition("-")[0]
    name = backbone_name or REAL[method]
    activation = {"anomalyclip": "quick_gelu"}.get(method, "gelu") if not BACKBONES[name].embedded else None
    vit = name in ("ViT-L-14-336", "ViT-B-16-plus-240")
    backbone = load_backbone(name, plain_weights(name) if vit else None, activation, machine.DEVICE["name"], dtype)
    trained = BACKBONES[name].embedded and find_checkpoint(method, name)
    source = trained or f"{method}:random"
    return backbone, load_adapter(source, backbone, SETTINGS.get(variant, {}))


@lru_cache(maxsize=1)
def brain() -> Volume:
    """A synthetic brain, 240 x 240 x 155, 1 mm."""
    volume = make_case(0).volumes["t2w"]
    return Volume(volume.array.astype(np.float32), volume.affine, "phantom")


def slab(slices: int, blank: int = 0) -> Volume:
    """The middle `slices` axial slices of the brain and `blank` empty ones on top."""
    whole = brain()
    first = min(max(0, 78 - slices // 2), whole.shape[2] - slices)
    array = whole.array[:, :, first : first + slices]
    if blank:
        array = np.concatenate([array, np.zeros((*array.shape[:2], blank), array.dtype)], axis=2)
    return Volume(np.ascontiguousarray(array), whole.affine, f"{slices} slices")


def images(backbone, count: int) -> torch.Tensor:
    """Preprocessed middle slices (count, 3, 240, 240)."""
    from ZSADCLIPLib.volumes.intensity import to_uint8

    array = to_uint8(np.moveaxis(slab(max(count, 4)).array, 2, 0))[:count]
    return backbone.preprocess(torch.from_numpy(array).to(machine.DEVICE["name"]))


class Stages(dict):
    """Seconds by stage, filled by wrapped functions."""

    def wrap(self, owner, name: str, stage: str) -> None:
        work = getattr(owner, name)

        def measured(*args, **kwargs):
            started = time.perf_counter()
            try:
                return work(*args, **kwargs)
            finally:
                machine.wait()
                self[stage] = self.get(stage, 0.0) + time.perf_counter() - started

        self._undo.append((owner, name, owner.__dict__.get(name)))
        object.__setattr__(owner, name, measured)

    def __init__(self):
        super().__init__()
        self._undo: list = []

    def unwrap(self) -> None:
        for owner, name, before in reversed(self._undo):
            object.__delattr__(owner, name) if before is None else object.__setattr__(owner, name, before)
        self._undo.clear()


@contextmanager
def staged(backbone, adapter) -> Iterator[Stages]:
    """Time of the image tower, the text tower and, inside `predict`, everything else of a score."""
    stages = Stages()
    stages.wrap(backbone, "encode_image", "vision")
    stages.wrap(backbone, "encode_windows", "vision")
    stages.wrap(backbone, "encode_prompted", "text")
    stages.wrap(backbone, "encode_text", "text")
    stages.wrap(adapter, "score", "score")
    try:
        yield stages
    finally:
        stages.unwrap()
        stages["heads and map"] = stages.pop("score", 0.0) - stages.get("vision", 0.0) - stages.get("text", 0.0)
