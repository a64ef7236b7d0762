"""The backbones that have a name here; readable before torch is installed.

Every ViT of open_clip works by its open_clip name too; these are the ones the benchmark, the panel and the docs speak of.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class BackboneInfo:
    """A named backbone: what it is, where its weights come from and how they were trained.

    `builder` is the module:function that makes `Towers` of (config, state dict or None for random, activation, origin of the
    weights); `config` is open_clip's of this name where it is None. `reader` is the module:function that makes (state dict,
    origin) of the folder of its files; empty: the first file holds all. `files` maps each file name to (url, sha256 or "");
    `activation` is what the weights were trained with; `licence` is the weights' own; `size_bytes` is approximate. Where no
    checksum is pinned, a download is checked against the one the hub states for the file.
    """

    label: str
    builder: str = ".openclip:build_open_clip"
    reader: str = ""
    config: dict | None = None
    files: dict[str, tuple[str, str]] = field(default_factory=dict)
    activation: str = "gelu"
    native_size: int = 224
    size_bytes: int = 0
    licence: str = ""
    source: str = ""
    embedded: bool = False

    @property
    def sha256(self) -> str:
        """The checksum of the single or first file, empty when unknown."""
        return next((sha for _, sha in self.files.values()), "")


def function(target: str) -> Callable:
    """The function behind "module:function" (imports torch)."""
    module, name = target.split(":")
    return getattr(importlib.import_module(module, __package__), name)


_HUB = "https://huggingface.co/{}/resolve/main/{}"
_BERT = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract-fulltext"

PUBMEDBERT = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
    "pad_token_id": 0,
}
PMC_CLIP = {
    "embed_dim": 768,
    "vision_cfg": {"image_size": 224, "layers": [3, 4, 6, 3], "width": 64, "heads": 32},
    "text_cfg": {"bert_config": PUBMEDBERT, "context_length": 77},
}
"""The attention pool's 32 heads are the training code's; the authors' notebook uses 8 (set vision_cfg.heads)."""

BIOMEDCLIP = {
    "embed_dim": 512,
    "vision_cfg": {
        "timm_model_name": "vit_base_patch16_224",
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": 224,
    },
    "text_cfg": {
        "hf_model_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
        "bert_config": PUBMEDBERT,
        "hf_proj_type": "mlp",
        "hf_pooler_type": "cls_last_hidden_state_pooler",
        "context_length": 256,
    },
}
DEFAULT_BACKBONE = "mini-mri"
"""What a user gets who names none; the benchmark's profiles name theirs."""
BACKBONES: dict[str, BackboneInfo] = {
    "mini-mri": BackboneInfo(
        label="Mini ViT for MRI (embedded, synthetic)",
        native_size=240,
        licence="Apache-2.0",
        source="mini, trained on by scripts/make/mini_vit on synthetic scans of many contrasts, heads and diseases",
        embedded=True,
    ),
    "mini": BackboneInfo(
        label="Mini ViT (embedded, synthetic)",
        native_size=240,
        licence="Apache-2.0",
        source="trained by scripts/make/mini_vit on synthetic brains and textures",
        embedded=True,
    ),
    "mini-rn": BackboneInfo(
        label="Mini ResNet (embedded, synthetic, stands in for PMC-CLIP)",
        builder=".bert_pairs:build_pmc",
        activation="relu",
        native_size=240,
        licence="Apache-2.0",
        source="trained by scripts/make/mini_vit on synthetic brains and textures",
        embedded=True,
    ),
    "ViT-L-14-336": BackboneInfo(
        label="CLIP ViT-L/14 at 336 (OpenAI)",
        files={
            "ViT-L-14-336px.pt": (
                "https://openaipublic.azureedge.net/clip/models/"
                "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02/ViT-L-14-336px.pt",
                "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
            )
        },
        activation="quick_gelu",
        native_size=336,
        size_bytes=930_000_000,
        licence="MIT",
        source="OpenAI CLIP",
    ),
    "ViT-B-16-plus-240": BackboneInfo(
        label="CLIP ViT-B/16+ at 240 (LAION-400M)",
        files={
            # open_clip 3.3 links the hub copy of this tag to epoch 31; the release file carries its checksum's head.
            "vit_b_16_plus_240-laion400m_e32-699c4b84.pt": (
                "https://github.com/mlfoundations/open_clip/releases/download/v0.2-weights/"
                "vit_b_16_plus_240-laion400m_e32-699c4b84.pt",
                "699c4b84",
            )
        },
        native_size=240,
        size_bytes=833_000_000,
        licence="MIT",
        source="open_clip laion400m_e32",
    ),
    "PMC-CLIP": BackboneInfo(
        label="PMC-CLIP (ResNet-50 + PubMedBERT)",
        builder=".bert_pairs:build_pmc",
        reader=".bert_pairs:published_pmc",
        config=PMC_CLIP,
        files={
            "image_encoder(resnet50).pth": (_HUB.format("datasets/axiong/pmc_oa", "image_encoder(resnet50).pth"), ""),
            "text_encoder.pth": (_HUB.format("datasets/axiong/pmc_oa", "text_encoder.pth"), ""),
            "text_projection_layer.pth": (_HUB.format("datasets/axiong/pmc_oa", "text_projection_layer.pth"), ""),
            "vocab.txt": (_HUB.format(_BERT, "vocab.txt"), ""),
        },
        activation="relu",
        native_size=224,
        size_bytes=592_000_000,
        licence="see the dataset card of axiong/pmc_oa",
        source="WeixiongLin/PMC-CLIP",
    ),
    "BiomedCLIP": BackboneInfo(
        label="BiomedCLIP (ViT-B/16 + PubMedBERT)",
        builder=".bert_pairs:build_biomedclip",
        config=BIOMEDCLIP,
        files={
            "open_clip_pytorch_model.bin": (
                _HUB.format("microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224", "open_clip_pytorch_model.bin"),
                "",
            ),
            "vocab.txt": (_HUB.format(_BERT, "vocab.txt"), ""),
        },
        native_size=224,
        size_bytes=784_000_000,
        licence="MIT",
        source="microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
    ),
}
