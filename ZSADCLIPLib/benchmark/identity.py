"""Where a run's weights and published adapters are, and what tells their contents apart, without loading them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..adapters.checkpoint import read_info
from ..adapters.prompts import load_prompts, prompt_sets
from ..adapters.registry import METHODS
from ..backbones.registry import BACKBONES, BackboneInfo
from ..backbones.weights import cache_dir, find_file, locate
from ..errors import UsageError, WeightsError
from ..fields import from_dict
from ..files.digests import FileHashes, content_key
from ..files.packaged import DATA
from .cells import cell_settings
from .settings import BackboneChoice


def weights_id(model: BackboneChoice, weights_dir: str | None, hashes: FileHashes) -> str:
    """What tells the weights of a model apart, without loading it: a file hash, an open_clip tag, or "random:SEED".

    Raises WeightsError when the files are missing.
    """
    if model.weights is not None:
        if str(model.weights).startswith("random"):
            return str(model.weights)
        path = Path(model.weights)
        if path.exists():
            files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
            return content_key({p.name: hashes(p) for p in files})
        return f"open_clip:{model.weights}"
    info = registered(model)
    files = {"": DATA / f"{model.name}.safetensors"} if info.embedded else locate(model.name, weights_dir)
    return content_key({name: hashes(path) for name, path in files.items()})


def registered(model: BackboneChoice) -> BackboneInfo:
    """The registry's entry of a backbone that names no weights; raises WeightsError when there is none."""
    info = BACKBONES.get(model.name) if isinstance(model.name, str) else None
    if info is None:
        raise WeightsError(f"the backbone {model.name!r} needs weights: an open_clip tag, a file, or random:SEED")
    return info


def model_id(model: BackboneChoice, hashes: FileHashes) -> str | dict:
    """The model's name, or, for a config file, a digest of its content; a config given as such is its own."""
    if isinstance(model.name, str) and model.name.endswith(".json"):
        return f"sha256 {hashes(model.name)[:16]}"
    return model.name


def prompts_of(settings: dict) -> dict | None:
    """The content of the prompt file that settings of a method name; None without one."""
    prompts = settings.get("prompts")
    named = isinstance(prompts, str) and prompts not in prompt_sets()
    return load_prompts(prompts).to_dict() if named else None


def check_settings(method: str, settings: dict) -> None:
    """Raises UsageError naming the setting that the method's config does not take, hours before its training would."""
    if method not in METHODS:
        cell_settings(method, settings)
        return
    where = f"methods.{method}.settings"
    config = from_dict(METHODS[method].load().Config, settings, where)
    try:
        load_prompts(config.prompts)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def offsets_of(method: str, settings: dict, start: str | None = None) -> tuple[float, ...]:
    """The offsets in mm of the neighbours that an adapter with these settings looks at (`Adapter.offsets`).

    Raises UsageError when it starts from a file whose adapter looks at others; those of the authors look at none.
    """
    kind = METHODS[method].load()
    offsets = kind.offsets(from_dict(kind.Config, settings))
    if start is None:
        return offsets
    stored, theirs = read_info(start), ()
    if stored is not None and stored.method == method:
        theirs = kind.offsets(from_dict(kind.Config, stored.config))
    if theirs != offsets:
        told = [", ".join(f"{mm:g}" for mm in each) or "none" for each in (theirs, offsets)]
        raise UsageError(f"{start} has the context {told[0]} and the settings say {told[1]}; give both the same")
    return offsets


def published(method: str, name: str, weights_dir: str | None) -> Path:
    """An industrial adapter file: an absolute path, or found as METHOD/NAME or NAME in `weights_dir` or the cache.

    Raises WeightsError that says where to put it.
    """
    folders = [*([Path(weights_dir)] if weights_dir else []), cache_dir()]
    path = Path(name) if os.path.isabs(name) and Path(name).is_file() else find_file(method, name, folders)
    if path is None:
        raise WeightsError(
            f"the industrial adapter {name} of {METHODS[method].label} is missing: get it from the authors' page "
            f"({METHODS[method].paper}) and put it into {folders[0] / method}, or set methods.{method}.industrial"
        )
    return path


@dataclass(frozen=True)
class Start:
    """An industrial adapter: where it is, what tells its content apart, words for the manifest; `file` if it is there already."""

    source: str
    id: str
    label: str
    file: str | None = None
