"""DICOM frames as volumes: grouped by what their headers say, sorted and checked by where they lie."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from ..notes import Note
from .dicom_frame import Frame
from .dicom_stack import Group, group_of, is_even, places_of, stacked

FEW_SLICES = 8  # a series of several orientations with fewer slices of one is a localizer
SAME_PLANE = 0.9  # cosine between normals, from which on two volumes show the same plane

Digest = Callable[[Frame], bytes]
"""What frames with the same pixels have in common."""


def groups_of(frames: Iterable[Frame], digest: Digest) -> list[Group]:
    """The volumes that frames form, in the order of their series; localizers and captures beside others stand aside."""
    groups: list[Group] = []
    stacks = _clustered(frames)
    for stack in stacks:
        notes: tuple[Note, ...] = ()
        parts = list(_told_apart(stack).values())
        if len(parts) > 1 and len(stack) > 2 and not all(map(is_even, parts)) and is_even(stack):
            parts = [stack]  # a value that changes from slice to slice tells no volumes apart
            text = "slices differ in image type, echo, time or b-value and lie evenly: read as one volume"
            notes = (Note("series", text),)
        for part in parts:
            groups += [replace(group, notes=group.notes + notes) for group in _split(part, digest)]
    groups.sort(key=lambda group: (group.first.number, min(frame.order for frame in group.frames)))
    return _set_aside(groups)


def _set_aside(groups: list[Group]) -> list[Group]:
    normals: dict[str, list[np.ndarray]] = {}
    for group in groups:
        normals.setdefault(group.first.series, []).append(group.first.normal)
    found = []
    for group in groups:
        scout = {"LOCALIZER", "SCOUT"} & {word.upper() for word in group.first.kind}
        crossed = any(abs(group.first.normal @ normal) < SAME_PLANE for normal in normals[group.first.series])
        if scout or (crossed and len(group.frames) < FEW_SLICES):
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


def _split(frames: list[Frame], digest: Digest) -> Iterator[Group]:
    """The volumes among frames that share their key: one where each has a place of its own."""
    frames, copies = _without_copies(frames, digest)
    notes = _copied(copies)
    by_place = stacked(frames)
    most = max(map(len, by_place))
    for what, parts in _numbered(frames):
        unique = all(len(stacked(part)) == len(part) for part in parts.values())
        if (most > 1 and unique and len(parts) == most) or (most == 1 and not is_even(frames) and _all_even(parts)):
            yield from (group_of(part, f"{what} {key:g}", notes) for key, part in parts.items())
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
        yield from _incomplete(by_place, notes)
        return
    if doubled:
        slices = "1 slice is" if doubled == 1 else f"{doubled} slices are"
        at = places_of([here[0] for here in by_place if len(here) > 1])
        text = f"{slices} there more than once with different pixels, the first at {at[0]:.4g} mm along the normal; "
        notes += (Note("uneven", text + "the first of the series' order is taken"),)
    yield group_of([here[0] for here in by_place], "", notes)


def _all_even(parts: dict) -> bool:
    return len(parts) > 1 and all(map(is_even, parts.values()))


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
        yield group_of(part, f"time point {n + 1} of {len(kept)}" if len(kept) > 1 else "", notes, trouble)


def _incomplete(by_place: list[list[Frame]], notes: tuple[Note, ...]) -> Iterator[Group]:
    """Volumes of which some lack slices: in the order of the series a new one begins where a place comes again.

    Where that gives more than there are frames in a place, the series goes through the volumes slice by slice.
    """
    place = {id(frame): n for n, here in enumerate(by_place) for frame in here}
    parts: list[dict[int, Frame]] = [{}]
    for frame in sorted((frame for here in by_place for frame in here), key=lambda frame: frame.order):
        if place[id(frame)] in parts[-1]:
            parts.append({})
        parts[-1][place[id(frame)]] = frame
    found = [list(part.values()) for part in parts]
    most = max(map(len, by_place))
    if len(found) > most:
        found = [[here[n] for here in by_place if len(here) > n] for n in range(most)]
    text = "the volumes of the series have unequal numbers of slices, and which slice belongs to which is not certain"
    for n, part in enumerate(found):
        yield group_of(part, f"volume {n + 1} of {len(found)}", (*notes, Note("uneven", text)))


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
