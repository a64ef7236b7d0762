"""Benchmark profiles by name or from a JSON file that names a base profile and the keys it changes."""

from __future__ import annotations

import math
import types
import typing
from dataclasses import is_dataclass, replace
from pathlib import Path

from ..datasets.splits import PAPER_ADACLIP_SUBJECTS
from ..errors import UsageError
from ..files.text import parse_json
from .settings import (
    Data,
    Industrial,
    Method,
    Model,
    Profile,
    Score,
    Slices,
    Thresholds,
    Train,
)

_MINI_BACKBONES = {"default": Model("mini"), "pmc": Model("mini-rn")}
_BATCH_DICE = {"dice": "batch"}

PROFILES: dict[str, Profile] = {
    "mini": Profile(
        "mini",
        _MINI_BACKBONES,
        {
            "vand": Method(7, 8, _BATCH_DICE),
            "anomalyclip": Method(7, 8, _BATCH_DICE),
            "adaclip": Method(2, 8, {**_BATCH_DICE, "learning_rate": 1e-3}, max_slices=72),
        },
        slices=Slices(every=3),
        train=Train(slices="lesion+6", cache="memory"),
        threshold=Thresholds(max_subjects=2),
        score=Score(background="zero"),
    ),
    "ci": Profile(
        "ci",
        _MINI_BACKBONES,
        {
            "vand": Method(4, 8, _BATCH_DICE),
            "anomalyclip": Method(3, 8, _BATCH_DICE),
            "adaclip": Method(1, 8, {**_BATCH_DICE, "learning_rate": 1e-3}, max_slices=24),
        },
        data=Data(train_cases=3, test_cases=2),
        slices=Slices(every=8),
        train=Train(slices="lesion+3", cache="memory"),
        industrial=Industrial(images=32),
        threshold=Thresholds(max_subjects=1),
        score=Score(background="zero"),
    ),
    "paper": Profile(
        "paper",
        {
            "default": Model("ViT-L-14-336"),
            "anovl": Model("ViT-B-16-plus-240"),
            "pmc": Model("PMC-CLIP"),
            "biomedclip": Model("BiomedCLIP"),
        },
        {
            "vand": Method(15, 8, {"dice": "image"}, industrial="mvtec_pretrained.pth"),
            "anomalyclip": Method(15, 8, {"dice": "image"}, industrial="9_12_4_multiscale/epoch_15.pth"),
            "adaclip": Method(
                5, 1, {"dice": "rows"}, max_subjects=PAPER_ADACLIP_SUBJECTS, industrial="pretrained_mvtec_colondb.pth"
            ),
        },
        data=Data(train_cases=0, test_cases=0),
        slices=Slices(intensity="per-slice-minmax"),
        industrial=Industrial(images=0),
    ),
}  # fmt: skip


def load_profile(source: str | Path) -> Profile:
    """A profile by name, or from a JSON file {"base": NAME, section: {key: value}}.

    Raises UsageError naming the unknown key, section or base, the value of the wrong type, or the file that cannot be read.
    """
    if str(source) in PROFILES:
        return PROFILES[str(source)]
    path = Path(source)
    if path.suffix != ".json":
        raise UsageError(f"profile {str(source)!r} is unknown; choose {', '.join(PROFILES)} or give a .json file")
    try:
        data = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the profile {path}: {error}") from error
    if not isinstance(data, dict) or data.get("base") not in list(PROFILES):
        raise UsageError(f'the profile {path} needs "base": one of {", ".join(PROFILES)}')
    changes = {key: value for key, value in data.items() if key != "base"}
    base = replace(PROFILES[data["base"]], name=str(changes.pop("name", path.stem)))
    return _changed(base, changes, f"profile {path}: ")


def profile_from_dict(data: dict) -> Profile:
    """A profile from `to_dict`; raises UsageError as `load_profile` does."""
    base = Profile(str(data.get("name", "")), {"default": Model()}, {})
    return _changed(base, {key: value for key, value in data.items() if key != "name"}, "profile: ")


def _changed(value, changes: dict, where: str):
    """A dataclass with some fields replaced; nested dataclasses and dictionaries of them are changed inside."""
    if not isinstance(changes, dict):
        raise UsageError(f"{where.rstrip('.: ')} is {changes!r}; expected an object with keys")
    known = typing.get_type_hints(type(value))
    unknown = sorted(set(changes) - set(known))
    if unknown:
        raise UsageError(f"{where}there is no key {unknown[0]!r}; known are {', '.join(known)}")
    new = {}
    for key, given in changes.items():
        old, name = getattr(value, key), f"{where}{key}"
        if is_dataclass(old):
            new[key] = _changed(old, given, f"{name}.")
        elif key in ("backbones", "methods"):
            kind = Model if key == "backbones" else Method
            if not isinstance(given, dict):
                raise UsageError(f"{name} is {given!r}; expected an object with keys")
            new[key] = {**old, **{k: _changed(old.get(k, kind()), v, f"{name}.{k}.") for k, v in given.items()}}
        else:
            new[key] = _typed(given, known[key], name)
    return replace(value, **new)


def _typed(given, hint, name: str):
    """The JSON value as the field's type; raises UsageError when it is another one."""
    if isinstance(given, list):
        given = tuple(given)
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    for kind in typing.get_args(hint) if union else (hint,):
        base = typing.get_origin(kind) or kind
        if isinstance(given, bool) and base is not bool:
            continue
        if base is float and isinstance(given, (int, float)) and math.isfinite(given):
            return float(given)
        if isinstance(given, base):
            if base is tuple:
                return tuple(_typed(item, typing.get_args(kind)[0], f"{name}[{i}]") for i, item in enumerate(given))
            return given
    raise UsageError(f"{name} is {given!r}; expected {getattr(hint, '__name__', str(hint).replace('typing.', ''))}")
