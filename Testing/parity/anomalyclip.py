"""AnomalyCLIP cases: inference and training."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F

from ZSADCLIPLib.adapters.anomalyclip import AnomalyCLIP, AnomalyCLIPConfig
from ZSADCLIPLib.adapters.maps import blur

from .case import Case, placed, stats


def build(case: Case, half: bool):
    info, options = case.info, case.info["options"]
    layers = tuple(options["features_list"])[options.get("feature_map_layer_first", 0) :]
    dpam = options["DPAM_layer"]
    backbone = case.backbone(info["clip_seed"])
    adapter = AnomalyCLIP(
        AnomalyCLIPConfig(
            layers=layers,
            vv_blocks=0 if dpam is None else dpam - 1,
            context=options["n_ctx"],
            deep_depth=options["depth"],
            deep_length=options["t_n_ctx"],
            sigma=options.get("sigma", 4),
            half_prompts=half,
        ),
        backbone,
    )
    given = {p["key"]: case.tensor(p["init"], **p) for p in info["adapter_parameters"]}
    adapter.load_state_dict({k: v for k, v in given.items() if not k.startswith("compound_prompt_projections.")})
    return backbone, placed(adapter)


def run(case: Case) -> dict:
    return train(case) if "optimiser" in case.info else inference(case)


@torch.no_grad()
def inference(case: Case) -> dict:
    info = case.info
    backbone, adapter = build(case, half=True)
    images, stride = case.tensor(info["image"]), info["map_stride"]
    size, out = images.shape[-1], {}
    features = adapter.features(backbone, images)
    for suffix, half in (("", True), ("_fp32prompts", False)):
        adapter.config = replace(adapter.config, half_prompts=half)
        text = adapter.text(backbone)
        raw = adapter.raw_map(backbone, text, features, size)
        smooth = blur(raw, adapter.config.sigma)
        image = F.normalize(features["embedding"], dim=-1)
        out |= {
            f"text_features{suffix}": text,
            f"image_score{suffix}": (image @ text.T / 0.07).softmax(-1)[:, 1],
            f"anomaly_map{suffix}": raw[:, ::stride, ::stride],
            f"anomaly_map_smooth{suffix}": smooth[:, ::stride, ::stride],
        }
        for name, maps in ((f"anomaly_map{suffix}_stats", raw), (f"anomaly_map_smooth{suffix}_stats", smooth)):
            out[name] = stats(maps, case.arrays.get(name, torch.zeros(4)).ndim - 1)
        if not suffix:
            p = torch.stack([g.flatten(1) for g in adapter.patch_probabilities(text, features)], dim=1)
            out["patch_probs"], out["image_features"] = torch.stack([1 - p, p], dim=-1), image
    wanted = [int(k.removeprefix("patch_tokens_layer")) for k in case.arrays if k.startswith("patch_tokens_layer")]
    start = backbone.vision.depth - adapter.config.vv_blocks + 1 if adapter.config.vv_blocks else None
    joint = backbone.encode_image(images, joint=wanted, vv_from=start, pos_embed="bilinear").joint
    return out | {f"patch_tokens_layer{k}": v for k, v in joint.items()}


def train(case: Case) -> dict:
    info = case.info
    backbone, adapter = build(case, half=info["deep_prompts_through_float16"])
    images, masks, labels = case.tensor(info["image"]), case.tensor(info["masks"]), case.tensor(info["labels"])
    optimizer, settings = adapter.optimizer(), info["optimiser"]
    optimizer.param_groups[0].update(lr=settings["lr"], betas=tuple(settings["betas"]), eps=settings["eps"])
    features = adapter.features(backbone, images)
    out: dict = {"loss_pixel_times_4": [], "loss_image": [], "loss_total": [], "grad_norm": []}
    for step in range(1, info["steps"] + 1):
        loss = adapter.objective(backbone, features, masks, labels)
        optimizer.zero_grad()
        loss["total"].backward()
        for name, key in (("loss_pixel_times_4", "pixel"), ("loss_image", "image"), ("loss_total", "total")):
            out[name].append(loss[key].detach())
        out["grad_norm"].append(torch.cat([p.grad.flatten() for p in adapter.parameters()]).norm())
        if step == 1:
            out |= {f"grad1/{k}": p.grad.clone() for k, p in adapter.named_parameters()}
        optimizer.step()
        out |= {f"step{step}/{k}": p.detach().clone() for k, p in adapter.named_parameters()}
    initial = {p["key"]: case.tensor(p["init"], **p) for p in info["adapter_parameters"]}
    out["initial"] = initial
    return {k: torch.stack(v) if isinstance(v, list) else v for k, v in out.items()}
