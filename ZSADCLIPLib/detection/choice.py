"""Which of the volumes that a search found are meant: one sequence of a BraTS case, and no label map beside an image."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..datasets.records import match_name
from ..errors import InputError, listed, number_of
from ..files.names import split_suffix

USUAL_CHANNEL = "t2w"
LABEL_NAME = re.compile(
    r"(.*[-_. ])?(d?seg(mentations?)?|(brain)?masks?|label(s|maps?)?|gt|gold|truth|ground[-_]?truth|lesions?|rois?|a?parc|aseg)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Case:
    """One volume to work on.

    `id` is unique and safe as a file name; `mask` is the ground truth, if there is one; `series` says that the image is a
    folder, a medium or a file of DICOM, whose name tells nothing; `named` that a user gave this very image, alone or in a
    manifest; `beside` that other images lie in its folder.
    """

    id: str
    image: Path
    mask: Path | None = None
    series: bool = False
    named: bool = field(default=False, compare=False)
    beside: bool = field(default=False, compare=False)


def chosen(cases: Sequence[Case], channel: str | None) -> tuple[list[Case], list[str]]:
    """The cases that are meant, in their order, and sentences about what was left out.

    Of a BraTS case it is the file of `channel` (None: t2w, or the only one there is) with the segmentation as the truth; of
    others each file but those that are called as label maps are and lie beside an image. Named cases stay. Raises InputError
    when a BraTS case has several sequences of which none is meant, and when nothing is left.
    """
    groups: dict[tuple, dict[str, Case]] = defaultdict(dict)
    for case in cases:
        if not case.named and (facts := match_name(case.image.name)):
            groups[case.image.parent, facts["case"]][facts["kind"]] = case
    # A segmentation whose images are elsewhere is a label map like others.
    groups = {key: kinds for key, kinds in groups.items() if set(kinds) != {"seg"}}
    taken, without = {}, []
    for (_, name), kinds in groups.items():
        kind = _kind_of(name, kinds, channel)
        if kind is None:
            without.append(name)
        else:
            truth = kinds["seg"].image if "seg" in kinds else None
            taken[kinds[kind].image] = replace(kinds[kind], mask=truth)
    grouped = {case.image for kinds in groups.values() for case in kinds.values()}
    meant = [taken.get(case.image, case) for case in cases if case.image in taken or case.image not in grouped]
    labels = {case.image for case in meant if not case.named and _is_called_label(case)}
    images = {case.image.parent for case in meant if case.image not in labels}
    left = [case for case in meant if case.image in labels and case.image.parent in images]
    meant = [case for case in meant if case.image not in labels or case.image.parent not in images]
    if without and not meant:
        raise InputError(f"no {channel} file in {listed(without)}; choose another --channel")
    return _beside(meant), [*_about_channels(groups, taken, channel, without), *_about_labels(left)]


def _kind_of(name: str, kinds: dict[str, Case], channel: str | None) -> str | None:
    """Which of a BraTS case's files is meant, None when it lacks the channel asked for."""
    images = [kind for kind in kinds if kind != "seg"]
    for kind in ("image", channel or USUAL_CHANNEL):
        if kind in images:
            return kind
    if channel or len(images) == 1:
        return None if channel else images[0]
    raise InputError(f"case {name} has {', '.join(sorted(images))} and no {USUAL_CHANNEL}; choose one with --channel")


def _is_called_label(case: Case) -> bool:
    return case.image.is_file() and LABEL_NAME.fullmatch(split_suffix(case.image)[0]) is not None


def _beside(cases: list[Case]) -> list[Case]:
    """The cases, with a mark on those in whose folders others lie."""
    count: dict[Path, int] = defaultdict(int)
    for case in cases:
        count[case.image.parent] += 1
    return [replace(case, beside=count[case.image.parent] > 1 and not case.named) for case in cases]


def _about_channels(groups: dict, taken: dict, channel: str | None, without: list[str]) -> list[str]:
    several = [kinds for kinds in groups.values() if len(set(kinds) - {"seg"}) > 1]
    lines = []
    if several and taken:
        lines.append(f"of each BraTS case {channel or USUAL_CHANNEL} is scored; --channel takes another sequence")
    truths = sum(case.mask is not None for case in taken.values())
    if truths:
        lines.append(f"{number_of(truths, 'case')} compared with the segmentation beside the image")
    if without:
        lines.append(f"{number_of(len(without), 'case')} left out, without a {channel} file: {listed(without)}")
    return lines


def _about_labels(left: list[Case]) -> list[str]:
    if not left:
        return []
    what = "1 label map beside images is" if len(left) == 1 else f"{len(left)} label maps beside images are"
    return [f"{what} left out: {listed([case.image.name for case in left])}; name one alone to score it"]
