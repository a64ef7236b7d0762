"""What was noticed about an image: one list of notes, each with a code, a severity and a sentence, for all who show them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, replace

from .errors import InputError, UsageError

SEVERITIES = ("info", "warning", "error")
"""A thing that was done and is worth knowing; a thing that makes results doubtful; one that stops a case unless allowed."""

CODES = {
    "shape": "info",
    "voxels": "warning",
    "library": "info",
    "files": "info",
    "series": "info",
    "duplicates": "info",
    "damaged": "warning",
    "spacing": "error",
    "thickness": "error",
    "uneven": "error",
    "placement": "error",
    "placed": "info",
    "pixdim": "error",
    "units": "info",
    "voxel-size": "error",
    "extent": "error",
    "small": "warning",
    "label-map": "warning",
    "unplaced": "warning",
    "constant": "error",
    "mask": "warning",
    "resampled": "info",
    "oblique": "warning",
    "brain": "warning",
    "brain-unknown": "warning",
    "world": "warning",
    "bank": "info",
    "batch": "info",
    "few": "warning",
    "background": "info",
    "window": "info",
    "contrast": "warning",
    "plane": "info",
    "thick-slices": "warning",
    "planes": "warning",
    "threshold": "warning",
    "crop": "warning",
    "dicom": "info",
}
"""Every code and its severity."""
REMEDIES = {"placement": "choose with --placement sform or --placement qform"}
"""What to do about an error that cannot be let pass as it is."""
DOUBTS = tuple(sorted(code for code, severity in CODES.items() if severity == "error" and code not in REMEDIES))
"""The codes that stop a case unless they are allowed."""


@dataclass(frozen=True)
class Note:
    """A sentence about an image under one of CODES; `severity` is that of the code unless it was allowed."""

    code: str
    text: str
    severity: str = ""

    def __post_init__(self):
        if self.code not in CODES:
            raise UsageError(f"note code {self.code!r} is unknown; choose one of {', '.join(CODES)}")
        if not self.severity:
            object.__setattr__(self, "severity", CODES[self.code])

    def __str__(self) -> str:
        return f"{self.code}: {self.text}"

    def to_dict(self) -> dict[str, str]:
        """The note for JSON."""
        return asdict(self)


class DoubtError(InputError):
    """An image is doubtful; `codes` are those that may be allowed."""

    def __init__(self, message: str, codes: tuple[str, ...] = ()):
        super().__init__(message)
        self.codes = codes


def settled(notes: Iterable[Note], allow: Collection[str] = ()) -> tuple[Note, ...]:
    """The notes, each once, with those of severity error that `allow` names turned into warnings.

    Raises DoubtError with the sentences of the other errors and the switch that lets them pass.
    """
    notes = tuple(dict.fromkeys(notes))
    stopped = [note for note in notes if note.severity == "error" and note.code not in allow]
    if stopped:
        codes = tuple(dict.fromkeys(note.code for note in stopped if note.code not in REMEDIES))
        parts = [note.text for note in stopped]
        parts += [REMEDIES[note.code] for note in stopped if note.code in REMEDIES]
        parts += [f"to go on all the same: --allow {' '.join(codes)}"] if codes else []
        raise DoubtError("; ".join(parts), codes)
    return tuple(replace(note, severity="warning") if note.severity == "error" else note for note in notes)


def sentences(notes: Iterable[Note]) -> str:
    """The notes as one line, for a table."""
    return "; ".join(map(str, notes))
