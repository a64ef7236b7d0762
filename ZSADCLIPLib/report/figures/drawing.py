"""What every figure shares: look, colours that colour-blind readers tell apart, and files with the same bytes each time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ...adapters.registry import METHODS
from ...benchmark.rows import METHOD_LABELS, SETUP_LABELS
from ...files.atomic import atomic_path
from ...files.text import write_csv
from ..typeset import plain

DPI = 150
ENTRY = 1.45  # inches that an entry of a legend takes
LEAST_WIDTH = 6.0  # inches, so that a legend fits above a single panel
# Okabe and Ito's palette (Color Universal Design, 2008); markers differ as well.
SETUP_COLOURS = {
    "industrial": "#0072B2",
    "finetune": "#E69F00",
    "brats": "#009E73",
    "pmc": "#CC79A7",
    "biomedclip": "#56B4E9",
    "healthy": "#999933",
    "few-shot": "#AA4499",
    "context-brats": "#D55E00",
    "smooth-brats": "#882255",
    "planes-brats": "#332288",
    "volume": "#999933",
    "baseline": "#666666",
}
SETUP_MARKERS = {"industrial": "o", "finetune": "s", "brats": "^", "pmc": "D", "biomedclip": "v", "baseline": "P"}
SETUP_MARKERS |= {
    "healthy": "d",
    "few-shot": "h",
    "context-brats": "X",
    "smooth-brats": "p",
    "planes-brats": "*",
    "volume": "<",
}
BLUE, VERMILION, YELLOW, GREY = "#0072B2", "#D55E00", "#F0E442", "#666666"
METHOD_COLOURS = {name: METHODS[name].colour if name in METHODS else GREY for name in METHOD_LABELS}
_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "text.parse_math": False,  # names from files may hold dollar signs
    "svg.hashsalt": "zsadclip",
    "figure.facecolor": "white",
}


@dataclass(frozen=True)
class Drawing:
    """A figure with what a reader needs beside it.

    `caption` names threshold rule and n; `alt` says in words what the picture shows; `data` are the plotted numbers;
    `raster` pictures are embedded as PNG; `section` is the heading in the report; one that `fits` may be
    as narrow as a phone.
    """

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure
    data: list[dict]
    raster: bool = False
    section: str = ""
    fits: bool = False


@contextmanager
def style() -> Iterator[None]:
    """The look of all figures, to be active while they are drawn and saved."""
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **_STYLE, "backend": "Agg"}):
        yield


def canvas(
    width: float, height: float, rows: int = 1, columns: int = 1, layout: str = "constrained", **options
) -> tuple[Figure, list[list[Axes]]]:
    """A figure of this size in inches with a grid of axes, independent of any screen."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **options).tolist()


def panels(count: int, columns: int, width: float, height: float, **options) -> tuple[Figure, list[Axes], list[Axes]]:
    """A figure of `count` panels of this size in inches, in lines of at most `columns`: (figure, panels, those with none below).

    `options` as of `canvas`.
    """
    across = min(count, columns)
    lines = -(-count // across)
    figure, axes = canvas(max(LEAST_WIDTH, width * across), height * lines, lines, across, **options)
    flat = [axis for line in axes for axis in line]
    for axis in flat[count:]:
        axis.remove()
    lowest = flat[max(0, count - across) : count]
    for axis in lowest:
        axis.tick_params(labelbottom=True)  # sharing axes take it from all but the last line
    return figure, flat[:count], lowest


def save(drawing: Drawing, folder: Path) -> dict[str, Path]:
    """Write NAME.png, NAME.svg and NAME.csv; the paths by suffix. No file holds a date."""
    paths = {suffix: folder / f"{drawing.name}.{suffix}" for suffix in ("png", "svg", "csv")}
    with atomic_path(paths["png"]) as temporary:
        drawing.figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})
    drawing.figure.set_layout_engine("none")  # laid out once, so that both files show the same
    with atomic_path(paths["svg"]) as temporary:
        metadata = {"Date": None, "Creator": None, "Title": drawing.title}
        drawing.figure.savefig(temporary, format="svg", metadata=metadata)
    rows = [{key: plain(value) for key, value in row.items()} for row in drawing.data]
    write_csv(paths["csv"], rows or [{"note": "nothing to draw"}])
    return paths


def setup_legend(figure: Figure, setups: list[str], *further) -> None:
    """A legend above the axes: the setups that occur, in their own order, and further handles."""
    handles = [
        Line2D([], [], color=SETUP_COLOURS[s], marker=SETUP_MARKERS[s], ms=5, label=SETUP_LABELS[s])
        for s in SETUP_LABELS
        if s in setups
    ]
    legend_above(figure, [*handles, *further])


def legend_above(figure: Figure, handles: list) -> None:
    """A legend above the axes, in as many lines as it needs."""
    columns = max(1, min(len(handles), int(figure.get_figwidth() / ENTRY)))
    figure.legend(handles=handles, loc="outside upper center", ncols=columns)
