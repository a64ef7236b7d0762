"""What a benchmark run will need, before it starts: slices, cache sizes and time per row, from shapes alone."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from ..adapters.prompts import load_prompts
from ..adapters.registry import METHODS
from ..backbones.registry import BACKBONES
from ..backbones.weights import status
from ..errors import WeightsError, ZSADCLIPError
from .identity import published
from .rows import Row
from .settings import BackboneChoice, Profile, slice_rule

SUBJECTS, SLICES, BRAIN_SHARE, LESION_SHARE = 165, 155, 0.91, 0.25  # BraTS-MET 2023; shares are typical
EFFICIENCY = 0.35  # of the measured matrix speed, which whole models reach
CAUSAL_WORDS, BERT_WORDS = 5, 16  # tokens a sentence costs on average, of the methods' own prompts
BACKWARD = 2.0  # a backward pass against its forward pass
RESNET50, MINI_RESNET = 9.4e9, 0.9e9  # FLOPs of an image of 240 x 240


@dataclass(frozen=True)
class Shape:
    """The sizes of a model that cost and cache depend on; `flops` is an image's forward pass, `sentence` a sentence's."""

    tokens: int
    width: int
    layers: int
    embed: int
    flops: float
    sentence: float


def shape_of(model: BackboneChoice, size: int) -> Shape:
    """The sizes of a backbone at an image size, without loading its weights."""
    config = _config(model)
    vision, text, embed = config["vision_cfg"], config["text_cfg"], config["embed_dim"]
    bert = text.get("bert_config", {})
    width = text.get("width", bert.get("hidden_size", 768))
    layers = text.get("layers", bert.get("num_hidden_layers", 12))
    # Causal towers stop at a sentence's end and share its beginning with others; a BERT does the former only.
    words = CAUSAL_WORDS if "width" in text else BERT_WORDS
    sentence = layers * words * 24 * width**2
    if isinstance(vision.get("layers"), (list, tuple)):
        flops = RESNET50 if vision.get("width", 64) == 64 else MINI_RESNET
        # The four stages' grids and widths, as one number of values: width * 2**(j + 2) channels on size / 2**(j + 2).
        values = sum(vision.get("width", 64) * 2 ** (j + 2) * (size // 2 ** (j + 2)) ** 2 for j in range(4))
        return Shape(values // embed, embed, 4, embed, flops * (size / 240) ** 2, sentence)
    patch, width, layers = vision.get("patch_size", 16), vision.get("width", 768), vision.get("layers", 12)
    tokens = (size // patch) ** 2 + 1
    flops = layers * (24 * tokens * width**2 + 4 * tokens**2 * width)
    return Shape(tokens, width, layers, embed, flops, sentence)


def _config(model: BackboneChoice) -> dict:
    if isinstance(model.name, dict):
        return model.name
    if str(model.name).endswith(".json"):
        data = json.loads(Path(model.name).read_text(encoding="utf-8"))
        return data.get("model_cfg", data)
    info = BACKBONES.get(model.name)
    if info is not None and info.embedded:
        from ..backbones.mini import mini_state_dict

        return mini_state_dict(model.name)[0]
    if info is not None and info.config:
        return info.config
    import open_clip

    config = open_clip.get_model_config(model.name)
    if config is None:
        raise WeightsError(f"no backbone is called {model.name!r}; choose one of {', '.join(BACKBONES)}")
    return config


def counts(profile: Profile, data: str | None) -> dict:
    """Subjects and slices on each side: of the data set's files, of the embedded brains, or of BraTS-MET 2023."""
    if data is not None:
        from ..files.digests import FileHashes
        from .cohort import read_cohort

        class Unread(FileHashes):
            def __init__(self):
                pass

            def __call__(self, path) -> str:
                return ""

            def save(self) -> None:
                pass

        cohort = read_cohort(profile, data, Unread())
        train, test = len(cohort.side("train")), len(cohort.side("test"))
    elif profile.data.train_cases:
        train, test = profile.data.train_cases, profile.data.test_cases
    else:
        train = int(profile.split.fraction * SUBJECTS)
        test = SUBJECTS - train
    slices = -(-SLICES // profile.slices.every)
    kind, others = slice_rule(profile.train.slices)
    each = {"all": slices, "brain": slices * BRAIN_SHARE, "lesion": slices * LESION_SHARE + others}[kind]
    return {"train_subjects": train, "test_subjects": test, "scored_slices": slices, "train_slices": round(each)}


def matrix_speed(device: str = "auto") -> tuple[float, str]:
    """Float32 FLOPs a second of one matrix product on a device, measured in a moment, and the device's name."""
    import torch

    from ..detection.devices import choose_device

    name = choose_device(device)
    a = torch.rand(1024, 1024, device=name)
    (a @ a).sum().item()
    best, stop = float("inf"), time.perf_counter() + 1.0
    while time.perf_counter() < stop:
        started = time.perf_counter()
        (a @ a).sum().item()
        best = min(best, time.perf_counter() - started)
    return 2 * 1024**3 / best, name


def estimate(
    profile: Profile, rows: tuple[Row, ...], data: str | None, weights_dir: str | None = None, device: str = "auto"
) -> dict:
    """{"rows": [...], "models", "counts", "total_hours", "cache_gb", "notes"} of a run, JSON-able.

    Times are the FLOPs of image and text towers over a third of the device's matrix speed; evaluation is not counted.
    """
    found = counts(profile, data)
    speed, where = matrix_speed(device)
    lines, caches, models = [], {}, {}
    for row in rows:
        line = {"row": row.id, "backbone": None, "train_slices": 0, "epochs": 0, "train_hours": 0.0}
        threshold = min(found["train_subjects"], profile.threshold.max_subjects or found["train_subjects"])
        line["threshold_slices"] = threshold * found["scored_slices"]
        line["test_slices"] = found["test_subjects"] * found["scored_slices"]
        line["score_hours"] = 0.0
        if row.backbone is not None:
            model = profile.backbone(row.backbone, row.method)
            models[str(model.name) if not isinstance(model.name, dict) else "custom"] = model
            shape = shape_of(model, profile.slices.image_size)
            line["backbone"] = str(model.name) if not isinstance(model.name, dict) else "custom"
            _fill(line, row, profile, shape, found, speed, caches)
        lines.append(line)
    hours = sum(line["train_hours"] + line["score_hours"] for line in lines)
    notes = [f"time at {speed / 1e9:.0f} GFLOP/s measured on {where}, {EFFICIENCY:.0%} of it reached by whole models"]
    if data is None and not profile.data.train_cases:
        notes.append(f"assumes the paper's {SUBJECTS} subjects with {SLICES} slices, {BRAIN_SHARE:.0%} with brain")
    return {
        "rows": lines,
        "counts": found,
        "models": _states(models, weights_dir),
        "industrial": _industrial(profile, rows, weights_dir),
        "total_hours": hours,
        "cache_gb": sum(caches.values()) / 1e9,
        "slices_gb": 2 * profile.slices.image_size**2 * found["train_slices"] * found["train_subjects"] / 1e9,
        "notes": notes,
    }


def _fill(line: dict, row: Row, profile: Profile, shape: Shape, found: dict, speed: float, caches: dict) -> None:
    chosen, method = profile.method(row.method), row.method
    text = _sentences(method) * shape.sentence
    image = shape.flops * (1.3 if method in ("anomalyclip", "anovl") else 1.0)  # the value-value path
    adapt = 5 * 3 * 4 * shape.tokens * shape.embed * _sentences(method) * 2 if method == "anovl" else 0.0
    score = {"adaclip": 2 * image + text, "anovl": image + adapt}.get(method, image)
    rate = EFFICIENCY * speed * 3600
    line["score_hours"] = (line["threshold_slices"] + line["test_slices"]) * score / rate
    if row.trained_on is None:
        return
    subjects = min(found["train_subjects"], chosen.max_subjects or found["train_subjects"])
    slices = min(subjects * found["train_slices"], chosen.max_slices or subjects * found["train_slices"])
    epochs = chosen.epochs or METHODS[method].load().Config().epochs
    heads = {"vand": 6 * shape.tokens * shape.width * shape.embed * 4, "anomalyclip": 6 * shape.tokens * shape.embed}
    step = heads.get(method, (1 + BACKWARD) * (image + text))
    line |= {"train_slices": slices, "epochs": epochs}
    line["train_hours"] = slices * (image + epochs * step) / rate
    values = {"vand": 4 * shape.tokens * shape.width, "anomalyclip": shape.tokens * shape.embed}.get(
        method, shape.embed
    )
    half = profile.train.cache == "disk-half"
    line["cache_gb"] = 0.0 if profile.train.cache == "none" else slices * values * (2 if half else 4) / 1e9
    caches[(method, row.backbone)] = line["cache_gb"] * 1e9


def _sentences(method: str) -> int:
    """How many sentences a method encodes for every image: AdaCLIP's depend on the image; AnoVL's are its anchors."""
    return sum(map(len, load_prompts(method).sentences("brain"))) if method in ("adaclip", "anovl") else 0


def _states(models: dict[str, BackboneChoice], weights_dir: str | None) -> dict[str, str]:
    known = {entry["name"]: entry["state"] for entry in status(weights_dir)}
    return {name: model.weights or known.get(name, "unknown") for name, model in models.items()}


def _industrial(profile: Profile, rows: tuple[Row, ...], weights_dir: str | None) -> dict[str, str]:
    out = {}
    for method in dict.fromkeys(row.method for row in rows if row.start == "industrial"):
        name = profile.method(method).industrial
        if name is None:
            out[method] = f"trained on {profile.industrial.images} synthetic images"
            continue
        try:
            out[method] = f"{name}: {published(method, name, weights_dir)}"
        except ZSADCLIPError:
            out[method] = f"{name}: missing"
    return out
