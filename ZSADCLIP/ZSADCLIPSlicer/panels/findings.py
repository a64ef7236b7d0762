"""The list of findings in the panel: sorted by any column, clicked to jump, ticked to keep."""

from __future__ import annotations

import qt
from slicer.i18n import tr as _

from ..scene import findingstable

RANK_ROLE = 256  # Qt.UserRole, which has other spellings in Qt 5 and 6
KEEP, RANK, PLACE = 0, 1, 5  # columns
# Pixels at most: titles are wider than numbers, and all columns shall be seen in a panel of 420.
WIDTHS = {KEEP: 38, RANK: 24, 2: 32, 3: 46, 4: 44, 6: 34, 7: 34}


class FindingsPanel:
    """Fills the table; `goTo(rank)` is called for the chosen finding, `accept(rank, accepted)` for a ticked one."""

    def __init__(self, ui, goTo, accept):
        self.table, self._goTo, self._accept = ui.findingsTable, goTo, accept
        self._updating = False
        self._items: list = []  # Qt takes over table items, but Python must not drop them first
        self._headers: list = []
        self._fillHeader()
        self.table.connect("cellClicked(int,int)", self.onClicked)
        self.table.connect("currentCellChanged(int,int,int,int)", self.onCurrentChanged)
        self.table.connect("itemChanged(QTableWidgetItem*)", self.onItemChanged)

    def _fillHeader(self) -> None:
        # One number a column: texts such as "9-12" would not sort by size.
        titles = (
            _("Keep"),
            _("#"),
            _("mm"),
            _("mm3"),
            _("Peak"),
            _("Place"),
            _("First"),
            _("Last"),
        )
        tips = (_("Untick to reject"), _("Rank"), _("Diameter of a sphere of this volume"), _("Volume"), _("Highest score"),
                _("Centroid, mm: R or L, A or P, S or I, as in Slicer's data probe"),
                _("First slice, counted from 0"), _("Last slice, counted from 0"))  # fmt: skip
        self.table.setColumnCount(len(titles))
        for column, (title, tip) in enumerate(zip(titles, tips, strict=True)):
            item = qt.QTableWidgetItem(title)
            item.setToolTip(tip)
            self.table.setHorizontalHeaderItem(column, item)
            self._headers.append(item)
        self.table.horizontalHeader().setMinimumSectionSize(24)
        self.table.verticalHeader().setVisible(False)

    def fill(self, rows: list[dict]) -> None:
        """List the rows of a findings table; the order that the user chose stays."""
        table, self._updating = self.table, True
        table.setSortingEnabled(False)
        table.setRowCount(len(rows))
        self._items = []
        for index, row in enumerate(rows):
            cells = (None, row["Rank"], round(findingstable.diameterOf(row)), round(row["Volume"]), round(row["Peak"], 3),
                     findingstable.placeOf(row), row["First slice"], row["Last slice"])  # fmt: skip
            for column, value in enumerate(cells):
                item = qt.QTableWidgetItem()
                if value is None:
                    item.setFlags(item.flags() | qt.Qt.ItemIsUserCheckable)
                    item.setCheckState(qt.Qt.Checked if row["Accepted"] else qt.Qt.Unchecked)
                else:
                    item.setData(qt.Qt.DisplayRole, value)
                item.setData(RANK_ROLE, row["Rank"])
                item.setToolTip(
                    _("Side of the patient: {side}").format(side=_side(row["Side"])) if column == PLACE else ""
                )
                table.setItem(index, column, item)
                self._items.append(item)
        table.setSortingEnabled(True)
        table.resizeColumnsToContents()
        for column, most in WIDTHS.items():
            table.setColumnWidth(column, min(table.columnWidth(column), most))
        self._updating = False

    def onClicked(self, row: int, column: int) -> None:
        """Go to a finding, again when it is the one already chosen."""
        if not self._updating:
            self._goTo(int(self.table.item(row, RANK).data(RANK_ROLE)))

    def onCurrentChanged(self, row: int, column: int, formerRow: int, formerColumn: int) -> None:
        """Go to the finding that the arrow keys reached."""
        if row >= 0 and row != formerRow:
            self.onClicked(row, column)

    def onItemChanged(self, item) -> None:
        """A finding was ticked or unticked."""
        if not self._updating and item.column() == KEEP:
            self._accept(int(item.data(RANK_ROLE)), item.checkState() == qt.Qt.Checked)

    def chosen(self) -> int | None:
        """The rank of the chosen finding."""
        item = self.table.item(self.table.currentRow(), RANK)
        return int(item.data(RANK_ROLE)) if item is not None else None

    def step(self, by: int) -> None:
        """Choose the next finding (`by` 1) or the one before (-1) in the order of the table."""
        count, row = self.table.rowCount, self.table.currentRow()
        if count:
            self.table.setCurrentCell(min(max(row + by, 0), count - 1), RANK)

    def judge(self, accepted: bool) -> None:
        """Accept or reject the chosen finding."""
        item = self.table.item(self.table.currentRow(), KEEP)
        if item is not None:
            item.setCheckState(qt.Qt.Checked if accepted else qt.Qt.Unchecked)


def _side(side: str) -> str:
    return {"left": _("left"), "right": _("right"), "midline": _("midline")}.get(side, side)
