"""What the panel's menus offer: the only place that reads the engine's registries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from slicer.i18n import tr as _

import ZSADCLIPLib
from ZSADCLIPLib.adapters import METHODS
from ZSADCLIPLib.backbones import BACKBONES
from ZSADCLIPLib.backbones.words import SEQUENCE_LABELS
from ZSADCLIPLib.errors import WeightsError
from ZSADCLIPLib.neighbours import BANK, LABELS

PLANES = ("auto", "axial", "coronal", "sagittal")
AUTOMATIC = -1.0  # mm of smoothing
DEVICES = ("auto", "cuda", "mps", "cpu")
BATCHES = ("auto", "1", "2", "4", "8", "16", "32", "64")


@dataclass(frozen=True)
class Choice:
    """A menu entry: `key` goes into the job, `label` and `tip` are shown."""

    key: str
    label: str
    tip: str = ""


@dataclass(frozen=True)
class Model(Choice):
    """A backbone: `state` is embedded, installed or missing; files map each name to (url, checksum)."""

    state: str = "embedded"
    size: int = 0
    licence: str = ""
    files: tuple[tuple[str, str, str], ...] = ()


def planeLabel(key: str) -> str:
    """A plane in the user's language."""
    return {
        "auto": _("automatic"),
        "axial": _("axial"),
        "coronal": _("coronal"),
        "sagittal": _("sagittal"),
    }.get(key, key)


def seenAs(provenance: dict) -> str:
    """In which planes a run looked at its image, and which MR sequence words took it for, where they were asked."""
    seen = [provenance.get("preprocessing", {}), *provenance.get("further_planes", ())]
    planes = " + ".join(planeLabel(each["plane"]) for each in seen if "plane" in each)
    text = _("Scored in {planes} slices.").format(planes=planes) if planes else ""
    looks = seen[0].get("sequence")
    if looks:
        text += " " + _("The image looks like {sequence} ({share:.0f} %).").format(
            sequence=SEQUENCE_LABELS.get(looks["name"], looks["name"]), share=100 * looks["share"])  # fmt: skip
    return text


def fuseLabel(key: str) -> str:
    """A way to fuse planes in the user's language."""
    return {
        "geometric": _("geometric mean"),
        "mean": _("mean"),
        "logit": _("mean of logits"),
        "median": _("median"),
        "min": _("minimum"),
    }.get(key, key)


def deviceLabel(key: str) -> str:
    """A device in the user's language."""
    return {
        "auto": _("automatic"),
        "cuda": _("CUDA (NVIDIA graphics card)"),
        "mps": _("Metal (Apple graphics card)"),
        "cpu": _("CPU"),
    }.get(key, key)


def batchLabel(key: str) -> str:
    """A batch size in the user's language."""
    return _("automatic") if key == "auto" else key


def colorLabel(key: str) -> str:
    """A colour map in the user's language; Inferno and Viridis are names."""
    return {"Blue-White-Red": _("Blue-White-Red")}.get(key, key)


def methods() -> list[Choice]:
    """The methods, in the engine's order, and the comparison with a bank of healthy volumes."""
    tip = _("How far a volume is from healthy ones, which a bank remembers: no words, no training, no lesion masks.")
    listed = [Choice(key, info.label, f"{info.summary} ({info.paper})") for key, info in METHODS.items()]
    return [*listed, Choice(BANK, LABELS[BANK], tip)]


def models(weightsFolder: str = "") -> list[Model]:
    """The backbones with a name, embedded and installed ones first."""
    from ZSADCLIPLib.backbones.weights import status

    models = []
    for row in status(weightsFolder or None):
        info = BACKBONES[row["name"]]
        label = info.label if row["state"] != "missing" else _("{label} - not installed").format(label=info.label)
        tip = _("Licence of the weights: {licence}. {source}").format(licence=info.licence, source=info.source)
        files = tuple((name, url, sha) for name, (url, sha) in info.files.items())
        models.append(Model(row["name"], label, tip, row["state"], info.size_bytes, info.licence, files))
    return sorted(models, key=lambda model: ("embedded", "installed", "missing").index(model.state))


