"""The figures of a benchmark run, each drawn from finished rows only."""

from __future__ import annotations

from ..tables import Numbers
from .boxes import dice_boxes
from .drawing import Drawing, save, style

__all__ = ["FIGURES", "Drawing", "draw_all", "save", "style"]

FIGURES = {"fig1-dice": dice_boxes}


def draw_all(numbers: Numbers) -> list[Drawing]:
    """Every figure the run has data for, in the order of FIGURES; call within `style()`."""
    return [drawing for draw in FIGURES.values() if (drawing := draw(numbers)) is not None]
