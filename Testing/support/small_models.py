"""Tiny random backbones of every shape the engine supports, built in a moment."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from tempfile import mkdtemp

from ZSADCLIPLib.backbones import load_backbone

VIT = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "layers": 4, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 3},
}
BERT = {
    "vocab_size": 0,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 96,
    "pad_token_id": 0,
}
WORDS = ("a", "the", "of", "x", "photo", "brain", "damaged", "flawless", "object", "with", "without", "flaw", "defect")
WORDS += ("damage", ".", "-", ",", "industrial", "image")


@lru_cache(maxsize=1)
def vocabulary() -> Path:
    """A WordPiece vocabulary of whole words and letters."""
    letters = list("abcdefghijklmnopqrstuvwxyz0123456789")
    words = [w for w in WORDS if w not in letters]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters), *words]
    path = Path(mkdtemp()) / "vocab.txt"
    path.write_text("\n".join(tokens) + "\n")
    return path


def bert() -> dict:
    return BERT | {"vocab_size": len(vocabulary().read_text("utf-8").splitlines())}


def config(shape: str) -> dict:
    """An open_clip config: "vit", "pmc" (ResNet + BERT) or "biomed" (timm ViT + BERT)."""
    if shape == "vit":
        return VIT
    text = {"bert_config": bert(), "vocab": str(vocabulary())}
    if shape == "pmc":
        vision = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "heads": 4}
        return {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text | {"context_length": 77}}
    vision = {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "", "timm_proj": "linear", "image_size": 224}
    text |= {"hf_model_name": "local", "hf_proj_type": "mlp", "hf_pooler_type": "cls_last_hidden_state_pooler"}
    return {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text | {"context_length": 96}}


@lru_cache(maxsize=8)
def backbone(shape: str = "vit", seed: int = 3, dtype: str = "float32"):
    return load_backbone(config(shape), weights=f"random:{seed}", dtype=dtype)
