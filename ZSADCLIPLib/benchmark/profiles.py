"""Benchmark profiles by name or from a JSON file that names a base profile and the keys it changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..datasets.splits import PAPER_ADACLIP_SUBJECTS
from ..errors import UsageError
from ..fields import from_dict
from ..files.text import parse_json
from .settings import (
    BackboneChoice,
    Data,
    Industrial,
    MethodSettings,
    Profile,
    Score,
    Slices,
    Thresholds,
    TrainingSettings,
)

_MINI_BACKBONES = {"default": BackboneChoice("mini"), "pmc": BackboneChoice("mini-rn")}
_BATCH_DICE = {"dice": "batch"}

PROFILES: dict[str, Profile] = {
    "mini": Profile(
        "mini",
        _MINI_BACKBONES,
        {
            "vand": MethodSettings(7, 8, _BATCH_DICE),
            "anomalyclip": MethodSettings(7, 8, _BATCH_DICE),
            "adaclip": MethodSettings(2, 8, {**_BATCH_DICE, "learning_rate": 1e-3}, max_slices=72),
            "mediclip": MethodSettings(7, 8, {**_BATCH_DICE, "temperature": 10.0}),
            "mvfa": MethodSettings(4, 8, {**_BATCH_DICE, "learning_rate": 1e-3}, max_slices=144),
            "madclip": MethodSettings(7, 8, {**_BATCH_DICE, "temperature": 10.0}),
        },
        slices=Slices(every=3),
        train=TrainingSettings(slices="lesion+6", cache="memory"),
        threshold=Thresholds(max_subjects=2),
        score=Score(background="zero"),
    ),
    "ci": Profile(
        "ci",
        _MINI_BACKBONES,
        {
            "vand": MethodSettings(4, 8, _BATCH_DICE),
            "anomalyclip": MethodSettings(3, 8, _BATCH_DICE),
            "adaclip": MethodSettings(1, 8, {**_BATCH_DICE, "learning_rate": 1e-3}, max_slices=24),
            "mediclip": MethodSettings(3, 8, {**_BATCH_DICE, "temperature": 10.0}),
            "mvfa": MethodSettings(1, 8, {**_BATCH_DICE, "learning_rate": 1e-3}, max_slices=24),
            "madclip": MethodSettings(3, 8, {**_BATCH_DICE, "temperature": 10.0}),
        },
        data=Data(train_cases=3, test_cases=2),
        slices=Slices(every=8),
        train=TrainingSettings(slices="lesion+3", cache="memory"),
        industrial=Industrial(images=32),
        threshold=Thresholds(max_subjects=1),
        score=Score(background="zero"),
    ),
    "paper": Profile(
        "paper",
        {
            "default": BackboneChoice("ViT-L-14-336"),
            "anovl": BackboneChoice("ViT-B-16-plus-240"),
            "winclip": BackboneChoice("ViT-B-16-plus-240"),
            "pmc": BackboneChoice("PMC-CLIP"),
            "biomedclip": BackboneChoice("BiomedCLIP"),
        },
        {
            "vand": MethodSettings(15, 8, {"dice": "image"}, industrial="mvtec_pretrained.pth"),
            "anomalyclip": MethodSettings(15, 8, {"dice": "image"}, industrial="9_12_4_multiscale/epoch_15.pth"),
            "adaclip": MethodSettings(
                5, 1, {"dice": "rows"}, max_subjects=PAPER_ADACLIP_SUBJECTS, industrial="pretrained_mvtec_colondb.pth"
            ),
        },
        data=Data(train_cases=0, test_cases=0),
        slices=Slices(intensity="per-slice-minmax"),
        industrial=Industrial(images=0),
    ),
}  # fmt: skip
_PAPER = PROFILES["paper"]
PROFILES["extended"] = replace(
    _PAPER,
    name="extended",
    methods=_PAPER.methods
    | {"mvfa": MethodSettings(5, 1, max_subjects=PAPER_ADACLIP_SUBJECTS), "mediclip": MethodSettings(15, 8)}
    | {"madclip": MethodSettings(15, 16)},
    rows="extended",
    industrial=Industrial(),
)
"""The paper's settings for every method in its setups; methods without a published industrial file train one here.

MVFA-AD, whose training is as dear as AdaCLIP's, has its epochs and its subjects, not the authors' 50 epochs. MediCLIP's 200
epochs and MadCLIP's 60 are of few images; here are thousands.
"""


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
    values = {"name": path.stem, **{key: value for key, value in data.items() if key != "base"}}
    return from_dict(Profile, values, f"profile {path}:", PROFILES[data["base"]])
