"""The one list of methods, with what is said about them before torch is installed."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field


@dataclass(frozen=True)
class MethodInfo:
    """A method as menus, plans and figures speak of it; what it computes stands in its adapter class.

    `target` is the module:class of the adapter; `activation` maps a backbone to the activation the authors ran it with where
    that differs from what its weights were trained with. `short` is the name in tables (empty: the label), `colour` the one
    in figures. `score_cost` and `train_cost` are seconds of a slice's map and of a training step, `cache_cost` the size of what a
    training keeps of it, each against those of a map by VAND on the same backbone (docs/explanation/performance.md).
    `context` tells that the setting of this name brings in neighbouring slices;
    `memory_bank` tells that `remember` takes normal images, `support` holds the settings of a training on a few normal and
    abnormal images (None: few-shot is the memory bank alone) and `versions` the augmentation of these; `low_precision` tells
    that an automatic choice may be bfloat16.
    """

    label: str
    summary: str
    target: str
    paper: str
    trainable: bool = True
    activation: dict[str, str] = field(default_factory=dict)
    short: str = ""
    colour: str = "#CC79A7"
    score_cost: float = 1.0
    train_cost: float = 1.0
    cache_cost: float = 1.0
    context: bool = False
    memory_bank: bool = False
    support: dict | None = None
    versions: str = "versions"
    low_precision: bool = True

    @property
    def name(self) -> str:
        """The name in tables and figures."""
        return self.short or self.label

    @property
    def few_shot(self) -> bool:
        """Whether it makes something of a few images of the domain that it is for."""
        return self.memory_bank or self.support is not None

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
        activation={"ViT-L-14-336": "gelu"},
        short="VAND",
        colour="#009E73",
        train_cost=0.05,
        context=True,
        memory_bank=True,
    ),
    "anomalyclip": MethodInfo(
        label="AnomalyCLIP",
        summary="Learned, object-agnostic text prompts compared with value-value attention features.",
        target=".anomalyclip:AnomalyCLIP",
        paper="arXiv 2310.18961",
        colour="#D55E00",
        score_cost=1.2,
        train_cost=0.03,
        cache_cost=0.2,
    ),
    "adaclip": MethodInfo(
        label="AdaCLIP",
        summary="Static and image-dependent prompts in the image and text towers.",
        target=".adaclip:AdaCLIP",
        paper="arXiv 2407.15795",
        activation={"ViT-L-14-336": "gelu"},
        colour="#0072B2",
        score_cost=2.3,
        train_cost=6.0,
        cache_cost=0.0,
    ),
    "anovl": MethodInfo(
        label="AnoVL",
        summary="Training-free: value-value attention features against many prompts, with test-time adaptation.",
        target=".anovl:AnoVL",
        paper="arXiv 2308.15939",
        trainable=False,
        colour="#56B4E9",
        score_cost=1.3,
        low_precision=False,  # its scores differ in the third decimal only
    ),
    "linear-probe": MethodInfo(
        label="Linear probe",
        summary="One linear layer on frozen image tokens, without words: what a trained method must beat.",
        target=".linear_probe:LinearProbe",
        paper="arXiv 1610.01644",
        colour="#E69F00",
        train_cost=0.02,
        context=True,
    ),
    "winclip": MethodInfo(
        label="WinCLIP",
        summary="Training-free: small windows of the image against many prompts; few-shot with reference volumes.",
        target=".winclip:WinCLIP",
        paper="arXiv 2303.14814",
        trainable=False,
        colour="#999933",
        score_cost=12.0,
        memory_bank=True,
        low_precision=False,  # its scores lie close together
    ),
    "mediclip": MethodInfo(
        label="MediCLIP",
        summary="Learned context before medical phrases; made to be trained on healthy images with synthetic anomalies.",
        target=".mediclip:MediCLIP",
        paper="arXiv 2405.11315",
        activation={"ViT-L-14-336": "gelu"},
        colour="#44AA99",
        train_cost=0.05,
        low_precision=False,  # its scores lie close together
    ),
    "mvfa": MethodInfo(
        label="MVFA-AD",
        summary="Bottlenecks inside the image tower take tokens into the text space; few-shot with reference volumes.",
        target=".mvfa:MVFA",
        paper="arXiv 2403.12570",
        activation={"ViT-L-14-336": "gelu"},
        colour="#882255",
        score_cost=1.1,
        train_cost=1.6,
        cache_cost=0.25,
        memory_bank=True,
        support={"learning_rate": 1e-3},
    ),
    "madclip": MethodInfo(
        label="MadCLIP",
        summary="A normal and an abnormal branch at several depths against learned words; few-shot by training on both kinds.",
        target=".madclip:MadCLIP",
        paper="arXiv 2506.23810",
        activation={"ViT-L-14-336": "gelu"},
        colour="#332288",
        score_cost=1.2,
        train_cost=0.6,
        support={},
        versions="versions-16",
        low_precision=False,  # its scores lie close together
    ),
}
DEFAULT_METHOD = "vand"


def trainable_methods() -> list[str]:
    """The methods that have a training."""
    return [name for name, info in METHODS.items() if info.trainable]