def checkpoints(method: str, model: str, folder: str = "") -> list[Choice]:
    """The adapters of a method for a model: the package's own and those in the user's folder; first the engine's choice.

    Of the method bank the banks in that folder.
    """
    if method == BANK:
        banks = sorted(Path(folder).glob("*.bank")) if folder else []
        tip = _("Make one of healthy volumes with 'zsadclip bank build', or take one of your weights folder.")
        return [Choice("", _("Choose a bank"), tip)] + [Choice(str(path), path.stem, str(path)) for path in banks]
    from ZSADCLIPLib.adapters.checkpoint import list_adapters

    tip = _("The adapter that comes with the module, if there is one.")
    if method in METHODS and not METHODS[method].trainable:
        tip = _("This method needs no adapter.")
    adapters = [c for c in list_adapters(folder or None) if c.method == method and c.backbone.get("name") == model]
    return [Choice("", _("Automatic"), tip)] + [Choice(str(c.path), c.name, str(c.path)) for c in adapters]


def hasAdapter(method: str, model: str) -> bool:
    """True when a method can run on a model without a file of the user."""
    from ZSADCLIPLib.adapters.checkpoint import find_checkpoint

    return method not in METHODS or not METHODS[method].trainable or find_checkpoint(method, model) is not None


def madeFor(method: str, model: str, checkpoint: str = "") -> str:
    """What the adapter of a method was made for and trained on, as its file says; what a method without one is instead."""
    from ZSADCLIPLib.adapters.checkpoint import find_checkpoint, read_info

    if method == BANK:
        return _("Not trained: shows what is unlike the healthy volumes of the bank, be it another scanner.")
    if method in METHODS and not METHODS[method].trainable:
        return _("Not trained: words alone tell normal from abnormal. Nobody knows how well it does on your images.")
    try:
        path = checkpoint or find_checkpoint(method, model)
        info = read_info(path) if path else None
    except WeightsError as error:
        return str(error)
    if info is None:
        return _("What this adapter was made for is not known.") if path else ""
    made = (info.provenance.get("world") or {}).get("pictures")
    parts = [_("Made for {images}.").format(images=made)] if made else []
    if trained := info.provenance.get("trained_on"):
        parts.append(_("Trained on {data}.").format(data=trained))
    return " ".join(parts) or _("What this adapter was made for is not known.")


def segments(node) -> list[Choice]:
    """The segments of a brain mask that is a segmentation, after the choice of all of them; empty for other nodes."""
    if node is None or not node.IsA("vtkMRMLSegmentationNode"):
        return []
    segmentation = node.GetSegmentation()
    names = [(key, segmentation.GetSegment(key).GetName()) for key in segmentation.GetSegmentIDs()]
    return [Choice("", _("All segments"))] + [Choice(key, name) for key, name in names]


def promptSets() -> list[Choice]:
    """The prompt sets of the package."""
    folder = Path(ZSADCLIPLib.__file__).parent / "prompts"
    names = sorted(path.stem for path in folder.glob("*.json"))
    return [Choice("", _("Of the method"), _("The prompts the method was published with."))] + [
        Choice(name, name, str(folder / f"{name}.json")) for name in names
    ]


def downloadText(model: Model) -> str:
    """What a user should know before a download: size, licence, source and checksum of every file."""
    lines = [_("{label} is not on this computer.").format(label=BACKBONES[model.key].label)]
    lines.append(_("Download about {size:.0f} MB. Licence: {licence}.").format(
        size=model.size / 1e6, licence=model.licence))  # fmt: skip
    for name, url, sha in model.files:
        lines.append(_("{name}\n  from {url}\n  SHA-256 {sha}").format(
            name=name, url=url, sha=sha or _("as stated by the server")))  # fmt: skip
    return "\n".join(lines)
