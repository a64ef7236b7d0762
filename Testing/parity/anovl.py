"""AnoVL cases: with and without test-time adaptation."""

from __future__ import annotations

import re

import torch
import torch.nn.functional as F

from ZSADCLIPLib.adapters.anovl import AnoVL, AnoVLConfig
from ZSADCLIPLib.adapters.anovl_adaptation import Draws
from ZSADCLIPLib.adapters.base import sentence_embeddings

from .case import Case, stats


def expressions(text: str) -> list[str]:
    """Every recipe.tensor(...) call in a sentence."""
    found = []
    for match in re.finditer(r"recipe\.tensor\(", text):
        depth, end = 1, match.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        found.append(text[match.start() : end])
    return found


def draws_of(case: Case):
    """Injected starts and noise: image id <i>, epoch <e>."""
    tta, ids = case.info["tta"], case.info["image_ids"]
    weight, bias = expressions(tta["adapter_init"])
    noise = expressions(tta["noise"])[0]
    factor = float(re.search(r"([\d.]+)\s*(?:\([^)]*\)\s*)?\*\s*recipe", tta["noise"]).group(1))

    def draw(index: int) -> Draws:
        i = str(ids[index])

        def tensor(text, epoch=0):
            return case.tensor(text.replace("<i>", i).replace("<e>", str(epoch)))

        steps = [factor * tensor(noise, e).flatten(0, 2) for e in range(case.info["epochs"])]
        return Draws(tensor(weight), tensor(bias), torch.stack(steps))

    return draw


_LAST: list = []


def features_of(adapter: AnoVL, backbone, images: torch.Tensor) -> dict:
    """The adapter's features, kept for the next case: those with and without adaptation look at one image, in 22 views."""
    if not (_LAST and _LAST[0] is backbone and torch.equal(_LAST[1], images)):
        _LAST[:] = backbone, images, adapter.features(backbone, images)
    return _LAST[2]


@torch.no_grad()
def run(case: Case) -> dict:
    info = case.info
    backbone = case.backbone(info["seed"])
    config = AnoVLConfig(
        object_name=info["class_name"], steps=info["epochs"] if info["adapter"] else 0, optimizer="persistent"
    )
    adapter = AnoVL(config, backbone)
    if info["adapter"]:
        adapter.draws = draws_of(case)
    images, stride = case.tensor(info["images"]), info["subsample"]
    features = features_of(adapter, backbone, images)
    result = adapter.predict(backbone, features, images.shape[-1])
    groups = sentence_embeddings(backbone, adapter.prompts, adapter.config.object_name)
    out = {
        "text": adapter.text(backbone),
        "scores": result.images,
        "maps": result.maps[:, ::stride, ::stride],
        "map_stats": stats(result.maps, 1),
        "aug_probs_image0": adapter.view_probabilities(backbone, features)[0],
        "tokens_image0": features["joint"][0, :16],
        "text_list_head": torch.stack([F.normalize(group[:6], dim=-1) for group in groups], dim=-1),
    }
    return out | ({"loss": torch.stack(adapter.losses)} if adapter.losses else {})
