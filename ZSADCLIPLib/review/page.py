"""The review page of a run: a folder that opens by a double click, on any computer, without a network."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import __version__
from ..errors import InputError, OutputError, UsageError
from ..files.atomic import atomic_path
from ..files.packaged import DATA
from ..files.text import write_text
from ..progress import Progress, silent
from ..volume import Volume
from ..volumes.background import find_background
from .finished import Finished, image_of
from .pack import Packed, brain_alone, cut, pack_image, pack_map, pack_mask, strides, thinned

SOURCE = DATA / "review"
FILES = ("index.html", "review.css", "store.js", "view.js", "app.js", "LICENSES.txt")
NIIVUE = "niivue-0.69.0.umd.js.gz"
NIIVUE_SHA256 = "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af"
"""Of the file in it, dist/niivue.umd.js of the npm package @niivue/niivue."""
RUN = "run.js"
"""The list of cases, written last: its presence says that the page is complete, and ours."""
FOLDER = "review"
"""The page's folder in an output folder."""


@dataclass(frozen=True)
class PageSettings:
    """How a page is made.

    blind      no score is anywhere in the page: the mask stands for the map, and cases and findings come in an order that says
               nothing.
    crop       "none", or "brain": all but the brain is dark, so that nobody's face is passed on.
    placement, series   how images are read, as in `volumes.reading.read_volume`.
    """

    blind: bool = False
    crop: str = "none"
    placement: str | None = None
    series: str | None = None

    def __post_init__(self):
        if self.crop not in ("none", "brain"):
            raise UsageError(f"crop {self.crop!r} is unknown; choose none or brain")


def write_page(
    folder: str | Path,
    cases: Sequence[Finished],
    images: Mapping[str, Path],
    settings: PageSettings = PageSettings(),  # noqa: B008
    title: str = "",
    progress: Progress = silent,
) -> Path:
    """Write the page of finished cases into a folder, one case after another in memory; the path of its index.html.

    `images` has the image of each case by its id. Raises UsageError for a folder that holds something else, InputError for a
    case whose files or image are not those of its result, OutputError where nothing can be written.
    """
    folder = Path(folder)
    _check_folder(folder)
    cases = sorted(cases, key=_blind_order if settings.blind else lambda case: -case.facts["volume_score"])
    (folder / RUN).unlink(missing_ok=True)
    entries = []
    for n, case in enumerate(cases):
        progress(n / len(cases), f"page of {case.id}", n, len(cases))
        entries.append(_write_case(folder, case, images[case.id], settings))
    _forget(folder, {case.id for case in cases}, settings.blind)
    for name in FILES:
        write_text(folder / name, (SOURCE / name).read_text(encoding="utf-8"))
    with atomic_path(folder / "niivue.js") as temporary:
        temporary.write_bytes(niivue())
    write_text(folder / "mode.js", mode(served=False))
    run = {"title": title, "blind": settings.blind, "software": f"ZSADCLIP {__version__}", "cases": entries}
    write_text(folder / RUN, f"zsadclip.run = {script_json(run)};\n")
    progress(1.0, "done")
    return folder / "index.html"


def mode(served: bool) -> str:
    """The script that says whether verdicts can be sent to a server."""
    return f"const zsadclip = {{ served: {script_json(served)} }};\n"


def niivue() -> bytes:
    """The viewer's script; raises OutputError when the installed file is damaged."""
    data = gzip.decompress((SOURCE / NIIVUE).read_bytes())
    if hashlib.sha256(data).hexdigest() != NIIVUE_SHA256:
        raise OutputError(f"{NIIVUE} of the package is damaged; install zsadclip again")
    return data


def script_json(data: object) -> str:
    """JSON that is safe within a script, wherever that stands: no markup can end it."""
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c")


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; name a folder for the page")
    known = {*FILES, "niivue.js", "mode.js", RUN, "cases", "pictures"}
    if folder.is_dir() and any(path.name not in known and not path.name.startswith(".") for path in folder.iterdir()):
        raise UsageError(f"{folder} holds something else than a review page; name another folder with --page")


