"""What rows see as frozen data: a model, what is read of a case, and cells that are compared."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone, where it computes, and what tells the contents of its config (`model_id`) and weights apart."""

    name: str | dict
    weights: str | None = None
    activation: str | None = None
    device: str = "auto"
    precision: str = "float32"
    weights_dir: str | None = None
    model_id: str | dict | None = None
    weights_id: str | None = None


@dataclass(frozen=True)
class DataSpec:
    """What is read of a case: its channel, the target, further ignored labels, and how doubts are settled (`read_case`)."""

    channel: str = "t2w"
    target: str = "wt"
    ignore: tuple[int, ...] = ()
    placement: str | None = None
    allow: tuple[str, ...] = ()


@dataclass(frozen=True)
class CellSpec:
    """Cells of volumes that are compared: `method` bank, or cohort, whose sides are compared each with itself.

    `tokens` are the fields of `neighbours.tokens.TokenSettings`, `settings` what else says how cells are scored, both as JSON;
    `train` and `test` are ids. Scores go to `folder`, and tokens, which several rows share, to `token_folder`.
    """

    folder: str
    token_folder: str
    method: str
    backbone: BackboneSpec
    data: DataSpec
    tokens: dict
    settings: dict
    train: tuple[str, ...]
    test: tuple[str, ...]
