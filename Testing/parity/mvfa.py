"""MVFA-AD cases: zero-shot, few-shot, training on other domains and on the support."""

from __future__ import annotations

from dataclasses import replace

import torch

from ZSADCLIPLib.adapters.mvfa import MVFA, MVFAConfig
from ZSADCLIPLib.adapters.support import versions_of

from .case import Case, placed, stats


def build(case: Case):
    info = case.info
    backbone = case.backbone(info["clip_seed"])
    masks = info["mode"] != "few_shot" or info["support_abnormal_masks"]
    config = MVFAConfig(
        layers=tuple(info["features_list"]),
        object_name=info["class_name"],
        temperature=info["temperature"],
        supervision="masks" if masks else "labels",
        scaling="batch",
    )
    adapter = MVFA(config, backbone)
    tensors = {
        p["key"]: case.recipe.adapter_tensor(info["adapter_seed"], p["key"], p["shape"])
        for p in info["adapter_parameters"]
    }
    adapter.load_state_dict({key: torch.from_numpy(value) for key, value in tensors.items()})
    return backbone, placed(adapter)


def images_of(case: Case) -> torch.Tensor:
    """What the network sees; stored slices come in through the method's own preprocessing."""
    if "slices_uint8" not in case.arrays:
        return case.tensor(case.info["images"])
    return case.backbone(case.info["clip_seed"]).preprocess(torch.from_numpy(case.arrays["slices_uint8"]), False)


def run(case: Case) -> dict:
    ways = {"zero_shot": zero_shot, "few_shot": few_shot, "train_zero": train_zero, "train_few": train_few}
    return ways[case.info["mode"]](case)


@torch.no_grad()
def zero_shot(case: Case) -> dict:
    backbone, adapter = build(case)
    images, stride, layers = images_of(case), case.info["subsample"], adapter.config.layers
    assert not adapter.normalised
    features, size = adapter.features(backbone, images), images.shape[-1]
    kept, result = adapter.middles(backbone, features), adapter.predict(backbone, features, size)
    out = {
        "text": adapter.text(backbone),
        "scores": result.images * len(layers),
        "maps": result.maps[:, ::stride, ::stride],
        "map_stats": stats(result.maps, 1),
        "layer_maps_image0": torch.stack([m[0, ::stride, ::stride] for m in adapter.layer_maps(backbone, kept, size)]),
        "slices_uint8": (images[:, 0] * 255).round(),
    }
    for name, layer, half in (
        ("seg_tokens_first", layers[0], 0),
        ("seg_tokens_last", layers[-1], 0),
        ("det_tokens_last", layers[-1], 1),
    ):
        out[f"{name}_layer_image0"] = kept[layer].chunk(2, dim=-1)[half][0, :8]
    return out


@torch.no_grad()
def tested(case: Case, backbone, adapter, prefix: str = "", stride: int = 0) -> dict:
    """The outputs of a test with the normal support in memory; maps and scores scaled over all images of the case."""
    info, images = case.info, case.tensor(case.info["images"])
    stride = stride or info["subsample"]
    adapter.remember(backbone, case.tensor(info["support_normal"]))
    features, size = adapter.features(backbone, images), images.shape[-1]
    kept, result = adapter.middles(backbone, features), adapter.predict(backbone, features, size)
    zero = sum(adapter.layer_maps(backbone, kept, size))
    few = adapter.distance_map(backbone, kept, adapter.memory(backbone).rows, size)
    out = {"text": adapter.text(backbone), "scores": result.images}
    for name, maps in (("zero_map", zero), ("few_map", few), ("map", result.maps)):
        out |= {f"{name}s": maps[:, ::stride, ::stride], f"{name}_stats": stats(maps, 1)}
    out |= {"zero_scores": adapter.layer_scores(backbone, kept).sum(dim=1), "few_scores": few.flatten(1).mean(dim=1)}
    return {f"{prefix}{name}": value for name, value in out.items()}


@torch.no_grad()
def few_shot(case: Case) -> dict:
    backbone, adapter = build(case)
    normal = versions_of(case.tensor(case.info["support_normal"]))
    shots = case.info["shot"]
    out = tested(case, backbone, adapter)
    out["augmented_normal_image0"] = normal[::shots, 0, ::3, ::3]
    out["augmented_normal_stats"] = stats(normal, 1)
    if case.info["support_abnormal_masks"]:
        masks = versions_of(case.tensor(case.info["support_abnormal_masks"])[:, None])
        out["augmented_abnormal_mask0"] = masks[::shots, 0, ::3, ::3]
    return out


def steps(case: Case, backbone, adapter, items) -> dict:
    """One optimiser step for each (image, mask, label, config), and what was recorded of them."""
    info, parameters = case.info, dict(adapter.named_parameters())
    optimizer, layers = adapter.optimizer(), len(adapter.config.layers)
    settings, out = info["optimizer"], {"focal": [], "dice": [], "bce": [], "total": []}
    optimizer.param_groups[0].update(lr=settings["lr"], betas=tuple(settings["betas"]), eps=settings["eps"])

    def thin(x):
        return x.detach().reshape(-1)[:: max(1, x.numel() // 256)].clone()

    for step, (image, mask, label, config) in enumerate(items, 1):
        adapter.config = config
        parts = adapter.losses(backbone, adapter.features(backbone, image[None]), mask[None], label[None])
        total = sum(each.sum() for each in parts.values())
        for name, ours in (("focal", "focal"), ("dice", "dice"), ("bce", "detection")):
            out[name].append(parts.get(ours, torch.zeros(layers)).detach())
        out["total"].append(total.detach())
        optimizer.zero_grad()
        total.backward()
        if step == 1:
            out |= {f"grad1/{k}": thin(p.grad) for k, p in parameters.items() if p.grad is not None}
            out["grad1_norm"] = torch.stack([parameters[k].grad.norm() for k in info["grad1_norm_order"]])
            without = [k for k, p in parameters.items() if p.grad is None]
            assert sorted(without) == sorted(info["parameters_without_gradient"])
        optimizer.step()
        if step in info["recorded_steps"]:
            out |= {f"step{step}/{k}": thin(p) for k, p in parameters.items()}
    return {k: torch.stack(v) if isinstance(v, list) else v for k, v in out.items()}


def train_zero(case: Case) -> dict:
    info, (backbone, adapter) = case.info, build(case)
    images, masks, items = case.tensor(info["images"]), case.tensor(info["masks"]), []
    for i, name in enumerate(info["class_names"]):
        supervision = "masks" if info["has_masks"][i] else "labels"
        config = replace(adapter.config, object_name=name, supervision=supervision)
        label = torch.tensor(info["labels"][i])
        items.append((images[i], masks[i] * label, label, config))
    return steps(case, backbone, adapter, items)


def train_few(case: Case) -> dict:
    info, (backbone, adapter) = case.info, build(case)
    sick, normal = (versions_of(case.tensor(info[f"support_{kind}"])) for kind in ("abnormal", "normal"))
    masks = (versions_of(case.tensor(info["support_abnormal_masks"])[:, None])[:, 0] > 0.5).float()
    items = [(image, mask, torch.tensor(1), adapter.config) for image, mask in zip(sick, masks, strict=True)]
    items += [(image, torch.zeros_like(masks[0]), torch.tensor(0), adapter.config) for image in normal]
    out = steps(case, backbone, adapter, items)
    return out | tested(case, backbone, adapter, "after_", stride=2)
