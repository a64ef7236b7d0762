"""What the panel remembers with the scene."""

from typing import Annotated, Union

from slicer import vtkMRMLLabelMapVolumeNode, vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

from ZSADCLIPLib.adapters import DEFAULT_METHOD
from ZSADCLIPLib.backbones import DEFAULT_BACKBONE
from ZSADCLIPLib.volumes.fusion import FUSIONS

from ..engine.choices import AUTOMATIC, BATCHES, DEVICES, PLANES
from ..scene.colors import NAMES


@parameterNodeWrapper
class ZSADCLIPParameterNode:
    """The parameters of the module.

    inputVolume, brainMask   what is looked at, and where; result is the anomaly map of the result on display.
    compared                 the anomaly map of the result that it is compared with.
    brainSegment             the segment of a brain mask that is a segmentation; empty: all of them.
    method, model            keys of the engine's registries; checkpoint is a file or empty (the engine chooses), of the method
                             bank its bank.
    objectName, prompts      empty: as the adapter was trained.
    minimumSize              smallest finding in mm3; the threshold belongs to the result.
    minimumDepth             over how many mm across the slices a finding reaches at least.
    axial, coronal, sagittal  planes that are scored and fused; none of them: plane alone.
    smoothing                mm across the slices; AUTOMATIC: the engine chooses.
    separate, chosenOnly     a segment a finding; only that of the chosen one is shown.
    rendering                the map as a cloud in the 3D views.
    Decimals and steps are those of the widgets: Slicer warns of such annotations here at every start.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    brainMask: Union[vtkMRMLSegmentationNode, vtkMRMLLabelMapVolumeNode, None]  # noqa: UP007 - Slicer 5.10
    result: vtkMRMLScalarVolumeNode
    compared: vtkMRMLScalarVolumeNode
    brainSegment: str = ""
    method: str = DEFAULT_METHOD
    model: str = DEFAULT_BACKBONE
    checkpoint: str = ""
    objectName: str = ""
    prompts: str = ""
    plane: Annotated[str, Choice(list(PLANES))] = "auto"
    device: Annotated[str, Choice(list(DEVICES))] = "auto"
    batchSize: Annotated[str, Choice(list(BATCHES))] = "auto"
    overlay: bool = True
    outline: bool = True
    opacity: Annotated[float, WithinRange(0, 1)] = 0.6
    colors: Annotated[str, Choice(list(NAMES))] = "Inferno"
    legend: bool = True
    minimumSize: Annotated[float, WithinRange(0, 100000)] = 20.0
    minimumDepth: Annotated[float, WithinRange(0, 1000)] = 3.0
    axial: bool = False
    coronal: bool = False
    sagittal: bool = False
    fuse: Annotated[str, Choice(list(FUSIONS))] = FUSIONS[0]
    smoothing: Annotated[float, WithinRange(AUTOMATIC, 100)] = AUTOMATIC
    surface: bool = False
    separate: bool = False
    chosenOnly: bool = False
    rendering: bool = False
