"""MadCLIP cases: inference with masks and without, and training on the versions of a support."""

from __future__ import annotations

import torch

from ZSADCLIPLib.adapters.madclip import MadCLIP, MadCLIPConfig
from ZSADCLIPLib.adapters.support import in_other_light, sixteen_versions_of

from .case import Case, placed, stats


def build(case: Case):
    info = case.info
    config = MadCLIPConfig(
        layers=tuple(info["features_list"]),
        object_name=info["class_name"],
        supervision="masks" if info["has_masks"] else "labels",
    )
    backbone = case.backbone(info["clip_seed"])
    adapter, file = MadCLIP(config, backbone), {}
    for p in info["adapter_parameters"]:
        part, _, key = p["key"].partition(".")
        file.setdefault(part, {})[key] = case.tensor(p["init"], **p)
    adapter.load_state_dict(MadCLIP.from_published(file, case.name)[1])
    return backbone, placed(adapter)


def run(case: Case) -> dict:
    return {"inference": inference, "train": train}[case.info["mode"]](case)


def images_of(case: Case, backbone) -> torch.Tensor:
    """What the network sees; stored slices come in through the method's own preprocessing."""
    if "slices_uint8" not in case.arrays:
        return case.tensor(case.info["images"])
    return backbone.preprocess(torch.from_numpy(case.arrays["slices_uint8"]), False)


def inference(case: Case) -> dict:
    backbone, adapter = build(case)
    assert not adapter.normalised
    return tested(backbone, adapter, images_of(case, backbone), case.info["subsample"])


@torch.no_grad()
def tested(backbone, adapter, images: torch.Tensor, stride: int) -> dict:
    """The outputs of a test; the authors sum over the layers what our image scores average."""
    features, size, layers = adapter.features(backbone, images), images.shape[-1], adapter.summed_layers
    both, result = adapter.evidence(backbone, features, ["det", "seg"]), adapter.predict(backbone, features, size)
    maps = adapter.layer_maps(backbone, both["seg"], size)
    return {
        "text": adapter.text(backbone),
        "scores": result.images * layers,
        "det_scores": adapter.layer_scores(both["det"]).sum(dim=1),
        "maps": result.maps[:, ::stride, ::stride],
        "map_stats": stats(result.maps, 1),
        "layer_maps_image0": torch.stack([each[0, :: 2 * stride, :: 2 * stride] for each in maps]),
        **{f"{head}_grids_image0": torch.stack([each[0, ::3] for each in both[head]]) for head in both},
        "slices_uint8": (images[:, 0] * 255).round(),
    }


def support(case: Case) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images, masks and labels of the versions of the abnormal support, then of the normal one."""
    info, parts = case.info, []
    for kind in ("abnormal", "normal"):
        images = case.tensor(info[f"support_{kind}"]).float()
        factors = [1 + 0.4 * drawn - 0.2 for drawn in info["jitter_draws"][kind]]
        parts.append(sixteen_versions_of(images, in_other_light(images, *factors)))
    masks = torch.zeros(2 * len(parts[0]), *parts[0].shape[2:], device=parts[0].device)
    if info["support_abnormal_masks"]:
        drawn = case.tensor(info["support_abnormal_masks"])[:, None]
        masks[: len(parts[0])] = sixteen_versions_of(drawn, drawn)[:, 0]
    labels = torch.arange(2, device=masks.device).flip(0).repeat_interleave(len(parts[0]))
    return torch.cat(parts), masks, labels


def train(case: Case) -> dict:
    info, (backbone, adapter) = case.info, build(case)
    images, masks, labels = support(case)
    half, shot, settings = len(images) // 2, info["shot"], info["optimizer"]
    out = {
        "versions_abnormal0": images[:half:shot, 0, ::5, ::5],
        "versions_normal0": images[half::shot, 1, ::5, ::5],
        "versions_mask0": masks[:half:shot, ::5, ::5],
        **{f"loss_{name}": [] for name in ("detection", "focal", "dice")},
    }
    masks, optimizer, step = (masks > 0.5).float(), adapter.optimizer(), 0
    optimizer.param_groups[0].update(lr=settings["lr"], betas=tuple(settings["betas"]), eps=settings["eps"])
    for rows in torch.arange(len(images)).split(info["batch_size"]) * info["epochs"]:
        features, step = adapter.features(backbone, images[rows]), step + 1
        parts = adapter.losses(backbone, features, masks[rows], labels[rows])
        for name, each in parts.items():
            out[f"loss_{name}"].append(each.detach())
        optimizer.zero_grad()
        sum(each.sum() for each in parts.values()).backward()
        if step == 1:
            moved = [p for p in parameters(case, adapter) if p.grad is not None]
            assert len(info["adapter_parameters"]) - len(moved) == len(info["parameters_without_gradient"])
            out["grad1"] = torch.stack([thin(p.grad) for p in moved])
        optimizer.step()
        if step in info["recorded_steps"]:
            out[f"step{step}"] = torch.stack([thin(p) for p in parameters(case, adapter)])
    after = tested(backbone, adapter, case.tensor(info["images"]), info["subsample"])
    losses = {name: torch.stack(each) for name, each in out.items() if isinstance(each, list) and each}
    return out | losses | {f"after_{name}": each for name, each in after.items()}


def parameters(case: Case, adapter) -> list:
    """The adapter's parameters in the order of the case."""
    own, keys = dict(adapter.named_parameters()), [p["key"] for p in case.info["adapter_parameters"]]
    return [own[key[key.index("ctx.") :] if "ctx." in key else key] for key in keys]


def thin(values: torch.Tensor) -> torch.Tensor:
    return values.detach().reshape(-1)[:: values.numel() // 40][:40].clone()
