"""The finished cases of a run, and the images that they were made from, told by their digests."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..detection.choice import Case
from ..detection.outputs import KEYS, LARGEST_JSON
from ..errors import InputError, UsageError, listed
from ..files.digests import is_intact
from ..files.names import split_suffix
from ..files.text import parse_json
from ..volume import Volume
from ..volumes.reading import read_volume, volume_hash

ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,120}")
"""What the id of a case may be: a plain file name, which needs no escape in a page or an address."""


@dataclass(frozen=True, eq=False)
class Finished:
    """A finished case of a run: `facts` is its JSON, the files lie beside that in `folder`."""

    id: str
    folder: Path
    facts: dict

    @property
    def seal(self) -> str:
        """What a review refers to: it changes with anything that the result is or was made from."""
        return self.facts["seal"]

    @property
    def picture(self) -> Path | None:
        """The case's PNG, where one was wanted."""
        path = self.folder / f"{self.id}.png"
        return path if path.name in self.facts["files"] and path.is_file() else None

    def map(self) -> Volume:
        """The map, float32 (I, J, K); raises InputError when it is gone or not the one that was sealed."""
        return self._volume("_anomaly")

    def mask(self) -> Volume:
        """The mask, uint8 (I, J, K) of 0 and 1; raises InputError as `map` does."""
        return self._volume("_mask")

    def _volume(self, kind: str) -> Volume:
        name = next((name for name in self.facts["files"] if split_suffix(Path(name))[0] == self.id + kind), None)
        if name is None or not is_intact(self.folder, {name: self.facts["files"][name]}):
            raise InputError(f"{name or self.id + kind} is not the file that the run wrote; detect {self.id} again")
        return read_volume(self.folder / name)


def finished_cases(out: Path, ids: Sequence[str] = ()) -> list[Finished]:
    """The finished cases in a folder in the order of their ids, or those of `ids` in theirs.

    Raises InputError where there are none, UsageError where one that is asked for is not among them.
    """
    found = {case.id: case for path in sorted(out.glob("*.json")) if (case := _finished(path))}
    if not found:
        raise InputError(f"{out} holds no finished case; name the output folder of zsadclip detect")
    if unknown := [name for name in ids if name not in found]:
        raise UsageError(f"{out} has no finished case {listed(unknown)}; it has {listed(list(found))}")
    return [found[name] for name in ids] if ids else list(found.values())


def _finished(path: Path) -> Finished | None:
    """The case that a JSON file describes; None for any other file."""
    try:
        facts = parse_json(path.read_bytes()) if path.stat().st_size <= LARGEST_JSON else None
    except (OSError, ValueError):
        return None
    whole = isinstance(facts, dict) and facts.keys() >= KEYS | {"threshold", "display", "findings", "provenance"}
    if not whole or facts["id"] != path.stem or not ID.fullmatch(path.stem):
        return None
    return Finished(path.stem, path.parent, facts)


def match_images(finished: Iterable[Finished], cases: Sequence[Case]) -> dict[str, Path]:
    """The image of each finished case among `cases` by its SHA-256; those of equal ids are looked at first.

    Raises InputError naming the finished cases whose image is not there.
    """
    wanted = {case.id: case.facts["inputs"].get("image") for case in finished}
    open_ids = dict.fromkeys(wanted)
    found: dict[str, Path] = {}
    for case in sorted(cases, key=lambda case: case.id not in wanted):
        if not open_ids:
            break
        digest = volume_hash(case.image)
        for name in [name for name in open_ids if wanted[name] == digest]:
            found[name] = case.image
            del open_ids[name]
    if open_ids:
        raise InputError(
            f"the image of {listed(list(open_ids))} is not among the inputs, as its SHA-256 tells: name the very files that "
            "were scored, or choose other cases with --cases"
        )
    return found


def image_of(case: Finished, map: Volume, path: Path, placement: str | None, series: str | None) -> Volume:
    """The image of a case on the grid of its map; raises InputError when it is another image or lies elsewhere."""
    if volume_hash(path) != case.facts["inputs"].get("image"):
        raise InputError(f"{path.name} is not the image that {case.id} was made from, as its SHA-256 tells")
    for form in (placement,) if placement else (None, "sform", "qform"):
        image = read_volume(path, form, series)
        if map.same_grid(image):
            return image
    raise InputError(f"{path.name} lies on another grid than the map of {case.id}; give --placement or --series again")
