"""One result in the scene: the anomaly map and the nodes that hang on it, found again after save and load.

The map node is the anchor: it refers to its input, segmentation, tables and chart by node references, and keeps what the run
was in its attributes. Nothing about a result lives only in Python.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from functools import cached_property

import numpy as np
import slicer
from slicer.i18n import tr as _

from ZSADCLIPLib.volume import Volume

from . import display, findingstable, profile, segmentation
from .geometry import affineOf

ROLES = ("input", "brainMask", "segmentation", "findings", "profile", "chart")


class Result:
    """A view of one result by its map node (vtkMRMLScalarVolumeNode with the attribute ZSADCLIP.Result)."""

    def __init__(self, mapNode):
        self.map = mapNode
        self._cache: dict = {}

    def __getattr__(self, role: str):
        if role in ROLES:
            return self.map.GetNodeReference("ZSADCLIP." + role)
        raise AttributeError(role)

    def link(self, role: str, node) -> None:
        """Let the map refer to a node of this result."""
        self.map.SetNodeReferenceID("ZSADCLIP." + role, node.GetID() if node else None)

    def attribute(self, name: str, default: str = "") -> str:
        return self.map.GetAttribute("ZSADCLIP." + name) or default

    def setAttribute(self, name: str, value) -> None:
        self.map.SetAttribute("ZSADCLIP." + name, value if isinstance(value, str) else json.dumps(value))

    @property
    def complete(self) -> bool:
        """True when the nodes needed to change the threshold are there."""
        return all(node is not None for node in (self.input, self.segmentation, self.findings))

    @property
    def threshold(self) -> float:
        """The cut on the raw scale of the map."""
        return float(self.attribute("Threshold", "0"))

    @property
    def minimumSize(self) -> float:
        """Smallest finding in mm3."""
        return float(self.attribute("MinimumSize", "0"))

    @property
    def volumeScore(self) -> float:
        return float(self.attribute("VolumeScore", "nan"))

    @property
    def title(self) -> str:
        return _("{method}, {model}").format(method=self.attribute("Method"), model=self.attribute("Model"))

    @property
    def range(self) -> tuple[float, float]:
        """From the lowest to the highest score, widened to the display window."""
        low, high = self.map.GetImageData().GetScalarRange()
        window = json.loads(self.attribute("Display", '{"lo": 0, "hi": 1}'))
        low, high = min(low, window["lo"]), max(high, window["hi"])
        return low, high if high > low else low + 1e-6

    @property
    def volume(self) -> Volume:
        """The map as a Volume (I, J, K), where its parent transform puts it now."""
        return Volume(slicer.util.arrayFromVolume(self.map).T, affineOf(self.map), name=self.map.GetName())

    @cached_property
    def brain(self) -> np.ndarray:
        """Where findings may lie, bool (I, J, K): the given brain mask, else what the engine takes from the image."""
        from ZSADCLIPLib.errors import InputError
        from ZSADCLIPLib.intensity import brain_mask

        if self.brainMask is not None:
            try:
                return maskArray(self.brainMask, self.input, self.attribute("BrainSegment")).T > 0
            except InputError:
                self._cache["mask lost"] = True
        image = Volume(slicer.util.arrayFromVolume(self.input).T, affineOf(self.map))
        return brain_mask(image)

    @property
    def note(self) -> str:
        """What limits the result, or empty: a brain mask that was deleted or emptied after the run."""
        name = self.attribute("BrainMask")
        if name and (self.brainMask is None or "mask lost" in self._cache):
            return _("The brain mask '{name}' is not there any more: findings may lie anywhere in the image.").format(
                name=name)  # fmt: skip
        return ""

    @cached_property
    def inside(self) -> np.ndarray:
        """The scores (K, J, I) with everything outside the brain below any threshold."""
        return np.where(self.brain.T, slicer.util.arrayFromVolume(self.map), np.float32(-np.inf))

    @property
    def stack(self):
        """The map's slices in the plane of the run."""
        from ZSADCLIPLib.slicing import slice_volume

        return slice_volume(self.volume, self.attribute("Plane", "axial"))

    def dragThreshold(self, value: float) -> None:
        """Move overlay and segmentation to a threshold at once; small and rejected parts come back until the drag ends."""
        with _unnoticed(self.map):  # an event of the map would make every slice view interpolate the map again
            self.setAttribute("Threshold", repr(float(value)))
        display.setThreshold(self.map, value)
        if not segmentation.edited(self.segmentation, self.input):
            if segmentation.shown3D(self.segmentation):
                segmentation.show3D(self.segmentation, False)
                self._cache["surface"] = True
            inside = self.inside
            segmentation.writeLive(
                self.segmentation, self.input, lambda out: np.greater_equal(inside, value, out=out.view(bool))
            )

    def setThreshold(self, value: float, minimumSize: float | None = None) -> None:
        """Cut at a raw score: overlay, segmentation, findings and profile follow."""
        self.setAttribute("Threshold", repr(float(value)))
        if minimumSize is not None:
            self.setAttribute("MinimumSize", repr(float(minimumSize)))
        display.setThreshold(self.map, value)
        self.refresh()

    def refresh(self, overwriteEdits: bool = False) -> bool:
        """Compute mask, findings and profile again; False when the segment has edits and was left alone."""
        labels, found = self._parts()
        rows = findingstable.update(self.findings, found, labels, self.volume.affine)
        untouched = overwriteEdits or not segmentation.edited(self.segmentation, self.input)
        if untouched:
            kept = np.zeros(int(labels.max()) + 1, np.uint8)
            kept[[row["Label"] for row in rows if row["Accepted"]]] = 1
            segmentation.write(self.segmentation, self.input, np.ascontiguousarray(kept[labels].T))
            if self._cache.pop("surface", False):
                segmentation.show3D(self.segmentation, True)
        self._rename()
        profile.update(self, rows)
        return untouched

    def _parts(self):
        """The parts over the threshold, int32 (I, J, K), and the findings among them; kept until the threshold moves."""
        from ZSADCLIPLib.findings import components, find

        volume = self.volume
        wanted = (self.threshold, self.minimumSize, volume.affine.tobytes())
        if self._cache.get("parts for") != wanted:
            mask = self.threshold <= self.inside.T
            self._cache["parts"] = components(mask), find(volume, mask, self.stack, self.minimumSize, self.brain)
            self._cache["parts for"] = wanted
        return self._cache["parts"]

    def accept(self, rank: int, accepted: bool) -> bool:
        """Accept or reject a finding; False when the segment has edits and was left alone."""
        findingstable.setAccepted(self.findings, rank, accepted)
        return self.refresh()

    def _rename(self) -> None:
        name = self.input.GetName()
        _giveName(self.map, _("{name} anomaly ({run})").format(name=name, run=self.title))
        _giveName(self.segmentation, _("{name} findings ({run}, from {threshold:.3g})").format(
            name=name, run=self.title, threshold=self.threshold))  # fmt: skip
        _giveName(self.findings, _("{name} findings table ({run})").format(name=name, run=self.title))


