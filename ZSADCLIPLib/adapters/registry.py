"""The four methods; readable before torch is installed."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field


@dataclass(frozen=True)
class MethodInfo:
    """A method as menus, docs and jobs speak of it.

    `target` is its module:class; `activation` maps a backbone to the activation the authors ran it with where that differs
    from what its weights were trained with.
    """

    label: str
    summary: str
    target: str
    paper: str
    default_backbone: str
    trainable: bool = True
    activation: dict[str, str] = field(default_factory=dict)

    def load(self) -> type:
        """The adapter class (imports torch)."""
        module, name = self.target.split(":")
        return getattr(importlib.import_module(module, __package__), name)


METHODS: dict[str, MethodInfo] = {
    "vand": MethodInfo(
        label="VAND (APRIL-GAN)",
        summary="Linear layers take image tokens of several depths into the text space; few-shot with reference volumes.",
        target=".vand:VAND",
        paper="arXiv 2305.17382",
        default_backbone="ViT-L-14-336",
        activation={"ViT-L-14-336": "gelu"},
    ),
    "anomalyclip": MethodInfo(
        label="AnomalyCLIP",
        summary="Learned, object-agnostic text prompts compared with value-value attention features.",
        target=".anomalyclip:AnomalyCLIP",
        paper="arXiv 2310.18961",
        default_backbone="ViT-L-14-336",
    ),
    "adaclip": MethodInfo(
        label="AdaCLIP",
        summary="Static and image-dependent prompts in the image and text towers.",
        target=".adaclip:AdaCLIP",
        paper="arXiv 2407.15795",
        default_backbone="ViT-L-14-336",
        activation={"ViT-L-14-336": "gelu"},
    ),
    "anovl": MethodInfo(
        label="AnoVL",
        summary="Training-free: value-value attention features against many prompts, with test-time adaptation.",
        target=".anovl:AnoVL",
        paper="arXiv 2308.15939",
        default_backbone="ViT-B-16-plus-240",
        trainable=False,
    ),
}
