"""PMC-CLIP (ModifiedResNet + PubMedBERT) and BiomedCLIP (timm ViT + PubMedBERT); see docs/methods/pmcclip.md."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import DependencyError, WeightsError
from .base import Towers
from .registry import PUBMEDBERT
from .resnet import ResNetTower
from .states import clean_state, load_strictly, read_state
from .text import BertText
from .vit import ViTTower

UNUSED_PMC = (
    "fusion_module.",
    "mlm_projection",
    "positional_embedding",
    "ln_final.",
    "img_special_token",
    "logit_scale",
)


def is_bert_config(config: Mapping) -> bool:
    """True for a ResNet + BERT pair in PMC-CLIP's layout."""
    return "bert_config" in config["text_cfg"] and not config["text_cfg"].get("hf_model_name")


def _transformers():
    try:
        import transformers
    except ImportError as error:
        raise DependencyError(
            "medical text towers need the transformers package: pip install 'zsadclip[medical]'"
        ) from error
    return transformers


def wordpiece(vocab: str | Path | None, context: int):
    """A tokenizer (sentences -> ids (n, context), lower case, [CLS] first, padded) from a vocab.txt, or None."""
    if vocab is None:
        return None
    tokenizer = _transformers().BertTokenizer(str(vocab), do_lower_case=True)
    return partial(_tokenize, tokenizer, context)


def _tokenize(tokenizer, context: int, sentences) -> Tensor:
    # Lists become a tensor here: the library looks at each number for one that is none.
    return torch.tensor(tokenizer(sentences, padding="max_length", truncation=True, max_length=context)["input_ids"])


class PmcClip(nn.Module):
    """The two towers of PMC-CLIP under the names of its published files; the fusion module (MLM only) is left out."""

    def __init__(self, config: Mapping, pooler: bool):
        super().__init__()
        from open_clip.modified_resnet import ModifiedResNet

        vision, transformers = config["vision_cfg"], _transformers()
        self.visual = ModifiedResNet(
            layers=list(vision["layers"]),
            output_dim=config["embed_dim"],
            heads=vision.get("heads", vision["width"] * 32 // 64),
            image_size=vision.get("image_size", 224),
            width=vision["width"],
        )
        bert = transformers.BertConfig(**config["text_cfg"]["bert_config"])
        self.text_encoder = transformers.BertModel(bert, add_pooling_layer=pooler)
        self.text_projection = nn.Parameter(torch.randn(bert.hidden_size, config["embed_dim"]) * bert.hidden_size**-0.5)


def build_pmc(config: Mapping, state: Mapping | None, activation: str, origin: str) -> Towers:
    """The towers of a PMC-CLIP shaped pair, whose activation is its own; `state` as `pmc_state` returns it, None for random."""
    text_cfg = config["text_cfg"]
    vocab = (state or {}).get("vocab", text_cfg.get("vocab"))
    pooler = text_cfg.get("pooler", "cls") == "pooler"
    model = PmcClip(config, pooler)
    if state is None:
        for name, parameter in model.visual.named_parameters():
            if name.endswith("bn3.weight"):
                nn.init.ones_(parameter)
    else:
        tensors = {k: v for k, v in clean_state(state).items() if k != "text_encoder.embeddings.position_ids"}
        unused = UNUSED_PMC if pooler else (*UNUSED_PMC, "text_encoder.pooler.")
        load_strictly(model, tensors, "PMC-CLIP weights", ignore=unused)
    text = BertText(
        model.text_encoder,
        lambda x: x @ model.text_projection,
        config["embed_dim"],
        text_cfg.get("context_length", 77),
        masked=bool(text_cfg.get("masked", False)),
        pooler=pooler,
        tokenizer=wordpiece(vocab, text_cfg.get("context_length", 77)),
    )
    return Towers(model, ResNetTower(model.visual), text, "relu")


def pmc_state(folder: Path) -> dict:
    """Tensors of PMC-CLIP from a folder: one checkpoint.pt, the three split files, or a converted .safetensors.

    The result uses the names of the big checkpoint (visual., text_encoder., text_projection) and may carry "vocab", the
    path of a vocab.txt beside the weights. Raises WeightsError when no layout is complete.
    """
    state: dict = {}
    whole = next((p for p in sorted(folder.iterdir()) if p.name == "checkpoint.pt" or p.suffix == ".safetensors"), None)
    split = {
        "visual.": ("image_encoder(resnet50).pth", "image_encoder.pth"),
        "text_encoder.": ("text_encoder.pth",),
        "text_projection": ("text_projection_layer.pth",),
    }
    if whole is not None:
        state.update(read_state(whole))
    else:
        for prefix, names in split.items():
            path = next((folder / n for n in names if (folder / n).is_file()), None)
            if path is None:
                raise WeightsError(f"{folder} holds neither checkpoint.pt nor {names[0]}; see 'zsadclip models'")
            part = read_state(path, single=True)
            if isinstance(part, Tensor):
                state[prefix] = part
            else:
                state.update({prefix + k if prefix.endswith(".") else prefix: v for k, v in part.items()})
    if (folder / "vocab.txt").is_file():
        state["vocab"] = folder / "vocab.txt"
    return state


def published_pmc(folder: Path) -> tuple[dict, str]:
    """The tensors of the authors' files in a folder, and where they came from."""
    return pmc_state(folder), "axiong/pmc_oa"


def build_biomedclip(config: Mapping, state: Mapping | None, activation: str, origin: str) -> Towers:
    """The towers of a timm ViT + Hugging Face BERT pair as open_clip builds it.

    The BERT config comes from `text_cfg.bert_config`, so that nothing is asked of a hub.
    """
    import open_clip

    transformers, text_cfg = _transformers(), dict(config["text_cfg"])
    vocab = (state or {}).get("vocab", text_cfg.pop("vocab", None))
    bert = transformers.BertConfig(**text_cfg.pop("bert_config", PUBMEDBERT))
    with tempfile.TemporaryDirectory() as folder:
        bert.save_pretrained(folder)
        text_cfg |= {"hf_model_name": folder, "hf_model_pretrained": False}
        context = text_cfg.pop("context_length", 256)
        vision_cfg = {**config["vision_cfg"], "timm_model_pretrained": False}
        model = open_clip.CustomTextCLIP(config["embed_dim"], vision_cfg, text_cfg)
    if state is not None:
        ignored = ("text.transformer.embeddings.position_ids", "text.transformer.pooler.")
        load_strictly(model, clean_state(state), "BiomedCLIP weights", ignore=ignored)
    text = BertText(
        model.text.transformer,
        model.text.proj,
        config["embed_dim"],
        context,
        masked=True,
        tokenizer=wordpiece(vocab, context),
    )
    return Towers(model, ViTTower(model.visual), text, activation)
