"""MediCLIP cases: inference, training, and the synthesis of anomalies from written draws."""

from __future__ import annotations

import torch

from ZSADCLIPLib.adapters.maps import to_grid, upsample
from ZSADCLIPLib.adapters.mediclip import MediCLIP, MediCLIPConfig

from .case import Case, placed, stats


def build(case: Case):
    info, options = case.info, case.info["options"]
    groups = {name: [f"{phrase} {{}}" for phrase in phrases] for name, phrases in options["prompts"].items()}
    config = MediCLIPConfig(
        layers=tuple(options["layers_out"]),
        prompts={**groups, "templates": ["{}"]},
        context=options["n_learnable_token"],
        shared=not options["CSC"],
        positions=tuple(options["class_token_positions"]),
        temperature=info["temperature"],
    )
    backbone = case.backbone(info["seed"])
    adapter = MediCLIP(config, backbone)
    theirs = {p["key"]: case.tensor(p["init"], **p) for p in info["adapter_parameters"]}
    parts = {"adapter_state_dict": {}, "prompt_state_dict": {}}
    for key, value in theirs.items():
        parts["prompt_state_dict" if key.startswith("ctx.") else "adapter_state_dict"][key] = value
    _, own = MediCLIP.from_published(parts, case.name)
    adapter.load_state_dict(own)
    return backbone, placed(adapter)


def run(case: Case) -> dict:
    return {"inference": inference, "train": train}[case.info["mode"]](case)


@torch.no_grad()
def inference(case: Case) -> dict:
    info = case.info
    backbone, adapter = build(case)
    images, stride = case.tensor(info["images"]), info["map_stride"]
    features = adapter.features(backbone, images)
    result, text, patches = (
        adapter.predict(backbone, features, images.shape[-1]),
        adapter.text(backbone),
        adapter.patches(features),
    )
    grids = [to_grid(features[f"tap{layer}"]).movedim(-1, 1) for layer in adapter.config.layers]
    largest = max(grid.shape[-1] for grid in grids)
    enlarged = [upsample(grid, largest, "corners") for grid in grids]
    return {
        "text_features": text,
        "image_scores": result.images,
        "maps": result.maps[:, ::stride, ::stride],
        "map_stats": stats(result.maps, 1),
        "patch_logits": torch.stack([each.flatten(1, 2) @ text for each in patches], dim=1),
        "patch_features_image0": torch.stack([each[0].flatten(0, 1)[:6] for each in patches]),
        "necker_stats": torch.stack([stats(grid, 1) for grid in enlarged], dim=1),
        "necker_last_image0": enlarged[-1][0, :4],
    }


def train(case: Case) -> dict:
    info = case.info
    backbone, adapter = build(case)
    images, masks = case.tensor(info["images"]), case.tensor(info["masks"]).float()
    optimizer, out = adapter.optimizer(), {"loss_focal": [], "loss_dice": [], "loss_total": []}
    features, labels = adapter.features(backbone, images), masks.flatten(1).any(dim=1).long()
    out["initial"] = parameters(adapter)
    for step in range(1, info["steps"] + 1):
        loss = adapter.objective(backbone, features, masks, labels)
        optimizer.zero_grad()
        loss["total"].backward()
        if step == 1:
            out |= {f"grad1/{key}": value for key, value in parameters(adapter, gradients=True).items()}
        optimizer.step()
        for name in ("focal", "dice", "total"):
            out[f"loss_{name}"].append(loss[name].detach().double())
        out |= {f"step{step}/{key}": value for key, value in parameters(adapter).items()}
    return {key: torch.stack(value) if isinstance(value, list) else value for key, value in out.items()}


def parameters(adapter, gradients: bool = False) -> dict:
    """Parameters or their gradients by the authors' names, thinned as the cases are."""
    found = {}
    for key, parameter in adapter.named_parameters():
        value = (parameter.grad if gradients else parameter).detach().clone()
        if key.startswith("fc."):
            key = f"{key.split('.')[1]}_adapter.0.{key.split('.')[2]}"
            value = value[::4, ::4] if value.dim() == 2 else value
        else:
            value = value[..., ::4]
        found[key] = value
    return found
