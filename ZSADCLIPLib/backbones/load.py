"""Build a `Backbone` from a name, an open_clip model name or a config, and weights from a tag, file, folder or dict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from ..errors import UsageError, WeightsError
from ..files.text import parse_json, within
from .base import OPENAI_MEAN, OPENAI_STD, Backbone
from .bert_pairs import build_biomedclip, build_pmc, is_bert_config, pmc_state
from .plainclip import PlainCLIP, is_plain, packaged_config, tokenize
from .registry import BACKBONES
from .resnet import ResNetTower
from .states import clean_state, load_strictly, read_state
from .text import CausalText
from .vit import VisionTower
from .weights import locate, verify

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
ACTIVATIONS = ("gelu", "quick_gelu")


def load_backbone(
    name: str | Mapping,
    weights: str | Path | Mapping | None = None,
    activation: str | None = None,
    device: str | torch.device = "cpu",
    dtype: str = "float32",
    weights_dir: str | Path | None = None,
) -> Backbone:
    """A frozen backbone, ready for every method.

    name         a key of BACKBONES, any open_clip ViT or ResNet model name, a path to a JSON config, or the config itself
                 (open_clip's dictionary: embed_dim, vision_cfg, text_cfg).
    weights      None (the named model's own), an open_clip tag, a file, a state dict, or "random" / "random:SEED".
    activation   "gelu" or "quick_gelu"; None takes what the weights were trained with.
    dtype        "float32", "bfloat16" or "float16".
    weights_dir  a folder that is searched before the download cache.
    Raises WeightsError for missing or unfitting weights and UsageError for unknown names.
    """
    if activation not in (None, *ACTIVATIONS):
        raise UsageError(f"activation {activation!r} is unknown; choose gelu or quick_gelu")
    if dtype not in DTYPES:
        raise UsageError(f"dtype {dtype!r} is unknown; choose one of {', '.join(DTYPES)}")
    label, config, state, origin, trained = _resolve(name, weights, weights_dir)
    preprocess = config.get("preprocess_cfg", {})
    config = config.get("model_cfg", config)
    activation = activation or ("quick_gelu" if config.get("quick_gelu") else trained or "gelu")
    try:
        model, vision, text = _towers(config, state, activation, origin)
    except (
        TypeError,
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
        RuntimeError,
        ArithmeticError,
        AssertionError,
        OSError,
    ) as error:
        raise UsageError(f"the config of {label} does not make a model: {type(error).__name__}: {error}") from error
    resnet = isinstance(vision, ResNetTower)
    return Backbone(
        name=label,
        model=model,
        vision=vision,
        text=text,
        activation="relu" if resnet and is_bert_config(config) else activation,
        native_size=int(config["vision_cfg"].get("image_size", 224)),
        weights=origin,
        mean=tuple(preprocess.get("mean", OPENAI_MEAN)),
        std=tuple(preprocess.get("std", OPENAI_STD)),
        device=torch.device(device),
        dtype=DTYPES[dtype],
    )


def _resolve(name, weights, weights_dir) -> tuple[str, dict, Mapping | None, str, str | None]:
    """(label, config, state dict or None for random, origin of the weights, activation they were trained with)."""
    if isinstance(name, Mapping):
        return (
            "custom",
            dict(name),
            *_given(weights, "a config needs weights: a file, a state dict or 'random'"),
            None,
        )
    if str(name).endswith(".json"):
        config = _read_config(Path(name))
        return (Path(name).stem, config, *_given(weights, f"the config {name} needs weights: a file or 'random'"), None)
    info = BACKBONES.get(name)
    if info is not None and info.embedded:
        from .mini import mini_state_dict

        config, state = mini_state_dict(name)
        given = _given(weights, "") if weights is not None else (state, "embedded")
        return (name, config, *given, info.activation)
    config = _named_config(name, info)
    if weights is not None and not _is_tag(name, weights):
        return (name, config, *_given(weights, ""), info and info.activation)
    if info is not None and weights is None:
        return (name, config, *_named_weights(name, weights_dir), info.activation)
    import open_clip

    if weights is None:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise WeightsError(f"{name} needs weights: one of open_clip's tags ({tags}), a file, or 'random'")
    tag_config = open_clip.get_pretrained_cfg(name, weights)
    try:
        path = open_clip.download_pretrained(tag_config)
    except Exception as error:
        where = tag_config.get("url") or tag_config.get("hf_hub")
        raise WeightsError(
            f"cannot download {name} {weights} ({type(error).__name__}); fetch {where} elsewhere and pass the file as "
            "the weights"
        ) from error
    trained = "quick_gelu" if tag_config.get("quick_gelu") else None
    return (name, config, read_state(path), f"open_clip:{weights}", trained)


def _is_tag(name: str, weights) -> bool:
    if not isinstance(weights, str) or weights.split(":")[0] == "random" or Path(weights).exists():
        return False
    import open_clip

    return weights in open_clip.list_pretrained_tags_by_model(name)


def _given(weights, missing: str) -> tuple[Mapping | None, str]:
    if weights is None:
        raise WeightsError(missing)
    if isinstance(weights, Mapping):
        return weights, "state dict"
    if str(weights).split(":")[0] == "random":
        seed = str(weights).partition(":")[2] or "0"
        if not seed.isdigit():
            raise UsageError(f"weights {weights!r}: expected 'random' or 'random:SEED' with a whole number")
        return None, f"random:{seed}"
    path = Path(weights)
    return (pmc_state(path) if path.is_dir() else read_state(path)), path.name


def _read_config(path: Path) -> dict:
    try:
        config = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"the model config {path} cannot be read: {error}") from error
    inner = config.get("model_cfg", config) if isinstance(config, dict) else None
    if not isinstance(inner, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= set(inner):
        raise UsageError(f"the model config {path} lacks embed_dim, vision_cfg or text_cfg")
    if not all(isinstance(inner[name], dict) for name in ("vision_cfg", "text_cfg")) or not within(config):
        raise UsageError(f"the model config {path} has values that no model has; see open_clip's model configs")
    if not isinstance(config.get("preprocess_cfg", {}), dict):
        raise UsageError(f"preprocess_cfg in the model config {path} is not an object")
    return config


def _named_config(name: str, info) -> dict:
    if info is not None and info.architecture in ("pmc-clip", "biomedclip"):
        from .bert_pairs import BIOMEDCLIP, PMC_CLIP

        return PMC_CLIP if info.architecture == "pmc-clip" else BIOMEDCLIP
    config = packaged_config(name)
    if config is None:
        raise UsageError(
            f"no backbone is called {name!r}; choose one of {', '.join(BACKBONES)}, an open_clip model name or a JSON config"
        )
    return config


def _named_weights(name: str, weights_dir) -> tuple[Mapping, str]:
    info, files = BACKBONES[name], locate(name, weights_dir)
    for filename, path in files.items():
        verify(path, info.files[filename][1])
    if info.architecture == "pmc-clip":
        return pmc_state(next(iter(files.values())).parent), "axiong/pmc_oa"
    filename, path = next(iter(files.items()))
    state = dict(read_state(path, trusted_archive=len(info.files[filename][1]) == 64))
    if "vocab.txt" in files:
        state["vocab"] = files["vocab.txt"]
    return state, filename


def _towers(config: dict, state: Mapping | None, activation: str, origin: str):
    if state is None:
        torch.manual_seed(int(origin.partition(":")[2]))
    if is_bert_config(config):
        return build_pmc(config, state)
    if config["text_cfg"].get("hf_model_name"):
        return build_biomedclip(config, state)
    if state is not None and is_plain(config):
        with torch.device("meta"):
            model = PlainCLIP(config, activation)
        # A state dict may belong to a model that goes on changing; what was read from a file belongs to nobody else.
        load_strictly(model, clean_state(state), f"weights {origin}", assign=True, copy=origin == "state dict")
        return model, VisionTower(model.visual), CausalText(model, tokenize)
    import open_clip

    kind = open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
    known = {k: v for k, v in config.items() if k in ("embed_dim", "vision_cfg", "text_cfg")}
    # Attention pool heads of a ResNet are not stored in its weights, and open_clip derives them from head_width.
    known["vision_cfg"] = {k: v for k, v in config["vision_cfg"].items() if k != "heads"}
    model = kind(**known, quick_gelu=activation == "quick_gelu")
    if state is None:
        _randomise(model)
    else:
        load_strictly(model, clean_state(state), f"weights {origin}")
    visual = model.visual
    if "heads" in config["vision_cfg"]:
        visual.attnpool.num_heads = config["vision_cfg"]["heads"]
    tower = ResNetTower(visual) if hasattr(visual, "layer4") else VisionTower(visual)
    return model, tower, CausalText(model, tokenize)


def _randomise(model: nn.Module) -> None:
    """open_clip leaves the vision tower's init to training code; batch norms of ResNets start at zero. Make both lively."""
    for name, parameter in model.named_parameters():
        if name.endswith("bn3.weight"):
            nn.init.ones_(parameter)