def _giveName(node, name: str) -> None:
    """Name a node, unless the user has given it a name of his own."""
    if node.GetAttribute("ZSADCLIP.Name") in (None, node.GetName()):
        node.SetAttribute("ZSADCLIP.Name", name)
        node.SetName(name)


@contextmanager
def _unnoticed(node):
    """Change a node without its ModifiedEvent."""
    before = node.GetDisableModifiedEvent()
    node.SetDisableModifiedEvent(True)
    try:
        yield
    finally:
        node.SetDisableModifiedEvent(before)


def maskArray(node, inputNode, segment: str = "") -> np.ndarray:
    """A brain mask given as segmentation or label map, as (K, J, I) on the input's grid.

    `segment` is the id of the one segment that counts; empty for all. Raises InputError for a label map on another grid,
    a segment that is not there, and an empty mask.
    """
    from ZSADCLIPLib.errors import InputError

    if node.IsA("vtkMRMLSegmentationNode"):
        ids = [segment] if segment else list(node.GetSegmentation().GetSegmentIDs())
        if segment and node.GetSegmentation().GetSegment(segment) is None:
            raise InputError(_("The brain mask '{name}' has no segment '{segment}' any more. Choose another.").format(
                name=node.GetName(), segment=segment))  # fmt: skip
        parts = [segmentation.read(node, inputNode, segment) != 0 for segment in ids]
        array = np.logical_or.reduce(parts) if parts else np.zeros(1, bool)
    else:
        array = slicer.util.arrayFromVolume(node) != 0
        expected = slicer.util.arrayFromVolume(inputNode).shape
        if array.shape != expected or not np.allclose(affineOf(node), affineOf(inputNode), atol=1e-3):
            raise InputError(_("The brain mask '{name}' is not on the grid of the input volume. Resample it.").format(
                name=node.GetName()))  # fmt: skip
    if not array.any():
        raise InputError(_("The brain mask '{name}' is empty.").format(name=node.GetName()))
    return array


