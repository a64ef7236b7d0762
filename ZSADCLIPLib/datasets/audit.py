"""What a data set really contains, before anything is trained on it: every case read, measured and judged."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from ..errors import ZSADCLIPError, number_of
from ..files.privacy import folders_below, pseudonym, redact_all
from ..files.text import write_csv, write_json, write_text
from ..progress import Progress, silent
from ..volume import Volume
from ..volumes.background import find_background
from ..volumes.checks import size_notes
from ..volumes.components import components
from ..volumes.grids import on_grid
from ..volumes.intensity import brain_mask, is_skull_stripped
from ..volumes.reading import read_volume
from .labels import label_rule
from .records import Record, find_records
from .splits import without_side


@dataclass
class CaseAudit:
    """One case: geometry of the image, labels and lesions (26-connected, of the target) of the mask, and what is wrong.

    `errors` make a case unusable; `warnings` do not. Volumes are mm3, areas slices along the axial axis of the file.
    """

    id: str
    subject: str
    site: str
    rule: str
    image: str
    shape: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()
    orientation: str = ""
    dtype: str = ""
    low: float = float("nan")
    high: float = float("nan")
    brain_mm3: float = float("nan")
    blank_slices: int = 0
    skull_stripped: bool = False
    labels: dict[int, int] = field(default_factory=dict)
    lesions: int = 0
    lesion_mm3: tuple[float, ...] = ()
    lesion_slices: int = 0
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def usable(self) -> bool:
        """True when nothing keeps the case from training or testing."""
        return not self.errors


@dataclass(frozen=True)
class Audit:
    """All cases of a data set, problems that belong to no readable case, and the records that can be used."""

    source: str
    target: str
    cases: tuple[CaseAudit, ...]
    problems: tuple[str, ...]
    records: tuple[Record, ...]

    def summary(self) -> dict:
        """Counts over the data set, JSON-able."""
        usable = [case for case in self.cases if case.usable]
        volumes = np.array([v for case in usable for v in case.lesion_mm3])
        counts = np.array([case.lesions for case in usable])
        loads = np.array([sum(case.lesion_mm3) for case in usable])
        subjects = Counter(case.subject for case in self.cases)
        return {
            "source": self.source,
            "target": self.target,
            "cases": len(self.cases),
            "usable": len(usable),
            "subjects": len(subjects),
            "subjects_with_several_cases": sum(n > 1 for n in subjects.values()),
            "sites": _counted(case.site or "(none)" for case in self.cases),
            "label_rules": _counted(case.rule for case in self.cases),
            "shapes": _counted("x".join(map(str, case.shape)) for case in usable),
            "spacings_mm": _counted("x".join(f"{s:.3g}" for s in case.spacing) for case in usable),
            "orientations": _counted(case.orientation for case in usable),
            "image_types": _counted(case.dtype for case in usable),
            "label_sets": _counted(",".join(map(str, sorted(case.labels))) for case in usable),
            "skull_stripped": sum(case.skull_stripped for case in usable),
            "without_lesion": int((counts == 0).sum()),
            "lesions": int(counts.sum()),
            "lesions_per_case": _quantiles(counts),
            "lesion_mm3": _quantiles(volumes),
            "lesions_up_to_2_mm3": int((volumes <= 2).sum()),
            "lesion_load_ml": _quantiles(loads / 1000),
            "blank_slices": sum(case.blank_slices for case in usable),
            "problems": len(self.problems) + sum(len(c.errors) + len(c.warnings) for c in self.cases),
        }


def audit(
    source: str | os.PathLike,
    channel: str = "t2w",
    rule: str = "auto",
    target: str = "wt",
    progress: Progress = silent,
    ignore: tuple[int, ...] = (),
    keep_identifiers: bool = False,
    placement: str | None = None,
) -> Audit:
    """Read every case of a folder or manifest; broken ones are listed and the others go on.

    `ignore` names further label values that count neither as lesion nor as healthy; `placement` is that of `read_volume`.
    Unless `keep_identifiers`, folders are named by digests and left out of messages.
    Raises InputError only when the source itself holds nothing, and whatever `progress` raises.
    """
    problems: list[str] = []
    records = find_records(source, channel, rule, problems)
    problems += without_side(records)
    if problems and not keep_identifiers:
        problems = redact_all(problems, folders_below(source))
    cases, seen = [], {}
    root = Path(source) if Path(source).is_dir() else Path(source).parent
    for number, record in enumerate(records):
        progress(number / len(records), f"case {record.id} ({number + 1} of {len(records)})", number, len(records))
        cases.append(_audit_case(record, root, target, tuple(ignore), seen, placement))
        if not keep_identifiers:
            _withhold(cases[-1], record, Path(source).is_dir())
    progress(1.0, number_of(len(records), "case"), len(records), len(records))
    usable = tuple(record for record, case in zip(records, cases, strict=True) if case.usable)
    named = str(source)
    if not keep_identifiers:
        named = pseudonym(root.resolve().name, "folder") if Path(source).is_dir() else Path(source).name
    return Audit(named, target, tuple(cases), tuple(problems), usable)


def _audit_case(
    record: Record, root: Path, target: str, ignore: tuple[int, ...], seen: dict[str, str], placement: str | None
) -> CaseAudit:
    relative_path = os.path.relpath(record.image, root)
    case = CaseAudit(record.id, record.subject, record.site, record.rule, relative_path)
    try:
        image = read_volume(record.image, placement)
        _measure_image(case, image)
        digest = hashlib.sha256(np.ascontiguousarray(image.array).tobytes()).hexdigest()
        if digest in seen:
            case.errors.append(f"its voxels equal those of {seen[digest]}: a duplicate")
        seen.setdefault(digest, record.id)
        if record.mask is not None:
            _measure_mask(case, image, read_volume(record.mask, placement), target, ignore)
    except ZSADCLIPError as error:
        case.errors.append(str(error))
    return case


def _withhold(case: CaseAudit, record: Record, by_folder: bool) -> None:
    """Take folders out of what is said about a case; sites of a manifest are the user's own words."""
    case.image = Path(case.image).name
    if by_folder and case.site:
        case.site = pseudonym(case.site, "site")
    case.errors = redact_all(case.errors, (record.image, record.mask))
    case.warnings = redact_all(case.warnings, (record.image, record.mask))


