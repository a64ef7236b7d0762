"""The slice profile in a plot view: shown on request, clicked to jump, the former layout given back."""

from __future__ import annotations

import slicer

from ..scene import display, profile


class ProfilePanel:
    """The button of the profile; `current()` gives the result on display."""

    def __init__(self, ui, current):
        self.ui, self._current = ui, current
        self._layoutBefore = None
        self._plots: list = []
        ui.profileButton.connect("toggled(bool)", self.onProfile)

    def follow(self) -> None:
        """Show the profile of another result, where one is shown."""
        if self.ui.profileButton.checked:
            self._showChart()

    def onProfile(self, shown: bool) -> None:
        """Show the profile in the layout, or give the former layout back."""
        manager = slicer.app.layoutManager()
        if manager is None:
            return
        if shown and self._current() is not None:
            self._layoutBefore = manager.layout
            self._showChart()
        elif not shown and self._layoutBefore is not None:
            manager.setLayout(self._layoutBefore)
            self._layoutBefore = None

    def _showChart(self) -> None:
        manager = slicer.app.layoutManager()
        if manager is None or self._current().chart is None:
            return
        slicer.modules.plots.logic().ShowChartInLayout(self._current().chart)
        for index in range(manager.plotViewCount):
            view = manager.plotWidget(index).plotView()
            if view not in self._plots:
                view.connect("dataSelected(vtkStringArray*, vtkCollection*)", self.onProfileSelected)
                self._plots.append(view)

    def onProfileSelected(self, seriesIDs, selection) -> None:
        """Jump to the slice of a point that was clicked in the plot."""
        for index in range(selection.GetNumberOfItems()):
            points = selection.GetItemAsObject(index)
            if self._current() is not None and points.GetNumberOfValues():
                display.jump(profile.worldOfSlice(self._current(), int(points.GetValue(0))))
                return

    def cleanup(self) -> None:
        """Give the layout back and let go of the plots."""
        self.ui.profileButton.checked = False
        for view in self._plots:
            view.disconnect("dataSelected(vtkStringArray*, vtkCollection*)", self.onProfileSelected)
        self._plots = []
