"""A golden case: its sidecar, its arrays, and the recipe expressions that define its weights and inputs."""

from __future__ import annotations

import ast
import importlib.util
import json
import math
import operator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from ZSADCLIPLib.backbones import load_backbone

HERE = Path(__file__).resolve().parents[1] / "golden"
DEVICE = {"name": "cpu"}
"""Where cases run; `scripts/check/parity --device` changes the name."""
OPERATORS = {ast.Div: operator.truediv, ast.Mult: operator.mul, ast.Add: operator.add, ast.Sub: operator.sub}


def find_recipe(folder: Path):
    """The recipe module beside the cases or in a folder above, else the project's own copy."""
    path = next((p / "recipe.py" for p in (folder, *folder.parents) if (p / "recipe.py").is_file()), HERE / "recipe.py")
    spec = importlib.util.spec_from_file_location("golden_recipe", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def softmax(x, axis):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


@dataclass
class Case:
    """One npz + JSON pair."""

    path: Path
    info: dict
    arrays: dict[str, np.ndarray]
    recipe: object

    @property
    def name(self) -> str:
        return f"{self.path.parent.name}/{self.path.stem}"

    def evaluate(self, text: str, **names):
        """The value of a recipe expression such as "recipe.images(12, 2, 70)[[0]]".

        Only recipe functions, softmax, sqrt, arithmetic, literals and the sidecar's own fields are understood.
        """
        names = {**self.info, **names}
        calls = {"softmax": softmax, "sqrt": math.sqrt}

        def value(node):
            if isinstance(node, ast.Constant):
                return node.value
            if isinstance(node, ast.Name):
                return names[node.id]
            if isinstance(node, (ast.List, ast.Tuple)):
                items = [value(e) for e in node.elts]
                return items if isinstance(node, ast.List) else tuple(items)
            if isinstance(node, ast.BinOp):
                return OPERATORS[type(node.op)](value(node.left), value(node.right))
            if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
                return -value(node.operand)
            if isinstance(node, ast.Subscript):
                return value(node.value)[value(node.slice)]
            if isinstance(node, ast.Call):
                own = isinstance(node.func, ast.Attribute) and getattr(node.func.value, "id", "") == "recipe"
                function = getattr(self.recipe, node.func.attr) if own else calls[node.func.id]
                return function(*map(value, node.args), **{k.arg: value(k.value) for k in node.keywords})
            raise ValueError(f"cannot read {ast.unparse(node)!r} in {text!r}")

        return value(ast.parse(text.strip(), mode="eval").body)

    def tensor(self, text: str, **names) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(self.evaluate(text, **names))).to(DEVICE["name"])

    def tolerance(self, quantity: str) -> tuple[float, float]:
        """(absolute, relative) tolerance: the sidecar's, else 5e-5 for maps and scores and 1e-5 for features."""
        relative = self.info.get("suggested_tolerance", {})
        if "atol" in relative:
            return relative["atol"], relative.get("rtol", 0.0)
        listed = self.info.get("suggested_atol", {})
        for key in (quantity, quantity.rstrip("0123456789")):
            if key in listed:
                return listed[key], 0.0
        if quantity.startswith("step") and "step parameters" in listed:
            return listed["step parameters"], 0.0
        if quantity.startswith("stage"):
            return listed.get("stage arrays", 1e-5), 0.0
        if quantity.startswith(("text_", "last_hidden")):
            return listed.get("text arrays", 1e-5), 0.0
        for names, value in listed.items():  # several share a tolerance, with endings that tell layers apart
            if any(f"{quantity}_".startswith(f"{name}_") for name in names.split(", ")):
                return value, 0.0
        return (5e-5 if any(word in quantity for word in ("map", "score", "prob")) else 1e-5), 0.0

    def backbone(self, seed: int):
        """The case's random-weight CLIP in the activation its sidecar names."""
        name = self.info["config"]
        config = self.recipe.CONFIGS[name] if isinstance(name, str) else name
        stated = self.info.get("activation", "QuickGELU" if self.info["method"] == "anomalyclip" else "gelu")
        activation = "gelu" if stated.lower().startswith(("gelu", "exact")) else "quick_gelu"
        return random_clip(Path(self.recipe.__file__).parent, json.dumps(config), seed, activation, DEVICE["name"])


@lru_cache(maxsize=1)
def random_clip(recipe: Path, config: str, seed: int, activation: str, device: str):
    """The CLIP that a recipe's folder, a config as JSON and a seed define; cases in a row that share one have it drawn once."""
    module, config = find_recipe(recipe), json.loads(config)
    resnet = not isinstance(config["vision_layers"], int)
    state = (module.rn_clip_state_dict if resnet else module.clip_state_dict)(config, seed)
    return load_backbone(open_clip_config(config), as_tensors(state), activation=activation, device=device)


def placed(adapter):
    """The adapter where its case runs."""
    return adapter.to(DEVICE["name"])


def as_tensors(state: dict) -> dict:
    return {k: torch.from_numpy(np.asarray(v)) for k, v in state.items()}


def open_clip_config(config: dict) -> dict:
    """open_clip's model dictionary of a recipe config."""
    vision = {
        "image_size": config["image_resolution"],
        "layers": config["vision_layers"]
        if isinstance(config["vision_layers"], int)
        else list(config["vision_layers"]),
        "width": config["vision_width"],
        "patch_size": config["vision_patch_size"],
    }
    if "vision_heads" in config:
        vision["heads"] = config["vision_heads"]
    text = {
        "context_length": config["context_length"],
        "vocab_size": config["vocab_size"],
        "width": config["transformer_width"],
        "heads": config["transformer_heads"],
        "layers": config["transformer_layers"],
    }
    return {"embed_dim": config["embed_dim"], "vision_cfg": vision, "text_cfg": text}


def load_cases(folder: Path) -> list[Case]:
    """Every npz with a JSON sidecar below `folder` (or the one pair that `folder` names)."""
    files = [folder.with_suffix(".npz")] if folder.with_suffix(".npz").is_file() else sorted(folder.rglob("*.npz"))
    cases = []
    for path in files:
        info = json.loads(path.with_suffix(".json").read_text("utf-8"))
        with np.load(path) as arrays:
            cases.append(Case(path, info, {k: arrays[k] for k in arrays.files}, find_recipe(path.parent)))
    return cases


def stats(maps: torch.Tensor, keep: int, unbiased: bool = False) -> torch.Tensor:
    """Mean, std (of the population unless `unbiased`), min, max over all but the first `keep` axes."""
    flat = maps.double().reshape(*maps.shape[:keep], -1)
    return torch.stack([flat.mean(-1), flat.std(-1, unbiased=unbiased), flat.amin(-1), flat.amax(-1)], dim=-1)
