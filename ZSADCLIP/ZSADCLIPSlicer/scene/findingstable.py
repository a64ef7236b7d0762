"""The findings of a result as a MRML table: what the panel lists, what is exported, and which ones were rejected."""

from __future__ import annotations

import csv
import json

import numpy as np
import slicer

from ZSADCLIPLib.files.atomic import atomic_path

COLUMNS = {  # name -> (type of the column, unit)
    "Rank": (int, ""),
    "Accepted": (int, ""),
    "Volume": (float, "mm3"),
    "Peak": (float, ""),
    "Mean": (float, ""),
    "First slice": (int, ""),
    "Last slice": (int, ""),
    "Side": (str, ""),
    "R": (float, "mm"),
    "A": (float, "mm"),
    "S": (float, "mm"),
    "Peak I": (int, ""),
    "Peak J": (int, ""),
    "Peak K": (int, ""),
    "Label": (int, ""),
}
VERDICTS = "ZSADCLIP.Verdicts"


def update(node, findings, labels: np.ndarray, affine: np.ndarray) -> list[dict]:
    """Write the engine's findings into the table; returns its rows.

    A finding is rejected when all peaks in it that were judged before were rejected, so a part that grows together with an
    accepted one is never lost. `labels` (I, J, K) are the components of the mask.
    """
    verdicts = _verdicts(node)
    judged: dict[int, list[bool]] = {}
    for peak, accepted in verdicts.items():
        if any(at >= size for at, size in zip(peak, labels.shape, strict=True)):
            continue  # of a larger image that the volume held before
        judged.setdefault(int(labels[peak]), []).append(accepted)
    toVoxel = np.linalg.inv(affine)
    rows = []
    for finding in findings:
        peak = np.rint(toVoxel @ [*finding.peak_ras, 1.0])[:3].astype(int)
        known = judged.get(finding.label, [])
        values = (finding.rank, int(any(known) or not known), finding.volume_mm3, finding.peak, finding.mean,
                  *finding.slices, finding.side, *finding.centroid_ras, *map(int, peak), finding.label)  # fmt: skip
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    _write(node, rows)
    return rows


def rowsOf(node) -> list[dict]:
    """The rows of the table, by rank."""
    table = node.GetTable()
    if table.GetNumberOfColumns() != len(COLUMNS):
        return []
    read = {int: "ToInt", float: "ToDouble", str: "ToString"}  # as text, numbers would lose digits
    rows = []
    for index in range(table.GetNumberOfRows()):
        rows.append({n: getattr(table.GetValueByName(index, n), read[kind])() for n, (kind, _unit) in COLUMNS.items()})
    return rows


def diameterOf(row: dict) -> float:
    """The diameter of a sphere with the volume of a finding, mm."""
    return float((6 * row["Volume"] / np.pi) ** (1 / 3))


def placeOf(row: dict) -> str:
    """The centroid of a finding in the patient as Slicer's data probe writes places: letter and mm."""
    places = zip("RAS", "LPI", (round(row[axis]) for axis in "RAS"), strict=True)
    return " ".join(f"{plus if value >= 0 else minus}{abs(value)}" for plus, minus, value in places)


def setAccepted(node, rank: int, accepted: bool) -> None:
    """Judge one finding; the others keep what they are, so that a later threshold can tell them apart."""
    verdicts = _verdicts(node)
    for row in rowsOf(node):
        peak = (row["Peak I"], row["Peak J"], row["Peak K"])
        verdicts[peak] = accepted if row["Rank"] == rank else bool(row["Accepted"])
    if all(verdicts.values()):
        verdicts = {}
    node.SetAttribute(VERDICTS, json.dumps([[*peak, value] for peak, value in verdicts.items()]))


def verdictsOf(node) -> str:
    """All verdicts as text, for `setVerdicts`."""
    return node.GetAttribute(VERDICTS) or "[]"


def setVerdicts(node, verdicts: str) -> None:
    """Take verdicts that `verdictsOf` gave; the table shows them after the next `update`."""
    node.SetAttribute(VERDICTS, verdicts)


def export(node, path) -> None:
    """Write the table as CSV (UTF-8, units in the header), complete or not at all."""
    header = [f"{name} ({unit})" if unit else name for name, (_kind, unit) in COLUMNS.items()]
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(header)
        writer.writerows(row.values() for row in rowsOf(node))


def _verdicts(node) -> dict[tuple[int, int, int], bool]:
    stored = json.loads(node.GetAttribute(VERDICTS) or "[]")
    return {tuple(peak): accepted for *peak, accepted in stored}


def _write(node, rows: list[dict]) -> None:
    import vtk

    kinds = {int: vtk.vtkIntArray, float: vtk.vtkDoubleArray, str: vtk.vtkStringArray}
    with slicer.util.NodeModify(node):
        node.RemoveAllColumns()
        for name, (kind, unit) in COLUMNS.items():
            column = kinds[kind]()
            column.SetName(name)
            for row in rows:
                column.InsertNextValue(row[name])
            node.AddColumn(column)
            if unit:
                node.SetColumnUnitLabel(name, unit)
        node.SetUseColumnTitleAsColumnHeader(True)
        node.SetLocked(True)
