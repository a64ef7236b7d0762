"""Test-only approximations of the qMRML widgets that the panel uses."""

import ctk
import qt
import slicer
import vtk
from PySide6.QtCore import Property, Signal


class qMRMLWidget(qt.QWidget):
    """A widget that knows a scene and tells its children through `mrmlSceneChanged`."""

    mrmlSceneChanged = Signal(object)

    def setMRMLScene(self, scene):
        self.__dict__["_scene"] = scene
        self.mrmlSceneChanged.emit(scene)

    def mrmlScene(self):
        return self.__dict__.get("_scene")


class _FilterModel:
    """What of qMRMLSortFilterProxyModel the panel uses."""

    def __init__(self, changed):
        self._changed, self._hidden = changed, []

    @property
    def hiddenNodeIDs(self):
        return self._hidden

    @hiddenNodeIDs.setter
    def hiddenNodeIDs(self, ids):
        self._hidden = list(ids)
        self._changed()


class qMRMLNodeComboBox(qt.QComboBox):
    """Lists the scene's nodes of given types, in scene order; empty until it is told its scene."""

    currentNodeChanged = Signal(object)
    addEnabled = ctk.stored_property("addEnabled", bool, True)
    removeEnabled = ctk.stored_property("removeEnabled", bool, True)
    renameEnabled = ctk.stored_property("renameEnabled", bool, False)
    showHidden = ctk.stored_property("showHidden", bool, False)
    showChildNodeTypes = ctk.stored_property("showChildNodeTypes", bool, True)
    noneEnabled = ctk.stored_property("noneEnabled", bool, False)
    noneDisplay = ctk.stored_property("noneDisplay", str, "None")
    nodeTypes = ctk.stored_property("nodeTypes", "QStringList", [])

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._scene, self._ids, self._observers, self._attributes = None, [], [], []
        self._filter = _FilterModel(self._refill)
        self.currentIndexChanged.connect(lambda _: self.currentNodeChanged.emit(self.currentNode()))

    def _refill(self, *_):
        current = self.currentNodeID
        self.blockSignals(True)
        self.clear()
        self._ids = [""] if self.noneEnabled and self._scene else []
        if self._ids:
            self.addItem(self.noneDisplay)
        for node in self._nodes():
            if self._shows(node):
                self._ids.append(node.GetID())
                self.addItem(node.GetName())
        self.setCurrentIndex(self._ids.index(current) if current in self._ids else (0 if self._ids else -1))
        self.blockSignals(False)
        if self.currentNodeID != current:
            self.currentNodeChanged.emit(self.currentNode())

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _on_node(self, caller, event, node):
        """A node came or went: most are of no type that is listed."""
        if any(node.IsA(kind) for kind in self.nodeTypes):
            self._refill()

    _on_nodeTypes = _on_noneEnabled = _on_showChildNodeTypes = _on_noneDisplay = _refill

    def _nodes(self):
        """The scene's nodes, those of other types left out where that is quick."""
        if self._scene is None or not self.nodeTypes:
            return []
        if len(self.nodeTypes) == 1:
            return slicer.util.getNodesByClass(self.nodeTypes[0], self._scene)
        return [self._scene.GetNthNode(n) for n in range(self._scene.GetNumberOfNodes())]

    def _shows(self, node):
        if (node.GetHideFromEditors() and not self.showHidden) or node.GetID() in self._filter.hiddenNodeIDs:
            return False
        for kind in self.nodeTypes:
            if node.IsA(kind) if self.showChildNodeTypes else node.GetClassName() == kind:
                wanted = [(name, value) for k, name, value in self._attributes if k == kind]
                return all(node.GetAttribute(name) == value for name, value in wanted)
        return False

    def sortFilterProxyModel(self):
        return self._filter

    def addAttribute(self, node_type, name, value=None):
        self._attributes.append((node_type, name, value))
        self._refill()

    def setMRMLScene(self, scene):
        for tag in self._observers:
            self._scene.RemoveObserver(tag)
        self._scene = scene
        self._observers = []
        if scene is not None:
            self._observers += [
                scene.AddObserver(e, self._on_node) for e in (scene.NodeAddedEvent, scene.NodeRemovedEvent)
            ]
            self._observers += [scene.AddObserver(e, self._refill) for e in (scene.EndCloseEvent, scene.EndImportEvent)]
        self._refill()

    def mrmlScene(self):
        return self._scene

    def currentNode(self):
        return self._scene.GetNodeByID(self.currentNodeID) if self._scene and self.currentNodeID else None

    def setCurrentNodeID(self, node_id):
        self._refill()  # a node's attributes may have changed since it was added
        if (node_id or "") in self._ids:
            self.setCurrentIndex(self._ids.index(node_id or ""))
        elif not node_id:
            self.setCurrentIndex(-1)

    def setCurrentNode(self, node):
        self.setCurrentNodeID(node if isinstance(node, str) else node.GetID() if node else "")

    def _current_id(self):
        return self._ids[self.currentIndex] if 0 <= self.currentIndex < len(self._ids) else ""

    currentNodeID = Property(str, _current_id, setCurrentNodeID)


# Slicer's genuine parameter node wrapper names these classes; the panel uses none of them.
for _name in ("qMRMLSliderWidget", "qMRMLSpinBox", "qMRMLRangeWidget", "qMRMLCheckableNodeComboBox"):
    setattr(slicer, _name, type(_name, (qt.QWidget,), {}))

for _class in (qMRMLWidget, qMRMLNodeComboBox):
    setattr(slicer, _class.__name__, _class)
    qt.register(_class)
