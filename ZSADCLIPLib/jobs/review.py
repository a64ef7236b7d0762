"""The job behind `zsadclip review`: the page of a finished run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from ..datasets.records import CHANNELS
from ..errors import UsageError
from ..fields import OneOf, check, flag
from ..progress import Progress, Report, quiet, silent


@dataclass(frozen=True)
class Review:
    """Write the review page of a run, a folder that opens by a double click.

    output     the folder of the run.
    images     what was given to detection: files, folders, globs or a manifest; each image is known by its SHA-256.
    cases      ids, all finished cases where none is given.
    page       the page's folder, OUTPUT/review unless given.
    blind, crop, placement, series   as in `review.page.PageSettings`; `channel` as in `jobs.detect.Detect`.
    """

    output: str = flag("output", metavar="OUT", help="output folder of detect, evaluate or cohort")
    images: tuple[str, ...] = flag(
        default=(), metavar="INPUT", help="the images that were scored: what was given to detect"
    )
    cases: tuple[str, ...] = flag(default=(), metavar="ID", help="only these cases")
    page: str | None = flag(default=None, metavar="DIR", help="folder of the page (default OUT/review)")
    blind: bool = flag(
        default=False, help="no scores in the page, and cases and findings in an order that says nothing"
    )
    crop: Literal["none", "brain"] = flag(default="none", help="brain: all else is dark, so that no face is passed on")
    placement: Literal["sform", "qform"] | None = flag(default=None, help="as it was given to detect")
    series: str | None = flag(default=None, metavar="N|UID|DESCRIPTION", help="as it was given to detect")
    channel: Annotated[str, OneOf(CHANNELS)] | None = flag(default=None, help="as it was given to detect")

    kind: ClassVar[str] = "review"

    @property
    def folder(self) -> Path:
        """Where the page is."""
        from ..review.page import FOLDER

        return Path(self.page) if self.page else Path(self.output) / FOLDER

    def run(self, progress: Progress = silent, report: Report = quiet) -> dict:
        """Write the page; returns {"cases", "page", "bytes"}.

        Raises UsageError without images, ZSADCLIPError as `review.page.write_page`, and whatever `progress` raises.
        """
        from ..detection.inputs import expand_inputs
        from ..review.finished import finished_cases, match_images
        from ..review.page import PageSettings

        check(self)
        finished = finished_cases(Path(self.output), self.cases)
        if not self.images:
            raise UsageError("the page needs the images: give --images what was given to detect")
        found = match_images(finished, expand_inputs(self.images, output=self.output, channel=self.channel))
        settings = PageSettings(self.blind, self.crop, self.placement, self.series)
        return page_of(self.output, found, settings, self.folder, progress, report, self.cases)


def page_of(
    output: str,
    images: Mapping[str, Path],
    settings,
    folder: Path,
    progress: Progress = silent,
    report: Report = quiet,
    ids: tuple[str, ...] = (),
) -> dict:
    """Write the page of the finished cases of a run that have an image; returns as `Review.run`."""
    from ..review.finished import finished_cases
    from ..review.page import write_page

    cases = [case for case in finished_cases(Path(output), ids) if case.id in images]
    with_face = [case.id for case in cases if not _is_stripped(case.facts)]
    if with_face and settings.crop == "none":
        text = f"{len(with_face)} of {len(cases)} cases may show a face; before the page is passed on: --crop brain"
        report({"event": "note", "text": text})
    page = write_page(folder, cases, images, settings, Path(output).resolve().name, progress)
    size = sum(path.stat().st_size for path in page.parent.rglob("*") if path.is_file())
    return {"cases": len(cases), "page": str(page), "bytes": size}


def _is_stripped(facts: dict) -> bool:
    return bool(facts["provenance"].get("preprocessing", {}).get("skull_stripped"))
