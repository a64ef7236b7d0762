"""AdaCLIP cases: inference and training; images of one case may have different class names."""

from __future__ import annotations

from dataclasses import replace

import torch

from ZSADCLIPLib.adapters.adaclip import AdaCLIP, AdaCLIPConfig
from ZSADCLIPLib.adapters.adaclip_fusion import fuse, labels_of
from ZSADCLIPLib.adapters.maps import blur

from .case import Case, placed, stats

PREFIX = "clip_model."


def build(case: Case):
    info, options = case.info, case.info["options"]
    backbone = case.backbone(info["clip_seed"])
    adapter = AdaCLIP(
        AdaCLIPConfig(
            layers=tuple(options["features_list"]),
            depth=options["prompting_depth"],
            length=options["prompting_length"],
            branch=options["prompting_branch"],
            kind=options["prompting_type"],
            clusters=options["k_clusters"] if options["use_hsf"] else 0,
            sigma=options.get("sigma", 4),
            dice="rows",
        ),
        backbone,
    )
    initial = {p["key"].removeprefix(PREFIX): case.tensor(p["init"], **p) for p in info["adapter_parameters"]}
    adapter.load_state_dict(initial)
    return backbone, placed(adapter), initial


def run(case: Case) -> dict:
    return train(case) if "optimiser" in case.info else inference(case)


def each_class(names):
    return {name: [i for i, n in enumerate(names) if n == name] for name in dict.fromkeys(names)}


@torch.no_grad()
def inference(case: Case) -> dict:
    info = case.info
    backbone, adapter, _ = build(case)
    images, stride, parts = case.tensor(info["image"]), info["map_stride"], {}
    for name, rows in each_class(info["class_names"]).items():
        adapter.config = replace(adapter.config, object_name=name)
        for key, value in quantities(backbone, adapter, images[rows], stride).items():
            parts.setdefault(key, {}).update(zip(rows, value, strict=True))
    return {key: torch.stack([rows[i] for i in sorted(rows)]) for key, rows in parts.items()}


def quantities(backbone, adapter, images, stride) -> dict:
    size, config = images.shape[-1], adapter.config
    features = adapter.features(backbone, images)
    logits, tokens, class_vector, text = adapter._forward(backbone, features)
    raw = adapter.raw_map(backbone, logits, size)
    smooth = blur(raw, config.sigma)
    both = [100 * t @ text for t in tokens]
    out = {
        "anomaly_map": raw[:, ::stride, ::stride],
        "anomaly_map_smooth": smooth[:, ::stride, ::stride],
        "anomaly_map_stats": stats(raw, 1),
        "anomaly_map_smooth_stats": stats(smooth, 1),
        "image_score": adapter.predict(backbone, features, size).images,
        "text_features": text,
        "class_feature": class_vector,
        "patch_logits": torch.stack(both, dim=1),
    }
    out |= {f"patch_tokens_layer{k}": t for k, t in zip(config.layers, tokens, strict=True)}
    if config.clusters:
        mean, stacked = torch.stack(logits).mean(0), torch.stack(tokens, dim=2)
        out["clustered_feature"] = fuse(mean, stacked, config.clusters, config.seed)
        chosen = mean.sigmoid().topk(min(mean.shape[1], 5 * config.clusters), dim=1).indices
        picked = stacked.gather(1, chosen[:, :, None, None].expand(-1, -1, *stacked.shape[2:])).flatten(2)
        out["cluster_labels"] = labels_of(picked, config.clusters, config.seed)
    for tower, name in (("visual", "dynamic_visual_prompts"), ("text", "dynamic_text_prompts")):
        generator = getattr(adapter, f"dynamic_{tower}_prompt_generator", None)
        if generator is not None:
            out[name] = torch.stack([head(features["plain"]) for head in generator.head], dim=1)
    return out


def thin(x: torch.Tensor) -> torch.Tensor:
    return x.detach().reshape(-1)[:: max(1, x.numel() // 1024)].clone()


def train(case: Case) -> dict:
    info = case.info
    backbone, adapter, initial = build(case)
    images, masks, labels = case.tensor(info["image"]), case.tensor(info["masks"]), case.tensor(info["labels"])
    names, parameters = info["class_names"], dict(adapter.named_parameters())

    def objective(rows):
        adapter.config = replace(adapter.config, object_name=names[rows[0]])
        return adapter.loss(backbone, images[rows], masks[rows], labels[rows])

    singles = [objective([i]) for i in range(len(images))]
    out = {
        "single_loss": torch.stack([s["total"].detach() for s in singles]),
        "single_classification_loss": torch.stack([s["image"].detach() for s in singles]),
    }
    adapter.zero_grad()
    # One real batch per class; the mean over classes is weighted by their images.
    for rows in each_class(names).values():
        (objective(rows)["total"] * len(rows) / len(names)).backward()
    out |= {f"meangrad/{PREFIX}{k}": thin(p.grad) for k, p in parameters.items() if p.grad is not None}
    settings, losses = info["optimiser"], []
    optimizer = adapter.optimizer()
    optimizer.param_groups[0].update(
        lr=settings["lr"],
        betas=tuple(settings["betas"]),
        eps=settings["eps"],
        weight_decay=settings["weight_decay"],
    )
    for step in range(1, len(images) + 1):
        optimizer.zero_grad()
        loss = objective([step - 1])["total"]
        loss.backward()
        losses.append(loss.detach())
        if step == 1:
            out |= {f"grad1/{PREFIX}{k}": thin(p.grad) for k, p in parameters.items() if p.grad is not None}
            order = [k.removeprefix(PREFIX) for k in info["grad1_norm_order"]]
            out["grad1_norm"] = torch.stack([parameters[k].grad.norm() for k in order])
        optimizer.step()
        out |= {f"step{step}/{PREFIX}{k}": thin(p) for k, p in parameters.items()}
    out["step_loss"] = torch.stack(losses)
    out["initial"] = {PREFIX + k: thin(v) for k, v in initial.items()}
    return out
