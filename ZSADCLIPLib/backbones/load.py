"""Build a `Backbone` from a name, an open_clip model name or a config, and weights from a tag, file, folder or dict."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from ..errors import UsageError, WeightsError
from ..files.text import parse_json, within
from .base import OPENAI_MEAN, OPENAI_STD, Backbone, Towers
from .bert_pairs import build_biomedclip, build_pmc, is_bert_config, pmc_state
from .openclip import build_open_clip
from .plainclip import packaged_config
from .registry import BACKBONES, function
from .states import UNBUILDABLE, read_state
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
        if state is None:
            torch.manual_seed(int(origin.partition(":")[2]))
        model, vision, text, activation = _builder(name, config)(config, state, activation, origin)
    except (*UNBUILDABLE, OSError) as error:
        raise UsageError(f"the config of {label} does not make a model: {type(error).__name__}: {error}") from error
    return Backbone(
        name=label,
        model=model,
        vision=vision,
        text=text,
        activation=activation,
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
        state_and_origin = _given(weights, "") if weights is not None else (state, "embedded")
        return (name, config, *state_and_origin, info.activation)
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
    config = info.config if info is not None and info.config else packaged_config(name)
    if config is None:
        raise UsageError(
            f"no backbone is called {name!r}; choose one of {', '.join(BACKBONES)}, an open_clip model name or a JSON config"
        )
    return config


def _named_weights(name: str, weights_dir) -> tuple[Mapping, str]:
    info, files = BACKBONES[name], locate(name, weights_dir)
    for filename, path in files.items():
        verify(path, info.files[filename][1])
    if info.reader:
        return function(info.reader)(next(iter(files.values())).parent)
    filename, path = next(iter(files.items()))
    state = dict(read_state(path, trusted_archive=len(info.files[filename][1]) == 64))
    if "vocab.txt" in files:
        state["vocab"] = files["vocab.txt"]
    return state, filename


def _builder(name, config: dict) -> Callable[..., Towers]:
    """What a registry entry names; a config without one says by its text tower what it is."""
    info = BACKBONES.get(name) if isinstance(name, str) else None
    if info is not None:
        return function(info.builder)
    if is_bert_config(config):
        return build_pmc
    return build_biomedclip if config["text_cfg"].get("hf_model_name") else build_open_clip
