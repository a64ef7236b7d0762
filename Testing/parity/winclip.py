"""WinCLIP cases: zero-shot and few-shot."""

from __future__ import annotations

import torch

from ZSADCLIPLib.adapters.base import sentence_embeddings
from ZSADCLIPLib.adapters.winclip import WinCLIP, WinCLIPConfig

from .case import Case, placed, stats


@torch.no_grad()
def run(case: Case) -> dict:
    info = case.info
    backbone = case.backbone(info["clip_seed"])
    config = WinCLIPConfig(
        scales=tuple(info["scales"]),
        object_name=info["class_name"],
        temperature=info["temperature"],
    )
    adapter = placed(WinCLIP(config, backbone))
    if info["shots"]:
        adapter.remember(backbone, case.tensor(info["reference_images"]))
    images, stride = case.tensor(info["images"]), info["subsample"]
    features = adapter.features(backbone, images)
    result = adapter.predict(backbone, features, images.shape[-1])
    groups = sentence_embeddings(backbone, adapter.prompts, adapter.config.object_name)
    depth, prefix = backbone.vision.depth, backbone.vision.prefix
    tokens = backbone.encode_image(images[:1], taps=(depth,)).taps[depth][0, prefix:]
    out = {
        "text": torch.stack([group.mean(dim=0) for group in groups], dim=1),
        "scores": result.images,
        "maps": result.maps[:, ::stride, ::stride],
        "map_stats": stats(result.maps, 1),
        "image_embedding": features["embedding"],
        "zero_shot_scores": adapter.probability(backbone, features["embedding"]),
        "zero_shot_grid": adapter.zero_shot_grid(backbone, features),
        "patch_tokens_image0": backbone.vision.norm_post(tokens)[:8],
    }
    if adapter.memory:
        out["few_shot_grid"] = adapter.few_shot_grid(features)
    for n, scale in enumerate(config.scales):
        windows = features[f"windows{scale}"]
        out[f"window_embeddings_scale{n}_image0"] = windows[0, :8]
        out[f"window_scores_scale{n}"] = adapter.probability(backbone, windows)
    return out
