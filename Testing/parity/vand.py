"""VAND cases: zero-shot, few-shot, losses, training."""

from __future__ import annotations

import re

import torch

from ZSADCLIPLib.adapters.losses import dice, focal
from ZSADCLIPLib.adapters.vand import VAND, VANDConfig

from .case import Case, as_tensors, placed, stats


def build(case: Case, layer_state: str, **config):
    info = case.info
    backbone = case.backbone(info["seed"])
    adapter = VAND(VANDConfig(layers=tuple(info["features_list"]), **config), backbone)
    adapter.load_state_dict(as_tensors(case.evaluate(info[layer_state])))
    return backbone, placed(adapter)


def run(case: Case) -> dict:
    return {"loss": losses, "train": train}.get(case.info["mode"], inference)(case)


@torch.no_grad()
def inference(case: Case) -> dict:
    info = case.info
    backbone, adapter = build(
        case,
        "linear_layer",
        object_name=info["class_name"],
        reference_layers=tuple(info.get("few_shot_features", ())),
    )
    images = case.tensor(info["images"])
    if info["mode"] == "few_shot":
        adapter.remember(backbone, case.tensor(info["memory_images"]))
    features, size = adapter.features(backbone, images), images.shape[-1]
    result = adapter.predict(backbone, features, size)
    stride, last = info["subsample"], adapter.config.layers[-1]
    tokens = backbone.encode_image(images[:1], taps=(last,)).taps[last][0]
    out = {
        "text": adapter.text(backbone),
        "maps": result.maps[:, ::stride, ::stride],
        "map_stats": stats(result.maps, 1),
        "scores": adapter.volume_scores(result.images, result.maps.flatten(1).amax(1)),
        "scores_text": result.images,
        "image_embedding": features["embedding"],
        "layer_maps_image0": torch.stack([m[0] for m in adapter.layer_maps(backbone, features, size)])[
            :, ::stride, ::stride
        ],
        "tokens_last_layer_image0": tokens[: len(case.arrays.get("tokens_last_layer_image0", ()))],
    }
    if adapter.memory:
        out["few_shot_maps"] = adapter.reference_map(backbone, features, size)[:, ::stride, ::stride]
    return out


def losses(case: Case) -> dict:
    out = {}
    for one in case.info["cases"]:
        p = case.tensor(one["probabilities"])[:, 1]
        masks = case.tensor(re.sub(r"\s+then squeezed$", "", one["mask"]))
        # squeeze() of a batch of one turns rows into samples in the authors' code
        over = "rows" if len(p) == 1 and one["mask"].endswith("squeezed") else "image"
        out[one["focal"]] = focal(p, masks)[None]
        out[one["dice"]] = dice(p, masks, over)[None]
    return out


def train(case: Case) -> dict:
    info = case.info
    quirk = "rows" if info["batch"] == 1 else "image"
    backbone, adapter = build(case, "initial_linear_layer", dice=quirk)
    images, masks, names = case.tensor(info["images"]), case.tensor(info["masks"]), info["class_names"]
    optimizer, settings = adapter.optimizer(), info["optimizer"]
    optimizer.param_groups[0].update(lr=settings["lr"], betas=tuple(settings["betas"]), eps=settings["eps"])
    features = adapter.features(backbone, images)
    subsets = {name: [i for i, n in enumerate(names) if n == name] for name in dict.fromkeys(names)}
    out = {"focal": [], "dice": [], "total": []}
    for step in range(1, info["steps"] + 1):
        parts = []
        for name, rows in subsets.items():
            # The batch mean is the weighted mean over the classes' own prompts.
            object.__setattr__(adapter.config, "object_name", name)
            maps = adapter.layer_maps(backbone, {k: v[rows] for k, v in features.items()}, masks.shape[-1])
            share = len(rows) / len(names)
            parts.append(
                torch.stack([torch.stack([focal(m, masks[rows]), dice(m, masks[rows], quirk)]) * share for m in maps])
            )
        both = sum(parts)
        out["focal"].append(both[:, 0].detach())
        out["dice"].append(both[:, 1].detach())
        out["total"].append(both.sum().detach())
        optimizer.zero_grad()
        both.sum().backward()
        optimizer.step()
        for key, value in adapter.state_dict().items():
            out[f"step{step}.{key}"] = value[::4, ::4].clone() if value.dim() == 2 else value.clone()
    return {k: torch.stack(v) if isinstance(v, list) else v for k, v in out.items()}
