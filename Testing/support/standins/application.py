"""Test-only approximations of `slicer.app` and of the managers that hang on it."""

import os
import tempfile
import types

import qt
import slicer


class ModuleManager:
    def connect(self, *_):
        return True

    disconnect = connect


class IOManager:
    """Loads and saves nodes through their MRML storage nodes, as slicer.util expects from the application."""

    def fileWriterFileType(self, node, extension=""):
        return node.GetClassName()

    def saveNodes(self, file_type, parameters, messages=None):
        node = slicer.mrmlScene.GetNodeByID(parameters["nodeID"])
        storage = node.CreateDefaultStorageNode()
        slicer.mrmlScene.AddNode(storage)
        storage.SetFileName(parameters["fileName"])
        node.SetAndObserveStorageNodeID(storage.GetID())
        return bool(storage.WriteData(node))

    def loadNodes(self, file_type, properties, loaded, messages=None):
        """A volume file through Slicer's own logic; False when it cannot be read."""
        path = properties["fileName"]
        node = slicer.modules.volumes.logic().AddArchetypeVolume(path, os.path.basename(path).split(".")[0])
        if node is not None:
            loaded.AddItem(node)
        return node is not None


class LayoutManager:
    """Remembers a layout id; its views are those that a test made with slicer_views."""

    def __init__(self, logic):
        self._logic = logic
        self.layout = slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
        self.plotViewCount = 0

    def setLayout(self, layout):
        self.layout = layout

    def mrmlSliceLogics(self):
        return self._logic.GetSliceLogics()

    def sliceViewNames(self):
        return []

    def threeDViewCount(self):
        return 0


class Application:
    """The calls of `slicer.app` that the module and slicer.util make."""

    def __init__(self, qt_application, logic, scene):
        self._qt, self._logic, self._scene = qt_application, logic, scene
        self._callbacks = {}
        self._layout, self._io, self._modules = LayoutManager(logic), IOManager(), ModuleManager()
        self._settings = os.path.join(tempfile.mkdtemp(prefix="slicer-settings-"), "settings.ini")
        self.temporaryPath = tempfile.mkdtemp(prefix="slicer-temporary-")
        self.majorVersion, self.minorVersion = 5, 13

    def connect(self, signal, callback):
        self._callbacks.setdefault(signal, []).append(callback)

    def disconnect(self, signal, callback):
        self._callbacks[signal].remove(callback)

    def emit(self, signal):
        """Call what was connected to a signal of the application, such as `startupCompleted()`."""
        for callback in list(self._callbacks.get(signal, ())):
            callback()

    def applicationLogic(self):
        return self._logic

    def mrmlScene(self):
        return self._scene

    def moduleManager(self):
        return self._modules

    def layoutManager(self):
        return self._layout

    def coreIOManager(self):
        return self._io

    def settings(self):
        return qt.QSettings(self._settings, qt.QSettings.IniFormat)

    userSettings = settings

    def startupEnvironment(self):
        """A fixed environment, told from this process's own by its one variable."""
        environment = qt.QtCore.QProcessEnvironment()
        environment.insert("PATH", os.environ["PATH"])
        return environment

    def translate(self, context, text):
        return text

    def processEvents(self, *_):
        self._qt.processEvents()

    def testingEnabled(self):
        return True

    def topLevelWidgets(self):
        return []  # there is no main window

    def commandOptions(self):
        return types.SimpleNamespace(noMainWindow=True)

    def pauseRender(self):
        pass

    def resumeRender(self):
        pass

    def setOverrideCursor(self, *_):
        pass

    def restoreOverrideCursor(self):
        pass
