"""PMC-CLIP cases: the image tower and the read-outs of the text tower."""

from __future__ import annotations

import copy

import torch

from ZSADCLIPLib.backbones import load_backbone

from .case import DEVICE, Case, as_tensors, open_clip_config, stats


def run(case: Case) -> dict:
    return image(case) if case.info["mode"] == "image" else text(case)


@torch.no_grad()
def image(case: Case) -> dict:
    info = case.info
    config = info["config"] if isinstance(info["config"], dict) else case.recipe.CONFIGS[info["config"]]
    clip = open_clip_config(config)
    clip["vision_cfg"]["heads"] = info["attnpool_heads"]
    bert = copy.deepcopy(case.recipe.BERT_CONFIGS["tiny-bert"])
    clip["text_cfg"] = {"bert_config": bert, "context_length": 16}
    state = {"visual." + k: v for k, v in as_tensors(case.evaluate(info["weights"])).items()}
    state |= {
        "text_encoder." + k: v for k, v in as_tensors(case.recipe.bert_state_dict("tiny-bert", info["seed"])).items()
    }
    state["text_projection"] = torch.zeros(bert["hidden_size"], config["embed_dim"])
    backbone = load_backbone(clip, state, device=DEVICE["name"])
    features = backbone.encode_image(case.tensor(info["images"]), taps=(1, 2, 3, 4))
    out = {"image_embedding": features.embedding}
    for layer, tokens in features.taps.items():
        side = backbone.vision.grid(info["image_size"], layer)
        stage = tokens.transpose(1, 2).unflatten(2, (side, side))
        shape = case.arrays.get(f"stage{layer}_image0", stage[0]).shape
        step = max(1, round(side / shape[1]))
        out[f"stage{layer}_image0"] = stage[0, : shape[0], ::step, ::step]
        out[f"stage{layer}_stats"] = stats(stage, 0, unbiased=True)
    return out


@torch.no_grad()
def text(case: Case) -> dict:
    info = case.info
    rows, length = info["input_ids"], info["context_length"]
    tokens = torch.tensor([row + [info["pad_id"]] * (length - len(row)) for row in rows])
    projection = case.tensor(info["text_projection"])
    state = {"text_encoder." + k: v for k, v in as_tensors(case.evaluate(info["weights"])).items()}
    state["text_projection"] = projection
    vision = case.recipe.CONFIGS["tiny-rn"] | {"embed_dim": projection.shape[1]}
    state |= as_tensors(case.recipe.rn_visual_state_dict(vision, info["seed"]))
    out = {}
    for pooler in ("cls", "pooler"):
        for masked in (False, True):
            clip = open_clip_config(vision)
            clip["text_cfg"] = {"bert_config": info["bert_config"], "context_length": length}
            clip["text_cfg"] |= {"pooler": pooler, "masked": masked}
            backbone = load_backbone(clip, dict(state), device=DEVICE["name"])
            suffix = "mask" if masked else "nomask"
            name = f"text_{pooler}_{suffix}" if (pooler, masked) != ("cls", False) else "text_training_path"
            out[name] = backbone.encode_text(tokens)
            if name == "text_training_path":
                backbone.text.projection = lambda x: x
                out["last_hidden_cls_nomask"] = backbone.encode_text(tokens)
    return out
