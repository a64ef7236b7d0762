"""Pictures of a result: the slices that matter, with the map over them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from textwrap import wrap
from threading import Lock

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from ..errors import InputError, UsageError
from ..files.atomic import atomic_path
from ..notes import SEVERITIES, Note
from ..volumes.components import bounds

CAPTION = "Research use only, not for diagnosis"
COLOURS = "inferno"
MASK_COLOUR, TRUTH_COLOUR = "#00e5ff", "#76ff03"
SIDES = {"axial": ("R", "L"), "coronal": ("R", "L"), "sagittal": ("A", "P")}
MAX_OPACITY = 0.75
WIDTH_INCHES, GAP_INCHES, DPI = 2.6, 0.05, 110
LINE_INCHES, LINE_LETTERS = 0.14, 150
COMPRESSION = 2  # of PNG, at most 9: half the time of the usual 6, and pictures of slices are not larger
_DRAWING = Lock()  # matplotlib is made for one thread
NOTE_COLOURS = {"info": "#444444", "warning": "#b00020", "error": "#b00020"}


def display(map: np.ndarray, lo: float, hi: float) -> np.ndarray:
    """Raw scores as 0..1 for the colour scale: linear from `lo` to `hi`, clipped outside, so monotone and comparable.

    Raises UsageError unless lo < hi.
    """
    if not lo < hi:
        raise UsageError(f"the display range {lo} to {hi} is not low < high; give the raw scores of the scale's ends")
    return np.clip((np.asarray(map, np.float32) - lo) / (hi - lo), 0, 1)


def top_slices(
    map: np.ndarray,
    mask: np.ndarray | None = None,
    count: int = 4,
    gap: int | None = None,
    brain: np.ndarray | None = None,
) -> list[int]:
    """The slices of a map (N, R, C) that matter most, most abnormal first, no two closer than `gap`.

    The default gap, a sixteenth of the slices, lets several findings show instead of one from all sides. Ordered by the
    sum of the scores above the lowest one in the mask, where there is one, then by its area, and by the 99.9th percentile
    of the slice for the rest. Outside `brain`, where it is given, the map counts as its lowest score.
    """
    lowest = None if brain is None else map.min()

    def seen(at) -> np.ndarray:
        return map[at] if brain is None else np.where(brain[at], map[at], lowest)

    area = inside = np.zeros(len(map))
    if mask is not None and mask.any():
        box = bounds(mask)
        scores, marked = seen(box), mask[box].astype(bool)
        area, inside = area.copy(), inside.copy()
        area[box[0]] = np.count_nonzero(marked, axis=(1, 2))
        inside[box[0]] = np.where(marked, scores - scores[marked].min(), 0).sum(axis=(1, 2), dtype=np.float64)
    gap = max(1, len(map) // 16) if gap is None else gap
    chosen: list[int] = []
    for n in _best_first(seen, area, inside):
        if all(abs(int(n) - other) >= gap for other in chosen):
            chosen.append(int(n))
        if len(chosen) == count:
            break
    return chosen


def _best_first(seen: Callable[[np.ndarray], np.ndarray], area: np.ndarray, inside: np.ndarray) -> Iterator[int]:
    """Slices in the order of `top_slices`; percentiles are taken only of those that nothing else tells apart."""
    order = np.lexsort((-area, -inside))
    ends = np.flatnonzero((np.diff(inside[order]) != 0) | (np.diff(area[order]) != 0)) + 1
    for group in np.split(order, ends):
        if len(group) > 1:
            score = np.percentile(seen(group).reshape(len(group), -1), 99.9, axis=1)
            group = group[np.argsort(-score, kind="stable")]
        yield from group


def montage(path: str | os.PathLike, image: np.ndarray, map: np.ndarray, *more, **choices) -> None:
    """Write the figure of `montage_figure` as a PNG, complete or not at all."""
    with _DRAWING:
        _save(montage_figure(image, map, *more, **choices), path)


def montage_figure(
    image: np.ndarray,
    map: np.ndarray,
    mask: np.ndarray | None = None,
    truth: np.ndarray | None = None,
    *,
    brain: np.ndarray | None = None,
    spacing: Sequence[float] = (1.0, 1.0),
    slices: Sequence[int] | None = None,
    display_range: tuple[float, float] = (0.0, 1.0),
    sides: tuple[str, str] = ("", ""),
    title: str = "",
    notes: Sequence[Note] = (),
) -> Figure:
    """A figure with a row per slice: the image, the map over it, and the outlines of the mask and the truth.

    `image` is uint8 (N, R, C), `map` raw scores, `mask` and `truth` bool of the same shape; the map is drawn inside
    `brain`, where it is given; `spacing` is (row, column) in mm; `slices` are chosen by `top_slices` unless given; `sides`
    letters the left and right edge; `notes` stand below the title, the grave ones first. Colour and opacity follow
    `display`, and the colour bar carries raw scores. Raises InputError if the shapes differ.
    """
    for name, array in (("map", map), ("mask", mask), ("truth", truth), ("brain", brain)):
        if array is not None and array.shape != image.shape:
            raise InputError(f"the {name} of shape {array.shape} does not fit the slices {image.shape}")
    inside = np.ones(map.shape, bool) if brain is None else brain.astype(bool)
    slices = top_slices(map, mask, brain=inside) if slices is None else list(slices)
    height = np.clip(WIDTH_INCHES * image.shape[1] * spacing[0] / (image.shape[2] * spacing[1]), 0.6, 6)
    lines = list(_note_lines(notes))
    head = 0.58 + LINE_INCHES * len(lines)
    size = (3 * WIDTH_INCHES + 1.1, len(slices) * (height + GAP_INCHES) + head + 0.37)
    figure = Figure(figsize=size, dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    total = figure.get_figheight()
    axes = figure.subplots(1, 3)
    right, top = 1 - 0.85 / figure.get_figwidth(), 1 - head / total
    figure.subplots_adjust(left=0.02, right=right, bottom=0.32 / total, top=top, wspace=0.02)
    gap, aspect = max(1, round(GAP_INCHES / height * image.shape[1])), spacing[0] / spacing[1]
    scale = ScalarMappable(Normalize(*display_range), COLOURS)
    scores = display(_column(map[slices], gap), *display_range)
    overlay = scale.get_cmap()(scores)
    overlay[..., 3] = MAX_OPACITY * scores * _column(inside[slices], gap)
    outlines = "mask" if truth is None else "mask, truth dashed"
    for axis, text in zip(axes, ("image", "anomaly map", outlines), strict=True):
        axis.set_axis_off()
        axis.set_title(text, fontsize=8, y=1)  # given a place, it does not ask the ticks for theirs
        shown = _column(image[slices], gap, 255)
        axis.imshow(shown, cmap="gray", vmin=0, vmax=255, aspect=aspect, interpolation="nearest")
    axes[1].imshow(overlay, aspect=aspect, interpolation="nearest")
    for marked, colour, style in ((mask, MASK_COLOUR, "solid"), (truth, TRUTH_COLOUR, "dashed")):
        if marked is not None:
            _outline(axes[2], _column(marked[slices].astype(bool), gap), colour, style)
    for place, n in enumerate(slices):
        _label(axes[0], n, sides, place * (image.shape[1] + gap), image.shape[1:])
    _colour_bar(figure, scale, head)
    figure.suptitle(title, fontsize=9, y=1 - 0.1 / total, va="top")
    for n, (line, colour) in enumerate(lines):
        y = 1 - (0.3 + n * LINE_INCHES) / total
        figure.text(0.02, y, line, va="top", fontsize=7, color=colour, parse_math=False)
    figure.text(0.5, 0.1 / total, CAPTION, ha="center", va="bottom", fontsize=7, color="#444444")
    return figure


def montage_of(path: str | os.PathLike, detection, truth: np.ndarray | None = None, title: str = "") -> None:
    """Write the montage of a `Detection`; `truth` is bool (I, J, K) on the volume's grid."""
    with _DRAWING:
        _save(figure_of(detection, truth, title=title), path)