def isResult(node) -> bool:
    """True for the map node of a result."""
    return node is not None and node.GetAttribute("ZSADCLIP.Result") == "1"


def resultsOf(inputNode) -> list[Result]:
    """All results in the scene that were made from a volume."""
    nodes = [n for n in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if isResult(n)]
    return [result for result in map(Result, nodes) if result.input is inputNode]


def store(result: Result | None, inputNode, brainMask, map_: np.ndarray, outcome: dict, colors: str) -> Result:
    """Put a finished run into the scene: into the nodes of `result`, or new ones when it is None.

    `map_` is float32 (I, J, K) on the input's grid; `outcome` is the engine's JSON of the case.
    """
    if result is None:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", inputNode.GetName() + " anomaly")
        result = Result(node)
        result.setAttribute("Result", "1")
    else:
        result = Result(result.map)  # nothing cached of the former map
    node = result.map
    with slicer.util.NodeModify(node):
        node.CopyOrientation(inputNode)
        slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(map_.T))
        node.SetAndObserveTransformNodeID(inputNode.GetTransformNodeID())
    result.link("input", inputNode)
    result.link("brainMask", brainMask)
    provenance = outcome["provenance"]
    for name, value in {
        "Plane": provenance["preprocessing"]["plane"],
        "Display": outcome["display"],
        "Threshold": repr(float(outcome["threshold"])),
        "ThresholdRule": outcome["threshold_rule"],
        "MinimumSize": repr(float(provenance["min_size_mm3"])),
        "VolumeScore": repr(float(outcome["volume_score"])),
        "SliceScores": outcome["slice_scores"],
        "Provenance": provenance,
    }.items():
        result.setAttribute(name, value)
    display.setWindow(node, outcome["display"]["lo"], outcome["display"]["hi"])
    display.setColors(node, colors)
    display.setThreshold(node, result.threshold)
    _makeCompanions(result)
    return result


def _makeCompanions(result: Result) -> None:
    """Segmentation, tables and chart of a result, made where they are missing, placed beside the input."""
    if result.segmentation is None:
        result.link("segmentation", segmentation.create(result.input, result.input.GetName()))
    result.segmentation.SetAndObserveTransformNodeID(result.input.GetTransformNodeID())
    result.segmentation.SetReferenceImageGeometryParameterFromVolumeNode(result.input)
    if result.findings is None:
        result.link("findings", slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", result.input.GetName()))
    if result.profile is None:
        profile.create(result)
    for node in (result.map, result.segmentation, result.findings, result.profile, result.chart):
        placeBeside(node, result.input)


def placeBeside(node, inputNode) -> None:
    """Give a node the subject hierarchy parent (patient, study or folder) of the input."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    if hierarchy is None:
        return
    scene = hierarchy.GetSceneItemID()
    inputItem = hierarchy.GetItemByDataNode(inputNode) or hierarchy.CreateItem(scene, inputNode)
    parent = hierarchy.GetItemParent(inputItem)
    item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(parent, node)
    hierarchy.SetItemParent(item, parent)
