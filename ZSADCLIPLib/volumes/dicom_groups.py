"""DICOM frames as volumes: grouped by what their headers say, sorted and checked by where they lie."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..notes import Note
from .dicom_frame import Frame

FEW_SLICES = 8  # a series of several orientations with fewer slices of one is a localizer
SAME_PLACE = 0.01  # mm between frames that count as lying in one place
UNEVEN = 0.1  # of a step, by which a slice may lie off its even place before the volume counts as uneven
ROUNDED = 0.11  # mm, by which it may do so for positions written with one decimal, up to a quarter of a step
NOTICED = 0.01  # of a step, from which on unequal steps are said

Digest = Callable[[Frame], bytes]
"""What frames with the same pixels have in common."""


@dataclass(frozen=True)
class Group:
    """The frames of one volume from its first slice to the last.

    `part` says which of several in a series it is; `trouble` why it cannot be read, `aside` why it is no choice unless named.
    """

    frames: tuple[Frame, ...]
    part: str = ""
    notes: tuple[Note, ...] = ()
    trouble: str = ""
    aside: str = ""

    @property
    def first(self) -> Frame:
        return self.frames[0]

    @property
    def step(self) -> np.ndarray | None:
        """From slice to slice (3,), LPS mm, the shear of a tilted gantry included; None where nothing says it."""
        if len(self.frames) > 1 and self.first.position is not None:
            return np.subtract(self.frames[-1].position, self.first.position) / (len(self.frames) - 1)
        single, many = (self.first.thickness, self.first.between), (self.first.between, self.first.thickness)
        length = next(filter(None, single if len(self.frames) == 1 else many), None)
        return None if length is None else self.first.normal * length


def groups_of(frames: Iterable[Frame], digest: Digest) -> list[Group]:
    """The volumes that frames form, in the order of their series; localizers and captures beside others stand aside."""
    groups: list[Group] = []
    stacks = _clustered(frames)
    for stack in stacks:
        parts = list(_told_apart(stack).values())
        if len(parts) > 1 and len(stack) > 2 and not all(map(_is_even, parts)) and _is_even(stack):
            parts = [stack]  # a value that changes from slice to slice tells no volumes apart
        for part in parts:
            groups += _split(part, digest)
    groups.sort(key=lambda group: (group.first.number, min(frame.order for frame in group.frames)))
    return _set_aside(groups)


def _set_aside(groups: list[Group]) -> list[Group]:
    axes: dict[str, set] = {}
    for group in groups:
        axes.setdefault(group.first.series, set()).add(np.round(group.first.orientation or (), 1).tobytes())
    found = []
    for group in groups:
        scout = {"LOCALIZER", "SCOUT"} & {word.upper() for word in group.first.kind}
        if scout or (len(axes[group.first.series]) > 1 and len(group.frames) < FEW_SLICES):
            group = replace(group, aside="localizer")
        found.append(group)
    if not all(group.first.capture or group.aside for group in found):
        found = [replace(group, aside="secondary capture") if group.first.capture else group for group in found]
    return found


def _clustered(frames: Iterable[Frame]) -> list[list[Frame]]:
    """The frames that could be stacked: of one series, size, orientation and spacing, up to rounding."""
    stacks: list[list[Frame]] = []
    by_series: dict[tuple, list[list[Frame]]] = {}
    for frame in frames:
        known = by_series.setdefault((frame.series, frame.size, frame.position is None), [])
        for stack in known:
            if _close(stack[0].orientation, frame.orientation, 1e-3) and _close(stack[0].spacing, frame.spacing, 1e-3):
                stack.append(frame)
                break
        else:
            known.append([frame])
            stacks.append(known[-1])
    return stacks


def _close(a: tuple | None, b: tuple | None, tolerance: float) -> bool:
    return a is b if a is None or b is None else bool(np.abs(np.subtract(a, b)).max() < tolerance)


def _told_apart(frames: Sequence[Frame]) -> dict[tuple, list[Frame]]:
    """The frames by image type, echo, time and b-value."""
    parts: dict[tuple, list[Frame]] = {}
    for frame in frames:
        echo = None if frame.echo is None else round(frame.echo, 2)
        key = (frame.kind, echo, frame.echo_number, frame.time, frame.b_value)
        parts.setdefault(key, []).append(frame)
    return parts


def _places(frames: Sequence[Frame]) -> np.ndarray | None:
    """Where each frame lies along the normal, (N,) mm; None where neither position nor location says it."""
    if all(frame.position is not None for frame in frames):
        return np.array([frame.position for frame in frames]) @ frames[0].normal
    if all(frame.location is not None for frame in frames):
        return np.array([frame.location for frame in frames])
    return None


def _by_place(frames: Sequence[Frame]) -> list[list[Frame]]:
    """The frames of each place along the normal, in order; those of one place as the series orders them."""
    places = _places(frames)
    if places is None:
        return [[frame] for frame in sorted(frames, key=lambda frame: frame.order)]
    found: list[list[Frame]] = []
    last = -np.inf
    for n in sorted(range(len(frames)), key=lambda n: (places[n], frames[n].order)):
        if places[n] - last >= SAME_PLACE:
            found.append([])
            last = places[n]
        found[-1].append(frames[n])
    return [sorted(here, key=lambda frame: frame.order) for here in found]


def _lattice(frames: Sequence[Frame]) -> tuple[bool, np.ndarray]:
    """True where sorted, placed slices (at least 2) lie evenly, and the steps (N - 1,) from one to the next in mm."""
    positions = np.array([frame.position for frame in frames])
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    off = np.linalg.norm(positions - np.linspace(positions[0], positions[-1], len(frames)), axis=1).max()
    return bool(off <= max(UNEVEN * steps.mean(), min(ROUNDED, steps.mean() / 4))), steps


def _is_even(frames: Sequence[Frame]) -> bool:
    """True for at least 2 slices in places of their own, evenly apart."""
    by_place = _by_place(frames)
    if len(by_place) < 2 or len(by_place) < len(frames) or frames[0].position is None:
        return False
    return _lattice([here[0] for here in by_place])[0]


def _split(frames: list[Frame], digest: Digest) -> Iterator[Group]:
    """The volumes among frames that share their key: one where each has a place of its own."""
    frames, copies = _without_copies(frames, digest)
    notes = _copied(copies)
    by_place = _by_place(frames)
    most = max(map(len, by_place))
    for what, parts in _numbered(frames):
        unique = all(len(_by_place(part)) == len(part) for part in parts.values())
        if (most > 1 and unique and len(parts) == most) or (most == 1 and not _is_even(frames) and _all_even(parts)):
            yield from (_group(part, f"{what} {key:g}", notes) for key, part in parts.items())
            return
    if most > 1 and len({len(here) for here in by_place}) == 1:
        yield from _in_order(by_place, digest, notes)
        return
    if most > 1:
        by_place, copies = _without_equals(by_place, digest)
        notes += _copied(copies)
        most = max(map(len, by_place))
        if most > 1 and len({len(here) for here in by_place}) == 1:
            yield from _in_order(by_place, digest, notes)
            return
    doubled = sum(len(here) > 1 for here in by_place)
    if 2 * doubled >= len(by_place) and most > 1:
        for n in range(most):
            part = [here[n] for here in by_place if len(here) > n]
            yield _group(part, f"volume {n + 1} of {most}", notes)
        return
    if doubled:
        slices = "1 slice is" if doubled == 1 else f"{doubled} slices are"
        at = _places([here[0] for here in by_place if len(here) > 1])
        text = f"{slices} there more than once with different pixels, the first at {at[0]:.4g} mm along the normal; "
        notes += (Note("uneven", text + "the first of the series' order is taken"),)
    yield _group([here[0] for here in by_place], "", notes)


def _all_even(parts: dict) -> bool:
    return len(parts) > 1 and all(map(_is_even, parts.values()))


def _numbered(frames: list[Frame]) -> Iterator[tuple[str, dict[float, list[Frame]]]]:
    """What may number the volumes of a series, and the frames by it."""
    files = {file: n + 1 for n, file in enumerate(dict.fromkeys(f.file for f in sorted(frames, key=lambda f: f.order)))}
    ways: dict[str, Callable[[Frame], float | None]] = {
        "acquisition": lambda frame: frame.acquisition,
        "trigger time": lambda frame: frame.trigger,
    }
    if any(frame.frames > 1 for frame in frames):
        ways["file"] = lambda frame: files[frame.file]
    for what, of in ways.items():
        parts: dict[float, list[Frame]] = {}
        for frame in frames:
            value = of(frame)
            parts.setdefault(-1.0 if value is None else value, []).append(frame)
        if len(parts) > 1:
            yield what, dict(sorted(parts.items()))


def _without_copies(frames: list[Frame], digest: Digest) -> tuple[list[Frame], int]:
    """The frames without copies of one instance: same identifier, place and pixels; and how many were dropped."""
    places: dict[tuple, set] = {}
    for frame in frames:
        places.setdefault((frame.instance, frame.index), set()).add(frame.position)
    kept: list[Frame] = []
    known: dict[tuple, list[Frame]] = {}
    for frame in frames:
        key = (frame.instance, frame.index)
        others = known.setdefault((*key, frame.position), [])
        # An identifier in several places was made up by a careless program and identifies nothing.
        if frame.instance and others and len(places[key]) == 1 and digest(frame) in map(digest, others):
            continue
        others.append(frame)
        kept.append(frame)
    return kept, len(frames) - len(kept)


def _without_equals(by_place: list[list[Frame]], digest: Digest) -> tuple[list[list[Frame]], int]:
    """Each place without frames whose pixels another one there has, too."""
    kept = []
    for here in by_place:
        unique: list[Frame] = []
        for frame in here:
            equal = (digest(other) for other in unique if other.position == frame.position)
            if len(here) == 1 or digest(frame) not in equal:
                unique.append(frame)
        kept.append(unique)
    return kept, sum(map(len, by_place)) - sum(map(len, kept))


def _copied(count: int) -> tuple[Note, ...]:
    files = "1 slice is" if count == 1 else f"{count} slices are"
    return (Note("duplicates", f"{files} there twice with the same pixels: one of each is read"),) if count else ()


def _in_order(by_place: list[list[Frame]], digest: Digest, notes: tuple[Note, ...]) -> Iterator[Group]:
    """As many volumes as there are frames in each place, told apart by the order of the series; equal ones are one."""
    parts = [list(part) for part in zip(*by_place, strict=True)]
    kept = _distinct(parts, digest)
    if copies := len(parts) - len(kept):
        notes += _copied(copies * len(by_place))
    known = all(len({frame.order for frame in here}) == len(here) for here in by_place)
    trouble = "" if known or len(kept) == 1 else "its slices share their places and nothing in the headers orders them"
    for n, part in enumerate(kept):
        yield _group(part, f"time point {n + 1} of {len(kept)}" if len(kept) > 1 else "", notes, trouble)


def _distinct(parts: list[list[Frame]], digest: Digest) -> list[list[Frame]]:
    """The first of equal volumes each, in order; slices are compared until all that differ are known to."""
    alike = [list(range(len(parts)))]
    for k in range(len(parts[0])):
        found: dict[tuple, list[int]] = {}
        for number, members in enumerate(alike):
            for n in members:
                found.setdefault((number, digest(parts[n][k]) if len(members) > 1 else b""), []).append(n)
        alike = list(found.values())
        if len(alike) == len(parts):
            break
    return [parts[n] for n in sorted(members[0] for members in alike)]


def _group(frames: list[Frame], part: str, notes: tuple[Note, ...], trouble: str = "") -> Group:
    """A volume with what is to be said about its places and sizes."""
    ordered = tuple(here[0] for here in _by_place(frames))
    group = Group(ordered, part, notes, trouble)
    first, said = ordered[0], list(notes)
    if first.position is None or first.orientation is None:
        said.append(Note("unplaced", "the slices carry no position: their order and distance are assumed"))
    elif len(ordered) > 1:
        said += _evenness(ordered)
    if first.spacing is None:
        said.append(Note("spacing", "the headers do not say the size of a pixel (PixelSpacing): 1 mm is assumed"))
    if group.step is None:
        text = "the headers say neither the thickness nor the distance of slices: 1 mm is assumed"
        said.append(Note("thickness", text))
    elif len(ordered) == 1:
        said.append(Note("thickness", f"a single slice, taken as {np.linalg.norm(group.step):.4g} mm thick", "info"))
    return Group(ordered, part, tuple(said), trouble)


def _evenness(frames: Sequence[Frame]) -> list[Note]:
    """A note where slices are missing, doubled or of mixed distance."""
    even, steps = _lattice(frames)
    usual = float(np.median(steps))
    if not even:
        text = f"the slices are {steps.min():.4g} to {steps.max():.4g} mm apart, most {usual:.4g} mm: "
        missing = np.rint(steps / usual).astype(int) - 1
        regular = np.abs(steps / usual - (missing + 1)).max() < UNEVEN
        if regular and 0 < missing.sum() < len(frames):
            slices = "1 slice seems" if missing.sum() == 1 else f"{missing.sum()} slices seem"
            text += f"{slices} to be missing, after slice {int(np.argmax(missing > 0)) + 1} of {len(frames)}; "
        else:
            text += "some may be missing, or of another stack; "
        return [Note("uneven", text + "sizes and positions along the slices are not exact")]
    if steps.max() - steps.min() > NOTICED * steps.max():
        text = f"the slices are {steps.min():.4g} to {steps.max():.4g} mm apart: read as {steps.mean():.4g} mm"
        return [Note("uneven", text, "warning")]
    said, thick = frames[0].between, frames[0].thickness
    # Some makers write the gap here; a distance is at least the thickness.
    if (
        said
        and thick
        and said >= 0.99 * thick
        and (times := round(usual / said)) > 1
        and abs(usual / said - times) < 0.02
    ):
        text = f"the slices are {usual:.4g} mm apart and the headers say {said:.4g} mm: {times - 1} of {times} seem missing"
        return [Note("uneven", text)]
    return []
