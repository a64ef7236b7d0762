"""What a client may ask of a server: names and numbers that the panel of Slicer offers, never a path."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

from ..adapters import DEFAULT_METHOD, METHODS
from ..backbones import BACKBONES
from ..fields import AtLeast, AtMost, OneOf
from ..files.packaged import PROMPTS
from ..notes import DOUBTS
from ..volumes.components import LEAST_DEPTH_MM, SMALLEST_MM3
from ..volumes.fusion import FUSIONS
from ..volumes.slicing import PLANES

API = 1
"""The version of what client and server say to each other."""
IMAGE, BRAIN, OUT = "input.nii", "brain.nii", "out"
"""Names on the server, whatever the files were called on the client."""
RESULTS = ("input.json", "input_anomaly.nii", "input_mask.nii", "summary.csv")
"""Files that a server gives and a client takes."""
HEADER = "X-ZSADCLIP-Api"
"""The header of every answer; one without it comes from something else, such as a proxy."""


@dataclass(frozen=True)
class Text:
    """Limit: a text of a form, which `words` describe."""

    pattern: str
    words: str

    def allows(self, value: str) -> bool:
        return re.fullmatch(self.pattern, value) is not None

    def __str__(self) -> str:
        return f"expected {self.words}"


@dataclass(frozen=True)
class Distinct:
    """Limit: nothing twice, so that a list is no longer than what there is to choose from."""

    def allows(self, value: tuple) -> bool:
        return len(set(value)) == len(value)

    def __str__(self) -> str:
        return "expected each once"


NUMBER = r"[-+]?\d{1,6}(\.\d{0,15})?([eE][-+]?\d{1,2})?"
CUT = Text(
    rf"checkpoint|(fixed:)?{NUMBER}|quantile:0?\.\d{{1,9}}", "checkpoint, a number, or quantile:Q with 0 < Q < 1"
)
NAME = Text(r"\w[\w ,'-]{0,59}", "letters, digits, spaces, commas and dashes, 60 at most")
PROMPT_SETS = tuple(sorted(path.stem for path in PROMPTS.glob("*.json")))


@dataclass(frozen=True)
class RemoteSettings:
    """The settings of a detection that a client may choose; the meaning is that of `jobs.detect.Detect`."""

    method: Annotated[str, OneOf(tuple(METHODS))] = DEFAULT_METHOD
    backbone: Annotated[str, OneOf(("auto", *BACKBONES))] = "auto"
    object_name: Annotated[str, NAME] | None = None
    prompts: Annotated[str, OneOf(PROMPT_SETS)] | None = None
    plane: Annotated[str, OneOf(("auto", *PLANES))] = "auto"
    planes: Annotated[tuple[Annotated[str, OneOf(tuple(PLANES))], ...], Distinct()] = ()
    fuse: Annotated[str, OneOf(FUSIONS)] = FUSIONS[0]
    smooth_mm: Annotated[float, AtLeast(0), AtMost(100)] | None = None
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    batch_size: Annotated[int, OneOf((1, 2, 4, 8, 16, 32, 64))] | Literal["auto"] = "auto"
    threshold: Annotated[str, CUT] = "checkpoint"
    min_size_mm3: Annotated[float, AtLeast(0), AtMost(100_000)] = SMALLEST_MM3
    min_depth_mm: Annotated[float, AtLeast(0), AtMost(1000)] = LEAST_DEPTH_MM
    allow: Annotated[tuple[Annotated[str, OneOf(DOUBTS)], ...], Distinct()] = ()

    def job(self, image: Path, brain: Path | None, output: Path) -> dict:
        """The job that does it, with files of the server."""
        fixed = {"job": "detect", "inputs": [str(image)], "output": str(output), "pictures": False, "compress": False}
        return {**fixed, **asdict(self), "brain_mask": str(brain) if brain else None}
