"""MuSc cases: aggregation, mutual scores, maps and re-scored images, of tokens from a formula or of a random backbone."""

from __future__ import annotations

import warnings

import torch

from ZSADCLIPLib.neighbours.lnamd import aggregate
from ZSADCLIPLib.neighbours.mutual import image_scores, mutual_distances, mutual_scores, rescored, score_maps

from .case import DEVICE, Case


def run(case: Case) -> dict:
    out = images(case) if "images" in case.info else features(case)
    info, layers, embeddings = case.info, out.pop("layers"), out.pop("embeddings")
    levels, low, high = [], *info["topmin"]
    for degree in info["r_list"]:
        units = [aggregate(tokens, degree) for tokens in layers]
        out[f"Z_r{degree}_image0"] = torch.stack([each[0] for each in units], dim=1)
        for n, each in enumerate(units):
            scores = [mutual_scores(found.double(), low, high) for found in mutual_distances(list(each))]
            out[f"msm_r{degree}_layer{n}"] = torch.stack(scores)
        levels += units
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some cases have few images on purpose
        out["patch_scores"] = image_scores(levels, low, high)
    maps = score_maps(out["patch_scores"], info["image_size"])
    out["maps"] = maps[:, :: info["subsample"], :: info["subsample"]]
    out["image_scores"] = maps.flatten(1).amax(dim=1)
    for windows in info["k_lists"]:
        out["rscin_k" + "_".join(map(str, windows))] = rescored(out["image_scores"], embeddings, windows)
    return out


def features(case: Case) -> dict:
    """Tokens by the sidecar's formula: common ones, each image's own, and some that are odd."""
    info, draw = case.info, case.recipe.tensor
    seed, count, grid, width = (info[key] for key in ("seed", "n_images", "grid", "width"))
    layers, length = [], 1 + grid * grid
    for n in range(info["n_layers"]):
        tokens = draw(seed, f"base{n}", (1, length, width)) + draw(seed, f"own{n}", (count, length, width), 0.5)
        odd = draw(seed, f"odd{n}", (count, width), 2.0)
        for i in range(0, count, 3):
            tokens[i, 1 + (7 * i) % (grid * grid)] += odd[i]
        layers.append(torch.from_numpy(tokens[:, 1:]).to(DEVICE["name"]))
    embeddings = torch.from_numpy(draw(seed, "cls", (count, 32))).to(DEVICE["name"])
    return {"layers": layers, "embeddings": embeddings / embeddings.norm(dim=1, keepdim=True)}


@torch.no_grad()
def images(case: Case) -> dict:
    """Tokens and embeddings of the case's images; positions are resized plain bicubic, as in the authors' code."""
    info = case.info
    found = case.backbone(info["seed"]).encode_image(
        case.tensor(info["images"]), taps=info["layers"], pos_embed="bicubic"
    )
    last, embeddings = found.taps[info["layers"][-1]], found.embedding
    embeddings = embeddings / embeddings.norm(dim=1, keepdim=True)
    return {
        "layers": [found.taps[layer][:, 1:] for layer in info["layers"]],
        "embeddings": embeddings,
        "image_embedding": embeddings,
        "tokens_last_layer_image0": last[0, : len(case.arrays["tokens_last_layer_image0"])],
    }
