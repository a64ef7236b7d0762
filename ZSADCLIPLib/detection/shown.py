"""A detection shows itself: in notebooks, as a figure for papers, and as a widget with three planes."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DependencyError, number_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEADS = ("", "ml", "peak", "mean", "side", "slices", "peak, RAS mm")


class Shown:
    """What `detector.Detection` shows of itself; needs nothing but its fields."""

    def plot(self, slices: Sequence[int] | None = None, truth: np.ndarray | None = None, title: str = "") -> Figure:
        """A figure with a row per slice: image, map, outlines; save it with `savefig("figure.pdf")`.

        `slices` count along the scored plane and are the most abnormal ones unless given; `truth` is bool (I, J, K). Raises
        InputError when the truth has another shape.
        """
        from .pictures import figure_of

        return figure_of(self, truth, slices, title or self.map.name)

    def view(self, threshold: float | None = None, height: int = 500):
        """A widget with three planes and the map over them, for notebooks; colours begin at `threshold`, the stored one unless
        given.

        Raises DependencyError without ipyniivue.
        """
        try:
            from ipyniivue import NiiVue, ShowRender
        except ImportError as error:
            raise DependencyError("view() needs ipyniivue: pip install ipyniivue; plot() needs nothing more") from error
        grey = self.map.with_array(np.ascontiguousarray(self.stack.restore(self.image)))
        widget = NiiVue(height=height, multiplanar_show_render=ShowRender.NEVER)
        low = self.threshold if threshold is None else threshold
        widget.load_volumes(
            [
                {"name": "image.nii", "data": _nifti(grey), "colormap": "gray"},
                {
                    **{"name": "map.nii", "data": _nifti(self.map), "colormap": "inferno", "opacity": 0.6},
                    **{"cal_min": low, "cal_max": max(self.display["hi"], low), "colormap_type": 1},
                },
            ]
        )
        return widget

    def _repr_html_(self) -> str:
        """Picture and findings, self-contained, so that a saved notebook still shows them."""
        data = BytesIO()
        self.plot().savefig(data, format="png")
        picture = f"data:image/png;base64,{b64encode(data.getvalue()).decode('ascii')}"
        head = (
            f"{self.map.name or 'A volume'}: score {self.volume_score:.3f}, {number_of(len(self.findings), 'finding')}"
        )
        notes = "".join(f"<li>{escape(note.text)}</li>" for note in self.notes)
        return (
            f"<p><strong>{escape(head)}</strong>, threshold {self.threshold:.4g} ({escape(self.threshold_rule)}). "
            "Research use only, not for diagnosis.</p>"
            f'<img src="{picture}" alt="Slices with the anomaly map and the outlines of findings" style="max-width: 100%">'
            f"{self._table()}<ul>{notes}</ul>"
        )

    def _table(self) -> str:
        if not self.findings:
            return "<p>No finding above the threshold.</p>"
        head = "".join(f"<th>{name}</th>" for name in HEADS)
        rows = []
        for each in self.findings:
            place = ", ".join(f"{x:.0f}" for x in each.peak_ras)
            cells = (each.rank, f"{each.volume_mm3 / 1000:.2f}", f"{each.peak:.3f}", f"{each.mean:.3f}", each.side)
            cells += (f"{each.slices[0]}-{each.slices[1]}", place)
            rows.append("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in cells) + "</tr>")
        return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _nifti(volume) -> bytes:
    """A volume as the bytes of a NIfTI file, float32 or uint8."""
    import nibabel

    kind = np.uint8 if volume.array.dtype == np.uint8 else np.float32
    return nibabel.Nifti1Image(volume.array.astype(kind), volume.affine).to_bytes()
