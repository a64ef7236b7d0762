"""Sample data: a synthetic case made on this computer, and the public cases of Slicer."""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

SEED = 5028  # of the range that the embedded model was never trained on
NAME = "ZSADCLIPSynthetic"
CATEGORY = "ZSADCLIP"


def register(icons: str) -> None:
    """Add the synthetic case to the Sample Data module; `icons` is the folder with the thumbnail."""
    import SampleData

    logic = SampleData.SampleDataLogic
    if hasattr(logic, "registerCustomSampleDataCategory"):  # Slicer 5.11 and later
        logic.registerCustomSampleDataCategory(CATEGORY, title=_("CLIP Anomaly Detection"))
    logic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName=NAME,
        thumbnailFileName=f"{icons}/ZSADCLIPSynthetic.png",
        uris=[""],  # nothing is downloaded: customDownloader makes the case
        fileNames=[NAME + ".nrrd"],
        nodeNames=[NAME],
        customDownloader=_made,
    )


def _made(source) -> list:
    """What the button of the Sample Data module calls, which shows neither that it works nor what went wrong."""
    with slicer.util.tryWithErrorDisplay(_("The synthetic case could not be made."), waitCursor=True):
        return [load(source.nodeNames[0])]


def load(name: str = NAME, seed: int = SEED):
    """Make the synthetic case as a scalar volume node, shown in the slice views; a few seconds."""
    from ZSADCLIPLib.synthetic.brains import make_case

    volume = make_case(seed).volumes["t2w"]
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(volume.affine.ravel())
    node = slicer.util.addVolumeFromArray(np.ascontiguousarray(volume.array.T), matrix, name)
    node.SetAttribute("ZSADCLIP.Synthetic", str(seed))
    slicer.util.setSliceViewerLayers(background=node, foreground=None, fit=True)
    return node


def loadPublic(name: str):
    """MRBrainTumor1 or MRBrainTumor2, public cases of Slicer, through its own Sample Data source (downloads)."""
    import SampleData

    return SampleData.downloadSample(name)
