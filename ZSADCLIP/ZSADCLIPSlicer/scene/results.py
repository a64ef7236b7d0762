"""One result in the scene: the anomaly map and the nodes that hang on it, found again after save and load.

The map node is the anchor: it refers to its input, segmentation, tables and chart by node references, and keeps what the run
was in its attributes. Nothing about a result lives only in Python.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import slicer
from slicer.i18n import tr as _

from ZSADCLIPLib.evaluation.thresholds import reaches
from ZSADCLIPLib.volume import Volume

from ..engine.choices import planeLabel
from . import display, findingstable, naming, profile, segmentation, segments
from .brainmask import maskArray
from .geometry import affineOf, ijkToRas

CUTS = {
    "backbone",
    "weights_dir",
    "device",
    "precision",
    "batch_size",
    "threshold",
    "min_size_mm3",
    "min_depth_mm",
    "allow",
}
ROLES = (
    "input",
    "brainMask",
    "segmentation",
    "segments",
    "findings",
    "profile",
    "chart",
    "difference",
    "agreement",
    "missed",
)


class ResultNodes:
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
    def minimumDepth(self) -> float:
        """Over how many mm across the slices a finding reaches at least."""
        return float(self.attribute("MinimumDepth", "0"))

    @property
    def volumeScore(self) -> float:
        return float(self.attribute("VolumeScore", "nan"))

    @property
    def region(self) -> str:
        """What the prompts of the run spoke of, such as brain; empty where that is not known."""
        provenance = json.loads(self.attribute("Provenance", "{}"))
        return provenance.get("adapter", {}).get("config", {}).get("object_name") or ""

    @property
    def display(self) -> tuple[float, float]:
        """The lowest and the highest score that are shown."""
        window = json.loads(self.attribute("Display", '{"lo": 0, "hi": 1}'))
        return float(window["lo"]), float(window["hi"])

    @property
    def title(self) -> str:
        """What made the map: method and model, plane and adapter where they are not the usual ones."""
        parts = [self.attribute("Method"), self.attribute("Model")]
        settings = json.loads(self.attribute("Settings", "{}"))
        planes = settings.get("planes") or [self.attribute("Plane", "axial")]
        adapter = settings.get("checkpoint") or settings.get("bank")
        parts += [" + ".join(map(planeLabel, planes))] * (planes != ["axial"]) + (
            [Path(adapter).stem] if adapter else []
        )
        return ", ".join(parts)

    def madeWith(self, settings: dict, model: str) -> bool:
        """Whether a run with these settings on the backbone `model` asks for what this result is: it may take its place."""
        mine = json.loads(self.attribute("Settings", "{}"))
        differ = [name for name, value in settings.items() if name not in CUTS and mine.get(name, value) != value]
        return self.attribute("Model") == model and not differ

    @property
    def range(self) -> tuple[float, float]:
        """From the lowest to the highest score, widened to the display window."""
        low, high = self.map.GetImageData().GetScalarRange()
        low, high = min(low, self.display[0]), max(high, self.display[1])
        return low, high if high > low else low + 1e-6

    @property
    def volume(self) -> Volume:
        """The map as a Volume (I, J, K), where its parent transform puts it now."""
        return Volume(slicer.util.arrayFromVolume(self.map).T, affineOf(self.map), name=self.map.GetName())

    @property
    def _state(self) -> tuple:
        """What the cached arrays were made of: another run, of a script perhaps, may have filled the nodes anew."""
        mask = self.brainMask
        return (self.map.GetImageData().GetMTime(), self.input.GetImageData().GetMTime(),
                mask.GetID() if mask is not None else "", self.attribute("BrainSegment"))  # fmt: skip

    def _cached(self, name: str, make):
        state = self._state
        if self._cache.get(name + " of") != state:
            self._cache[name], self._cache[name + " of"] = make(), state
        return self._cache[name]

    @property
    def brain(self) -> np.ndarray:
        """Where findings may lie, bool (I, J, K): the given brain mask, else what the engine takes from the image."""
        return self._cached("brain", self._findBrain)

    def _findBrain(self) -> np.ndarray:
        from ZSADCLIPLib.errors import InputError
        from ZSADCLIPLib.volumes.intensity import brain_mask

        self._cache.pop("maskLost", None)
        if self.brainMask is not None:
            try:
                return maskArray(self.brainMask, self.input, self.attribute("BrainSegment")).T > 0
            except InputError:
                self._cache["maskLost"] = True
        image = Volume(slicer.util.arrayFromVolume(self.input).T, affineOf(self.map))
        return brain_mask(image)

    @property
    def note(self) -> str:
        """What limits the result, or empty: a brain mask that was deleted or emptied after the run."""
        name = self.attribute("BrainMask")
        if name and (self.brainMask is None or "maskLost" in self._cache):
            return _("The brain mask '{name}' is not there any more: findings may lie anywhere in the image.").format(
                name=name)  # fmt: skip
        return ""

    @property
    def brainScores(self) -> np.ndarray:
        """The scores of the brain, float32 (n,)."""
        return self._cached("scores", lambda: self.volume.array[self.brain])

    @property
    def reaching(self) -> float:
        """How much of the brain reaches the threshold, mm3."""
        return float(np.count_nonzero(reaches(self.brainScores, self.threshold)) * np.prod(self.map.GetSpacing()))

    @property
    def inside(self) -> np.ndarray:
        """The scores (K, J, I) with everything outside the brain below any threshold."""
        return self._cached(
            "inside", lambda: np.where(self.brain.T, slicer.util.arrayFromVolume(self.map), np.float32(-np.inf))
        )

    @property
    def stack(self):
        """The map's slices in the plane of the run."""
        from ZSADCLIPLib.volumes.slicing import slice_volume

        return slice_volume(self.volume, self.attribute("Plane", "axial"))

    def dragThreshold(self, value: float) -> None:
        """Move overlay and segmentation to a threshold at once; small and rejected parts come back until the drag ends."""
        with display.unnoticed(self.map):  # an event of the map would make every slice view interpolate the map again
            self.setAttribute("Threshold", repr(float(value)))
        display.setThreshold(self.map, value)
        if not segmentation.edited(self.segmentation, self.input):
            if segmentation.shown3D(self.segmentation):
                segmentation.show3D(self.segmentation, False)
                self._cache["surface"] = True
            inside = self.inside
            segmentation.writeLive(self.segmentation, self.input, lambda out: reaches(inside, value, out.view(bool)))

    def setThreshold(self, value: float, minimumSize: float | None = None, minimumDepth: float | None = None) -> None:
        """Cut at a raw score: overlay, segmentation, findings and profile follow."""
        self.setAttribute("Threshold", repr(float(value)))
        if minimumSize is not None:
            self.setAttribute("MinimumSize", repr(float(minimumSize)))
        if minimumDepth is not None:
            self.setAttribute("MinimumDepth", repr(float(minimumDepth)))
        display.setThreshold(self.map, value)
        self.refresh()

    def refresh(self, overwriteEdits: bool = False) -> bool:
        """Compute mask, findings and profile again; False when the segment has edits and was left alone."""
        labels, findings = self.parts()
        rows = findingstable.update(self.findings, findings, labels, self.volume.affine)
        untouched = overwriteEdits or not segmentation.edited(self.segmentation, self.input)
        if untouched:
            accepted = np.zeros(int(labels.max()) + 1, np.uint8)
            accepted[[row["Label"] for row in rows if row["Accepted"]]] = 1
            segmentation.write(self.segmentation, self.input, np.ascontiguousarray(accepted[labels].T))
            if self._cache.pop("surface", False):
                segmentation.show3D(self.segmentation, True)
        if self.segments is not None and (overwriteEdits or not segments.edited(self)):
            segments.update(self, rows, labels)
        naming.rename(self)
        profile.update(self, rows)
        return untouched

    def parts(self):
        """The parts over the threshold, int32 (I, J, K), and the findings among them; kept until the threshold moves."""
        from ZSADCLIPLib.detection.findings import find
        from ZSADCLIPLib.volumes.components import components, slices_deep

        volume = self.volume
        wanted = (self.threshold, self.minimumSize, self.minimumDepth, volume.affine.tobytes(), self._state)
        if self._cache.get("partsFor") != wanted:
            mask, stack = reaches(self.inside.T, self.threshold), self.stack
            deep = slices_deep(self.minimumDepth, stack.spacing[2], len(stack.array))
            findings = find(volume, mask, stack, self.minimumSize, self.brain, deep)
            self._cache["parts"] = components(mask), findings
            self._cache["partsFor"] = wanted
        return self._cache["parts"]

    def accept(self, rank: int, accepted: bool) -> bool:
        """Accept or reject a finding; False when the segment has edits and was left alone."""
        findingstable.setAccepted(self.findings, rank, accepted)
        return self.refresh()

    def follow(self) -> bool:
        """Go where the input went: under its parent transform, and onto its grid where a transform was hardened.

        Returns whether anything moved, so that findings have to be placed again.
        """
        parent, before = self.input.GetTransformNodeID(), affineOf(self.map)
        placed = [node for node in (self.map, self.segmentation, self.segments) if node is not None]
        for node in placed:
            if node.GetTransformNodeID() != parent:
                node.SetAndObserveTransformNodeID(parent)
        same = self.map.GetImageData().GetDimensions() == self.input.GetImageData().GetDimensions()
        if same and not np.array_equal(ijkToRas(self.map), ijkToRas(self.input)):
            self.map.CopyOrientation(self.input)
            for node in placed[1:]:
                node.SetReferenceImageGeometryParameterFromVolumeNode(self.input)
        return not np.array_equal(before, affineOf(self.map))


def isResult(node) -> bool:
    """True for the map node of a result."""
    return node is not None and node.GetAttribute("ZSADCLIP.Result") == "1"


def isOurs(node) -> bool:
    """True for a volume that this module made: a map, a difference, an agreement. None of them is an input."""
    return isResult(node) or (node is not None and node.GetAttribute("ZSADCLIP.Derived") is not None)


def inputVolumes() -> list:
    """The scalar volumes of the scene that this module did not make, in scene order."""
    nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [n for n in nodes if n.GetClassName() == "vtkMRMLScalarVolumeNode" and not isOurs(n)]


def resultsOf(inputNode) -> list[ResultNodes]:
    """All results in the scene that were made from a volume."""
    nodes = [n for n in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if isResult(n)]
    return [result for result in map(ResultNodes, nodes) if result.input is inputNode]