def _measure_image(case: CaseAudit, image: Volume) -> None:
    array = image.array
    case.shape, case.spacing = image.shape, image.spacing
    case.orientation, case.dtype = "".join(image.axcodes), str(array.dtype)
    case.low, case.high = float(array.min()), float(array.max())
    case.brain_mm3 = float(brain_mask(image).sum() * _voxel_mm3(image))
    case.skull_stripped = is_skull_stripped(image)
    axis = _axial(image)
    others = tuple(a for a in range(3) if a != axis)
    case.blank_slices = int((array.max(axis=others) == array.min(axis=others)).sum())
    for note in (*image.notes, *size_notes(image)):
        (case.errors if note.severity == "error" else case.warnings).append(str(note))


def _measure_mask(case: CaseAudit, image: Volume, mask: Volume, target: str, ignore: tuple[int, ...]) -> None:
    labels = np.rint(mask.array)
    values, counts = np.unique(labels, return_counts=True)
    case.labels = {int(v): int(n) for v, n in zip(values, counts, strict=True)}
    case.warnings.extend(f"mask: {note}" for note in mask.notes if note.code != "constant")
    if np.abs(mask.array - labels).max() > 1e-3 or values[0] < 0:
        case.errors.append("the mask has values that are not whole numbers from 0")
        return
    try:
        labels = on_grid(mask.with_array(labels.astype(np.int64)), image).array
        truth, _ = label_rule(case.rule, ignore).split(labels, target)
    except ZSADCLIPError as error:
        case.errors.append(str(error))
        return
    parts = components(truth)
    sizes = np.bincount(parts.ravel())[1:]
    case.lesions = int(sizes.size)
    case.lesion_mm3 = tuple(float(n * _voxel_mm3(image)) for n in sorted(sizes, reverse=True))
    axis = _axial(image)
    case.lesion_slices = int(truth.any(axis=tuple(a for a in range(3) if a != axis)).sum())
    if not case.lesions:
        case.warnings.append(f"no voxel of target {target}: Dice and sensitivity are undefined")
    background = find_background(image.array) if case.skull_stripped else None
    if background and (outside := int((truth & background.of(image.array)).sum())):
        case.warnings.append(f"{outside} lesion voxels lie where the image is {background}")


def write_audit(folder: str | os.PathLike, audited: Audit) -> list[Path]:
    """Write audit.json (everything), audit.csv (one line a case) and audit.md (to read); returns their paths."""
    folder = Path(folder)
    paths = [folder / f"audit.{kind}" for kind in ("json", "csv", "md")]
    cases = [{**asdict(case), "usable": case.usable} for case in audited.cases]
    write_json(paths[0], {"summary": audited.summary(), "problems": list(audited.problems), "cases": cases})
    write_csv(paths[1], [_line(case) for case in audited.cases])
    write_text(paths[2], markdown(audited))
    return paths


def markdown(audited: Audit) -> str:
    """The audit as a Markdown page."""
    lines = [f"# Data audit of {audited.source}", "", "| what | found |", "|---|---|"]
    for key, value in audited.summary().items():
        if isinstance(value, dict):
            value = ", ".join(f"{k}: {v:g}" if isinstance(v, float) else f"{k}: {v}" for k, v in value.items())
        lines.append(f"| {key.replace('_', ' ')} | {_cell(value)} |")
    lines += ["", "## Problems", ""]
    listed = [f"* {_cell(problem)}" for problem in audited.problems]
    for case in audited.cases:
        listed += [f"* {case.id}: **unusable**: {_cell(text)}" for text in case.errors]
        listed += [f"* {case.id}: {_cell(text)}" for text in case.warnings]
    return "\n".join(lines + (listed or ["None."])) + "\n"


def _line(case: CaseAudit) -> dict:
    row = {**asdict(case), "usable": case.usable, "total_lesion_mm3": sum(case.lesion_mm3)}
    row["shape"], row["spacing"] = "x".join(map(str, case.shape)), "x".join(f"{s:.4g}" for s in case.spacing)
    row["labels"] = " ".join(f"{label}:{count}" for label, count in case.labels.items())
    row["lesion_mm3"] = " ".join(f"{v:g}" for v in case.lesion_mm3)
    row["errors"], row["warnings"] = "; ".join(case.errors), "; ".join(case.warnings)
    return row


def _cell(text: object) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _counted(values) -> dict[str, int]:
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))


def _quantiles(values: np.ndarray) -> dict[str, float]:
    if not values.size:
        return {}
    points = np.quantile(values, (0, 0.25, 0.5, 0.75, 1))
    return dict(zip(("min", "q1", "median", "q3", "max"), map(float, points), strict=True))


def _voxel_mm3(volume: Volume) -> float:
    return float(abs(np.linalg.det(volume.affine[:3, :3])))


def _axial(volume: Volume) -> int:
    """The voxel axis nearest to superior-inferior."""
    return int(np.argmax(np.abs(volume.affine[2, :3] / np.asarray(volume.spacing))))
