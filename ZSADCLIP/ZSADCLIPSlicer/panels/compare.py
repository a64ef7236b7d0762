"""The group Compare: another result swapped in or side by side, the difference of both, the agreement of several."""

from __future__ import annotations

import qt
import slicer
from slicer.i18n import tr as _

from ..scene import compare
from ..scene.results import ResultNodes, isResult, resultsOf
from ..scene.twoviews import TwoViews

MAP, DIFFERENCE, AGREEMENT = range(3)  # what the overlay is
ID_ROLE = 256  # Qt.UserRole


class ComparePanel:
    """Works on the result on display, of `results` (a ResultPanel), and on the one chosen here."""

    def __init__(self, ui, results):
        self.ui, self._results = ui, results
        self.parameters = None
        self._views, self._updating = TwoViews(), False
        self._left = self._right = None  # side by side
        self._items: list = []  # Qt takes over list items, but Python must not drop them first
        for text in (_("anomaly map"), _("difference of both"), _("agreement of results")):
            ui.layerSelector.addItem(text)
        ui.swapButton.connect("clicked()", self.swap)
        ui.sideButton.connect("toggled(bool)", self._placed)
        ui.layerSelector.connect("currentIndexChanged(int)", self._layerChosen)
        ui.agreeList.connect("itemChanged(QListWidgetItem*)", self._layerChosen)
        results.followers.append(self.follow)

    @property
    def other(self) -> ResultNodes | None:
        """The result to compare with, where it is another one than that on display."""
        node = self.parameters.compared if self.parameters else None
        here = self._results.result
        if not isResult(node) or here is None or node is here.map or not ResultNodes(node).complete:
            return None
        return ResultNodes(node)

    def show(self, parameters) -> None:
        """Follow the parameter node."""
        self.parameters = parameters
        self._list()
        other = self.other
        for button in (self.ui.swapButton, self.ui.sideButton):
            button.enabled = other is not None
        if other is None and self.ui.layerSelector.currentIndex == DIFFERENCE:
            self.ui.layerSelector.setCurrentIndex(MAP)
        self.ui.agreeList.visible = self.ui.layerSelector.currentIndex == AGREEMENT
        if other is None:
            self.ui.sideButton.checked = False
        self._placed()

    def swap(self) -> None:
        """Let the two results change places; once more and they are back."""
        if self.other is not None:
            p = self.parameters
            here, there = p.result, p.compared
            with slicer.util.NodeModify(p.parameterNode):
                p.result, p.compared = there, here

    def _placed(self, *_args) -> None:
        """Side by side or not, as the button says."""
        left, right, p = self._results.result, self.other, self.parameters
        if self.ui.sideButton.checked and right is not None:
            if self._views.shown and right.map is not getattr(self._right, "map", None):
                self._views.hide(self._left, self._right)
            self._left, self._right = left, right
            self._views.show(left, right, p.opacity if p.overlay else 0, p.legend)
        elif self._views.shown:
            self._views.hide(*(r if r and r.input is not None else None for r in (left, self._right)))
            self._left = self._right = None

    def _list(self) -> None:
        """All results of the volume, ticked as they were; new ones are ticked."""
        here = self._results.result
        found = resultsOf(here.input) if here is not None else []
        names = [(result.map.GetID(), result.title) for result in found]
        listed = self.ui.agreeList
        if names == [(item.data(ID_ROLE), item.text()) for item in self._items]:
            return
        off = {item.data(ID_ROLE) for item in self._items if item.checkState() == qt.Qt.Unchecked}
        self._updating, self._items = True, []
        listed.clear()
        for key, name in names:
            item = qt.QListWidgetItem(name)
            item.setFlags(item.flags() | qt.Qt.ItemIsUserCheckable)
            item.setCheckState(qt.Qt.Unchecked if key in off else qt.Qt.Checked)
            item.setData(ID_ROLE, key)
            listed.addItem(item)
            self._items.append(item)
        self._updating = False

    def ticked(self) -> list[ResultNodes]:
        """The results whose agreement is counted."""
        keys = [item.data(ID_ROLE) for item in self._items if item.checkState() == qt.Qt.Checked]
        nodes = [slicer.mrmlScene.GetNodeByID(key) for key in keys]
        return [ResultNodes(node) for node in nodes if isResult(node) and ResultNodes(node).complete]

    def _layerChosen(self, *_args) -> None:
        if not self._updating and self.parameters is not None:
            self.show(self.parameters)
            self.follow()

    def follow(self) -> None:
        """The result on display changed, its threshold perhaps: what is made of it is made again."""
        here, which, other = self._results.result, self.ui.layerSelector.currentIndex, self.other
        if here is None or not here.complete:
            return
        layer = None
        if which == DIFFERENCE and other is not None:
            layer = compare.difference(here, other)
        elif which == AGREEMENT:
            layer = compare.agreement(here, self.ticked())
        self._results.setLayer(layer)

    def onNodeRemoved(self, node) -> None:
        """A node left the scene: nothing of it stays on display."""
        if node is self._results.layer:
            self._results.layer = None
            self.ui.layerSelector.setCurrentIndex(MAP)

    def cleanup(self) -> None:
        """Give the layout back."""
        self.ui.sideButton.checked = False
