"""A MRML scene with the module logics of Slicer on plain slicer-core, without the application.

`boot()` does what the application does at start: it gives the scene its default nodes and the logics that register their
node classes, and makes `slicer.mrmlScene`, `slicer.modules` and `slicer.app` exist.
"""

import os
import tempfile
import types

os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")  # no display is needed

import slicer
import vtk

LOGICS = {
    "Volumes": "vtkSlicerVolumesLogic",
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "ViewControllers": "vtkSlicerViewControllersLogic",
    "Units": "vtkSlicerUnitsLogic",
    "VolumeRendering": "vtkSlicerVolumeRenderingLogic",
}


class Messages:
    """Collects the errors and warnings of VTK and MRML, so that a test can fail on them."""

    HARMLESS = ("bad X server connection", "Failed to load terminology", "LoadTerminologyFromFile",
                "LoadRegionContextFromFile", "Failed to load region context")  # fmt: skip

    def __init__(self):
        self.lines = []
        window = vtk.vtkStringOutputWindow()
        window.SetInstance(window)
        window.AddObserver(vtk.vtkCommand.ErrorEvent, self._add)
        self._window = window
        vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_OFF)
        self._callback = self._add
        self._callback.__func__.CallDataType = vtk.VTK_STRING

    def _add(self, caller, event, text=""):
        self.lines.append(text.strip())

    _add.CallDataType = vtk.VTK_STRING

    def take(self):
        """The messages since the last call that are no known, harmless ones."""
        lines, self.lines = self.lines, []
        return [line for line in lines if not any(known in line for known in self.HARMLESS)]


def boot():
    """Start once per process; returns (application logic, messages)."""
    messages = Messages()
    scene = slicer.vtkMRMLScene()
    slicer.mrmlScene = scene
    files, cache = slicer.vtkDataIOManager(), slicer.vtkCacheManager()
    cache.SetRemoteCacheDirectory(tempfile.mkdtemp(prefix="slicer-cache-"))  # where scenes in one file are unpacked
    files.SetCacheManager(cache)
    scene.SetDataIOManager(files)
    app_logic = slicer.vtkSlicerApplicationLogic()
    app_logic.SetMRMLScene(scene)
    app_logic.GetColorLogic().SetMRMLScene(scene)
    app_logic.SetSliceLogics(vtk.vtkCollection())
    app_logic.SetViewLogics(vtk.vtkCollection())
    slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance().SetMRMLApplicationLogic(app_logic)
    slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance().SetMRMLApplicationLogic(app_logic)
    scene.RegisterNodeClass(slicer.vtkMRMLColorLegendDisplayNode())
    app_logic.SetModuleLogic("Colors", app_logic.GetColorLogic())
    colors = slicer.vtkSlicerColorLogic()  # the module's logic; the application's own one has the node tables
    colors.SetMRMLApplicationLogic(app_logic)
    logics = {"Colors": colors}
    for name, class_name in LOGICS.items():
        logic = getattr(slicer, class_name)()
        logic.SetMRMLApplicationLogic(app_logic)
        logic.SetMRMLScene(scene)
        app_logic.SetModuleLogic(name, logic)
        logics[name] = logic
    slicer.modules = types.SimpleNamespace()
    for name, logic in logics.items():
        setattr(slicer.modules, name.lower(), types.SimpleNamespace(logic=lambda logic=logic: logic))
    fill_default_nodes(app_logic)
    messages.take()
    return app_logic, messages


def fill_default_nodes(app_logic):
    """Add to the scene what the application has in every scene: colours, crosshair, slice orientations, three slices."""
    scene = slicer.mrmlScene
    app_logic.GetColorLogic().AddDefaultColorNodes()
    if not scene.GetFirstNodeByClass("vtkMRMLCrosshairNode"):
        crosshair = slicer.vtkMRMLCrosshairNode()
        crosshair.SetCrosshairName("default")
        scene.AddNode(crosshair)
    slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
    for name, orientation in (("Red", "Axial"), ("Green", "Coronal"), ("Yellow", "Sagittal")):
        if scene.GetNodeByID("vtkMRMLSliceNode" + name):
            continue
        slice_node = scene.CreateNodeByClass("vtkMRMLSliceNode")  # with the orientations of the default node
        slice_node.UnRegister(None)
        slice_node.SetLayoutName(name)
        slice_node.SetSingletonTag(name)
        slice_node.SetName(name)
        scene.AddNode(slice_node)
        slice_node.SetOrientation(orientation)
        slice_node.SetMappedInLayout(1)
        composite = slicer.vtkMRMLSliceCompositeNode()
        composite.SetLayoutName(name)
        composite.SetSingletonTag(name)
        scene.AddNode(composite)