def _write_case(folder: Path, case: Finished, image_path: Path, settings: PageSettings) -> dict:
    """Write cases/ID.js and the picture; the case's entry in the list."""
    map = case.map()
    image, notes = image_of(case, map, image_path, settings.placement, settings.series), []
    overlay = case.mask() if settings.blind else map
    if settings.crop == "brain":
        image, overlay = _without_face(case, image, map, overlay)
    steps = strides(image.shape)
    if max(steps) > 1:
        notes.append(f"only every {' x '.join(map(str, steps))}th voxel along the axes is shown, as the volume is huge")
    image, overlay = thinned(image, steps), thinned(overlay, steps, peaks=True)
    if _is_sheared(image):
        notes.append("the slices of this scan are tilted: the planes are drawn skewed, positions in mm are right")
    data = _case_data(case, settings, notes) | {"image": _image_data(case, image)}
    if settings.blind:
        data |= {"map": None, "mask": {"nifti": _text(pack_mask(overlay))}}
    else:
        packed, high = pack_map(overlay, case.facts["threshold"]), float(overlay.array.max())
        low = float(overlay.array.min())
        data["map"] = {"nifti": _text(packed), "slope": packed.slope, "inter": packed.inter, "low": low, "high": high}
    if case.picture and not settings.blind and settings.crop == "none":
        with atomic_path(folder / "pictures" / f"{case.id}.png") as temporary:
            shutil.copyfile(case.picture, temporary)
        data["picture"] = f"pictures/{case.id}.png"
    write_text(folder / "cases" / f"{case.id}.js", f"zsadclip.addCase({script_json(data)});\n")
    score = None if settings.blind else case.facts["volume_score"]
    return {"id": case.id, "seal": case.seal, "findings": len(data["findings"]), "volume_score": score}


def _case_data(case: Finished, settings: PageSettings, notes: list[str]) -> dict:
    """What a page says of a case in words and numbers."""
    facts, blind = case.facts, settings.blind
    provenance = facts["provenance"]
    method = provenance.get("adapter", {}).get("method") or "ZSADCLIP"
    about = f"{method} on {provenance.get('backbone', {}).get('name', 'its model')}"
    if not blind:
        about += f", volume score {facts['volume_score']:.3f}, threshold {facts['threshold']:.4g} ({facts['threshold_rule']})"
    findings = [_finding(each, blind) for each in facts["findings"]]
    if blind:
        findings.sort(key=lambda each: hashlib.sha256(f"{case.seal} {each['label']}".encode()).digest())
    said = [f"{note['severity']}: {note['text']}" for note in facts.get("notes", [])]
    return {
        "id": case.id,
        "seal": case.seal,
        "about": about,
        "plane": provenance.get("preprocessing", {}).get("plane") or "axial",
        "threshold": None if blind else facts["threshold"],
        "display": None if blind else facts["display"],
        "findings": findings,
        "notes": [*said, *notes],
        "picture": None,
    }


def _finding(finding: Mapping, blind: bool) -> dict:
    kept = {key: finding[key] for key in ("label", "volume_mm3", "peak_ras", "centroid_ras", "side")}
    scores = {key: None if blind else finding[key] for key in ("rank", "peak", "mean")}
    return kept | scores


def _blind_order(case: Finished) -> bytes:
    return hashlib.sha256(case.seal.encode()).digest()


def _without_face(case: Finished, image: Volume, map: Volume, overlay: Volume) -> tuple[Volume, Volume]:
    """Image and map or mask without what lies outside the brain, which is all that a stripped image has."""
    if case.facts["provenance"].get("preprocessing", {}).get("skull_stripped"):
        return image, overlay
    try:
        image, *box = brain_alone(image, map)
    except InputError as error:
        raise InputError(f"{case.id}: {error}") from error
    return cut(image, tuple(box)), cut(overlay, tuple(box))


def _image_data(case: Finished, image: Volume) -> dict:
    window = case.facts["provenance"].get("preprocessing", {}).get("window")
    if window is None:
        background = find_background(image.array)
        shown = image.array[~background.of(image.array)] if background else image.array
        window = np.percentile(shown if shown.size else image.array, (0.5, 99.5))
    low, high = float(window[0]), float(window[1])
    return {"nifti": _text(pack_image(image)), "low": low, "high": high if high > low else low + 1}


def _is_sheared(volume: Volume) -> bool:
    """Whether the axes of the grid are not at right angles, beyond rounding."""
    axes = volume.affine[:3, :3] / np.linalg.norm(volume.affine[:3, :3], axis=0)
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() > 1e-3)


def _text(packed: Packed) -> str:
    return b64encode(packed.nifti).decode("ascii")


def _forget(folder: Path, ids: set[str], blind: bool) -> None:
    """Remove the cases and pictures of an earlier page that this one does not have."""
    for kind, suffix, keep in (("cases", ".js", ids), ("pictures", ".png", set() if blind else ids)):
        for path in (folder / kind).glob(f"*{suffix}"):
            if path.name.removesuffix(suffix) not in keep:
                path.unlink(missing_ok=True)