def figure_of(
    detection, truth: np.ndarray | None = None, slices: Sequence[int] | None = None, title: str = ""
) -> Figure:
    """The montage of a `Detection` as a figure; `truth` is bool (I, J, K) on the volume's grid."""
    stack = detection.stack
    return montage_figure(
        detection.image,
        stack.arrange(detection.map.array),
        stack.arrange(detection.mask.array) > 0,
        None if truth is None else stack.arrange(truth),
        brain=stack.arrange(detection.brain),
        spacing=stack.spacing[:2],
        slices=slices,
        display_range=(detection.display["lo"], detection.display["hi"]),
        sides=SIDES[stack.plane],
        title=title,
        notes=detection.notes,
    )


def _save(figure: Figure, path: str | os.PathLike) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", pil_kwargs={"compress_level": COMPRESSION})


def _column(slices: np.ndarray, gap: int, between: int = 0) -> np.ndarray:
    """Slices (n, R, C) one below the other, (n R + (n - 1) gap, C): three axes are drawn sooner than three a slice."""
    padded = np.pad(slices, ((0, 0), (0, gap), (0, 0)), constant_values=between)
    return padded.reshape(-1, slices.shape[2])[:-gap]


def _label(axis, n: int, sides: tuple[str, str], first: int, shape: tuple[int, int]) -> None:
    """Number and sides on the slice of that shape whose rows of a column begin at `first`."""
    style = {"color": "white", "path_effects": [withStroke(linewidth=2, foreground="black")]}  # also on a bright skull
    rows, columns = shape
    axis.text(0.03 * columns, first + 0.03 * rows, f"slice {n}", fontsize=7, va="top", **style)
    for share, side in zip((0.03, 0.97), sides, strict=True):
        axis.text(share * columns, first + rows / 2, side, fontsize=8, ha="center", va="center", **style)


def _note_lines(notes: Sequence[Note]) -> Iterator[tuple[str, str]]:
    """The lines of notes below a title, the grave ones first, each with its colour."""
    for severity in reversed(SEVERITIES):
        for note in notes:
            if note.severity == severity:
                text = note.text if severity == "info" else f"{severity}: {note.text}"
                yield from ((line, NOTE_COLOURS[severity]) for line in wrap(text, LINE_LETTERS))


def _colour_bar(figure: Figure, scale: ScalarMappable, head: float) -> None:
    width, height = figure.get_figwidth(), figure.get_figheight()
    box = figure.add_axes((1 - 0.75 / width, 0.32 / height, 0.12 / width, 1 - (head + 0.32) / height))
    bar = figure.colorbar(scale, cax=box, extend="both")
    bar.ax.tick_params(labelsize=7)
    bar.set_label("raw anomaly score", fontsize=7)


def _outline(axis, mask: np.ndarray, colour: str, style: str) -> None:
    if not mask.any():
        return
    padded = np.pad(mask.astype(float), 1)
    rows, columns = (np.arange(-1, size - 1) for size in padded.shape)
    axis.contour(columns, rows, padded, [0.5], colors=[colour], linewidths=1.0, linestyles=style)
    axis.set_xlim(-0.5, mask.shape[1] - 0.5)
    axis.set_ylim(mask.shape[0] - 0.5, -0.5)
