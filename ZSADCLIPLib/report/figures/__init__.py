"""The figures of a benchmark run, each drawn from finished rows only."""

from __future__ import annotations

from functools import partial

from ..numbers import Numbers
from .answer import best_rows
from .boxes import dice_boxes
from .distance import dice_over_distance, lesions_over_distance
from .drawing import Drawing, save, style
from .evidence import volumetric_evidence
from .froc import froc_curves
from .gap import gap_bars
from .learning import learning_curves
from .qualitative import KINDS, qualitative
from .rules import ranking, thresholds
from .slices import slices_and_volumes

__all__ = ["FIGURES", "Drawing", "draw_all", "save", "style"]

FIGURES = {
    "answer": best_rows,
    "fig1-dice": dice_boxes,
    "fig2-slices": slices_and_volumes,
    "fig3-distance": dice_over_distance,
    "gap": gap_bars,
    "evidence": volumetric_evidence,
    "thresholds": thresholds,
    "ranking": ranking,
    "froc": froc_curves,
    **{f"qualitative-{kind}": partial(qualitative, kind=kind) for kind in KINDS},
    "learning": learning_curves,
    "appendix-b-lesions": lesions_over_distance,
}


def draw_all(numbers: Numbers) -> list[Drawing]:
    """Every figure the run has data for, in the order of FIGURES; call within `style()`."""
    return [drawing for draw in FIGURES.values() if (drawing := draw(numbers)) is not None]
