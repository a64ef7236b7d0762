"""The slice profile of a result: the highest score of every slice over its position, as table, series and chart."""

from __future__ import annotations

import json

import numpy as np
import slicer
from slicer.i18n import tr as _

AXIS = {"axial": 2, "coronal": 1, "sagittal": 0}
SERIES = (("Highest score", (0.05, 0.45, 0.75)), ("Threshold", (0.85, 0.2, 0.15)), ("Findings", (0.95, 0.6, 0.0)))


def create(result) -> None:
    """Make the table, the three series and the chart of a result."""
    name = result.input.GetName()
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", name)
    chart = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotChartNode", name)
    for column, color in SERIES:
        series = slicer.vtkMRMLPlotSeriesNode()
        series.SetName(_seriesName(column))
        series.SetHideFromEditors(True)  # the chart shows them; in the Data tree they are clutter
        series = slicer.mrmlScene.AddNode(series)
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetXColumnName("Position")
        series.SetYColumnName(column)
        series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
        series.SetColor(*color)
        findings = column == "Findings"
        series.SetMarkerStyle(
            slicer.vtkMRMLPlotSeriesNode.MarkerStyleDiamond
            if findings
            else slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone
        )
        series.SetMarkerSize(12)
        series.SetLineStyle(
            slicer.vtkMRMLPlotSeriesNode.LineStyleNone if findings else slicer.vtkMRMLPlotSeriesNode.LineStyleSolid
        )
        chart.AddAndObservePlotSeriesNodeID(series.GetID())
    chart.SetXAxisTitle(_("Position (mm)"))
    chart.SetYAxisTitle(_("Anomaly score"))
    result.link("profile", table)
    result.link("chart", chart)


def _seriesName(column: str) -> str:
    return {"Highest score": _("Highest score"), "Threshold": _("Threshold"), "Findings": _("Findings")}[column]


def update(result, rows: list[dict]) -> None:
    """Fill the table: one row a slice; findings stand at the slice of their peak, elsewhere the column is empty (nan)."""
    if result.profile is None or result.chart is None:  # deleted by the user
        return
    stack, axis = result.stack, AXIS[result.attribute("Plane", "axial")]
    count = stack.shape[0]
    highest = stack.arrange(result.inside.T).max(axis=(1, 2))
    lowest = float(result.volume.array.min())
    marks = np.full(count, np.nan)
    for row in rows:
        if row["Accepted"]:
            at = stack.index(row["Peak I"], row["Peak J"], row["Peak K"])[0]
            marks[at] = np.nanmax([marks[at], row["Peak"]])
    positions = np.array([(result.volume.affine @ [*centreVoxel(stack, n), 1.0])[axis] for n in range(count)])
    scores = np.asarray(json.loads(result.attribute("SliceScores", "[]")), float)
    columns = {
        "Slice": np.arange(count, dtype=float),
        "Position": positions,
        "Highest score": np.where(np.isfinite(highest), highest, lowest),
        "Threshold": np.full(count, result.threshold),
        "Findings": marks,
        "Slice score": scores if len(scores) == count else np.full(count, np.nan),
    }
    slicer.util.updateTableFromArray(result.profile, tuple(columns.values()), tuple(columns))
    result.chart.SetTitle(result.chart.GetName())


def centreVoxel(stack, number: int) -> tuple[int, int, int]:
    """The voxel in the middle of a slice."""
    return stack.voxel(number, stack.shape[1] // 2, stack.shape[2] // 2)


def worldOfSlice(result, number: int) -> tuple[float, float, float]:
    """Where to jump for a slice of the profile: its highest score inside the brain, RAS mm in the world."""
    from .geometry import worldOf

    scores = result.stack.arrange(result.inside.T)[number]
    row, column = np.unravel_index(int(scores.argmax()), scores.shape)
    return worldOf(result.map, result.stack.voxel(number, row, column))
