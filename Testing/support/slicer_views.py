"""Slice views of Slicer drawn offscreen with slicer-core, as images (rows, columns, RGB) uint8.

MRML's own displayable managers draw segmentations, legends and rulers; the image plane, which CTK draws in the application,
is drawn by a vtkImageMapper fed from the slice logic.
"""

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

MANAGERS = ("Segmentations", "Crosshair", "OrientationMarker", "Ruler", "ModelSlice", "ColorLegend", "Markups")


class SliceView:
    """One slice view: `name` is Red, Green or Yellow; `size` is (width, height) in pixels."""

    def __init__(self, name, app_logic, size=(420, 420)):
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        for manager in MANAGERS:
            suffix = "2D" if manager == "Segmentations" else ""
            class_name = f"vtkMRML{manager}DisplayableManager{suffix}"
            if not factory.IsDisplayableManagerRegistered(class_name):
                factory.RegisterDisplayableManager(class_name)
        self.size = size
        self._renderer = vtk.vtkRenderer()
        self._renderer.GetActiveCamera().ParallelProjectionOn()
        self._window = vtk.vtkRenderWindow()
        self._window.ShowWindowOff()
        self._window.SetOffScreenRendering(1)
        self._window.SetMultiSamples(0)
        self._window.SetSize(*size)
        self._window.AddRenderer(self._renderer)
        self._interactor = vtk.vtkGenericRenderWindowInteractor()
        self._interactor.SetRenderWindow(self._window)
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        plane = vtk.vtkActor2D()
        plane.SetMapper(self._mapper)
        plane.GetProperty().SetDisplayLocationToBackground()
        self._renderer.AddViewProp(plane)
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(app_logic)
        app_logic.GetSliceLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(slicer.mrmlScene)
        self.node = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNode" + name)
        self.logic.SetSliceNode(self.node)
        self._group = slicer.vtkMRMLDisplayableManagerGroup()
        self._group.Initialize(factory, self._renderer)
        self._group.SetMRMLDisplayableNode(self.node)
        self._app_logic = app_logic
        self.logic.ResizeSliceNode(*size)

    def fit(self, world=None):
        """Show the whole background volume, at the slice through `world` (RAS mm)."""
        self.logic.FitSliceToBackground(*self.size)
        if world is not None:
            slicer.vtkMRMLSliceNode.JumpSlice(self.node, *world)
            self.center(world)

    def center(self, world):
        """Keep the whole volume in view and only move along the slice normal."""
        slicer.vtkMRMLSliceNode.JumpSliceByOffsetting(self.node, *world)

    def draw(self):
        """Draw the view as it is now."""
        self.logic.UpdatePipeline()
        self._mapper.SetInputConnection(self.logic.GetImageDataConnection())
        self._window.Render()

    def render(self):
        """The picture now, (rows from top, columns, 3) uint8."""
        self.draw()
        grab = vtk.vtkWindowToImageFilter()
        grab.SetInput(self._window)
        grab.ReadFrontBufferOff()
        grab.Update()
        image = grab.GetOutput()
        columns, rows, _ = image.GetDimensions()
        return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns, -1)[::-1, :, :3].copy()

    def pixel(self, world):
        """(row, column) where a world point (RAS mm) is drawn."""
        to_ras = self.node.GetXYToRAS()
        inverse = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(to_ras, inverse)
        x, y = inverse.MultiplyPoint([*world, 1.0])[:2]
        return int(np.clip(round(self.size[1] - 1 - y), 0, self.size[1] - 1)), int(
            np.clip(round(x), 0, self.size[0] - 1)
        )

    def close(self):
        """Take the view apart before its scene is cleared."""
        self._app_logic.GetSliceLogics().RemoveItem(self.logic)
        self._group.SetMRMLDisplayableNode(None)
        self.logic.SetMRMLScene(None)
        self._window.Finalize()
