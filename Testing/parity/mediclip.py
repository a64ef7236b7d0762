"""MediCLIP cases: inference, training, and the synthesis of anomalies from written draws."""

from __future__ import annotations

from unittest import mock

import numpy as np
import torch

from ZSADCLIPLib.adapters.maps import to_grid, upsample
from ZSADCLIPLib.adapters.mediclip import MediCLIP, MediCLIPConfig
from ZSADCLIPLib.synthetic.anomalies import draws
from ZSADCLIPLib.synthetic.anomalies.changes import cut_paste, gauss_intensity, pasted_label, radial, window
from ZSADCLIPLib.synthetic.anomalies.draws import SIDES, form_sides
from ZSADCLIPLib.synthetic.anomalies.shapes import CLOUD, Form, perlin, rotated

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
    modes = {"inference": inference, "train": train, "synthesis": synthesis, "statistics": statistics}
    return modes[case.info["mode"]](case)


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


def synthesis(case: Case) -> dict:
    """Each step from the stored result of the one before it, as the recorder's README advises."""
    info, out = case.info, {}
    grey = [case.evaluate(text).clip(0, 255).astype(np.uint8) for text in info["support_images"]]
    start = case.evaluate(info["image"]).clip(0, 255).astype(np.uint8)
    for k, run in enumerate(info["runs"]):
        image, union = start, np.zeros(start.shape, bool)
        for j, drawn in enumerate(run["anomalies"]):
            patch = case.arrays[f"patch{k}_{j}"].astype(bool)
            out[f"patch{k}_{j}"], *more = shape_of(
                info["task"], drawn, start.shape[0], case.arrays.get(f"perlin{k}_{j}")
            )
            if more and f"perlin{k}_{j}" in case.arrays:
                out[f"perlin{k}_{j}"], out[f"rotated{k}_{j}"] = more
            image = changed(case, info["task"], image, grey, patch, drawn)
            union[window(drawn["corner"], patch.shape)] |= patch
        label = pasted_label(start, image, union) if info["task"] == "cutpaste" else union
        out |= {f"image{k}": image.astype(np.uint8), f"mask{k}": label}
    return {key: torch.from_numpy(np.asarray(value, np.float64)) for key, value in out.items()}


def shape_of(task: str, drawn: dict, size: int, noise: np.ndarray | None):
    """The patch of written draws, and of a cloud its noise before and after the rotation."""
    if task in ("cutpaste", "gauss"):
        plain = perlin(drawn["patch_shape"], np.array(drawn["perlin_uniform"]))
        turned = rotated(plain if noise is None else noise.astype(np.float64), drawn["rotation_degrees"])
        return turned > CLOUD, plain, turned
    return (form_of(drawn, size).mask,)


def form_of(drawn: dict, size: int) -> Form:
    low, high = (share * size for share in SIDES["source"])
    sides = form_sides(np.array(drawn["gamma"]), size, low, high)
    return Form.of(drawn["shape"], sides, tuple(drawn["shear"]), drawn["shape_angle"], high)


def changed(case: Case, task: str, image: np.ndarray, grey: list, patch: np.ndarray, drawn: dict) -> np.ndarray:
    corner = tuple(drawn["corner"])
    if task == "cutpaste":
        source = grey[drawn["source"]]
        return cut_paste(image, source, patch, corner, drawn["angle"], drawn["scale"], tuple(drawn["source_corner"]))
    if task == "gauss":
        settings = [drawn[name] for name in ("sigma_texture", "amplitude", "sigma_edge")]
        return gauss_intensity(image, patch, corner, case.evaluate(drawn["noise"]), *settings)
    centre, factor = tuple(drawn["centre"]), 2 ** drawn["factor_exponent"]
    return radial(image, form_of(drawn, len(image)), patch, corner, centre, factor, task == "sink")


def statistics(case: Case) -> dict:
    """What freely drawn anomalies look like, in as many runs as were recorded."""
    info, out, rng = case.info, {}, np.random.default_rng(5)
    size, quantiles = info["image_size"], (0.1, 0.5, 0.9)
    y, x = np.indices((size, size)) / size - 0.5
    inside, image = (x / 0.29) ** 2 + (y / 0.36) ** 2 <= 1, np.zeros((size, size), np.uint8)
    image[inside] = 120 + np.arange(inside.sum()) % 37
    for name, task in (("cutpaste", "cut-paste"), ("gauss", "gauss"), ("source", "source")):
        placed, patches = draws._placed, []

        def noted(*arguments, placed=placed, patches=patches):
            found = placed(*arguments)
            patches.append(found[1])
            return found

        with mock.patch.object(draws, "_placed", noted):
            masks = [draws.with_anomaly(image, image[None], rng, task=task)[1] for _ in range(info["runs"])]
        area, sides = [mask.mean() for mask in masks], [side / size for patch in patches for side in patch.shape]
        out[f"{name}_area"] = [np.mean(area), *np.quantile(area, quantiles)]
        out[f"{name}_side"] = [np.mean(sides), *np.quantile(sides, quantiles)]
        out[f"{name}_two"] = [len(patches) / info["runs"] - 1]
        out[f"{name}_fill"] = [np.mean([patch.mean() for patch in patches])]
    return {key: torch.tensor(value, dtype=torch.float64) for key, value in out.items()}
