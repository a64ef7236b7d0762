"""`zsadclip review`."""

from __future__ import annotations

import argparse
import webbrowser
from contextlib import suppress
from pathlib import Path

from ..errors import UsageError, number_of
from ..jobs.review import Review
from .bar import case_line, run_with_bar
from .options import add_flags, job_of


def add_review(p: argparse.ArgumentParser) -> None:
    add_flags(p, Review)
    p.add_argument(
        "--serve",
        nargs="?",
        type=int,
        const=0,
        metavar="PORT",
        help="serve the page to this computer, verdicts go into OUT",
    )
    p.add_argument("--open", action="store_true", help="open the page in the browser")
    p.add_argument("--merge", nargs="+", metavar="FILE", help="bring the reviews of several readers together")
    p.add_argument("--apply-review", nargs="+", metavar="FILE", help="keep accepted findings: mask, JSON and CSV")
    p.add_argument(
        "--dicom", action="store_true", help="with --apply-review and --images: accepted findings as DICOM, too"
    )
    p.add_argument(
        "--to", metavar="DIR", help="folder of --merge (default OUT/merged) or --apply-review (OUT/accepted)"
    )


def run_review(chosen: argparse.Namespace) -> int:
    """Write the page and, as asked, serve it; or merge or apply review files."""
    job = job_of(Review, chosen)
    if chosen.merge and chosen.apply_review:
        raise UsageError("--merge and --apply-review are two things; do one after the other")
    if chosen.dicom and not (chosen.apply_review and job.images):
        raise UsageError(
            "--dicom needs --apply-review FILE and, for the headers, --images with what was given to detect"
        )
    if chosen.merge:
        return _merge(job, chosen)
    if chosen.apply_review:
        return _apply(job, chosen)
    page = job.folder / "index.html"
    if job.images or not page.is_file():
        result = run_with_bar(job, case_line)
        print(
            f"{number_of(result['cases'], 'case')}, {result['bytes'] / 1e6:.1f} MB; the folder can be copied and mailed"
        )
    print(f"page: {page}")
    print("Research use only, not for diagnosis.")
    if chosen.serve is not None:
        return _serve(job, chosen)
    if chosen.open:
        webbrowser.open(page.resolve().as_uri())
    return 0


def _serve(job: Review, chosen: argparse.Namespace) -> int:
    from ..review.finished import finished_cases
    from ..review.server import ReviewServer

    with ReviewServer(Path(job.output), job.folder, finished_cases(Path(job.output)), chosen.serve) as server:
        print(f"open {server.address}\nVerdicts go to {server.folder_of('READER')}. Ctrl-C ends it.", flush=True)
        if chosen.open:
            webbrowser.open(server.address)
        with suppress(KeyboardInterrupt):
            server.serve_forever()
    return 0


def _merge(job: Review, chosen: argparse.Namespace) -> int:
    from ..review.agreement import FOLDER, merge_reviews
    from ..review.finished import finished_cases
    from ..review.verdicts import read_reviews

    folder = Path(chosen.to) if chosen.to else Path(job.output) / FOLDER
    told = merge_reviews(finished_cases(Path(job.output), job.cases), read_reviews(chosen.merge), folder)
    for each in told["readers"]:
        print(
            f"{each['reader']}: {each['finished']} of {number_of(each['cases'], 'case')} finished, {each['accept']} accepted, "
            f"{each['reject']} rejected, {each['unsure']} unsure, {each['missed']} missed, "
            f"{each['seconds_per_case']:.0f} s a case"
        )
    for each in told["agreement"]:
        print(
            f"{each['first']} and {each['second']}: {each['same']} of {each['findings']} alike, "
            f"kappa {each['kappa']:.2f} [{each['low']:.2f}, {each['high']:.2f}]"
        )
    figures = told["free_response"]
    cases = number_of(figures["cases"], "finished case")
    print(
        f"by consensus over {cases}: {figures['found']} of {figures['lesions']} lesions found "
        f"({figures['sensitivity']:.2f}), {figures['false_per_volume']:.2f} false findings a volume"
    )
    print(f"files: {folder}\nResearch use only, not for diagnosis.")
    return 0


def _apply(job: Review, chosen: argparse.Namespace) -> int:
    from ..detection.inputs import expand_inputs
    from ..dicom.export import FOLDER as OBJECTS
    from ..dicom.export import SAID
    from ..review.accepted import FOLDER, apply_reviews
    from ..review.finished import finished_cases, match_images
    from ..review.verdicts import read_reviews

    folder = Path(chosen.to) if chosen.to else Path(job.output) / FOLDER
    cases, images = finished_cases(Path(job.output), job.cases), None
    if chosen.dicom:
        images = match_images(cases, expand_inputs(job.images, output=job.output, channel=job.channel))
    told = apply_reviews(cases, read_reviews(chosen.apply_review), folder, images, job.series)
    if told["objects"]:
        print(SAID.format(folder=folder / OBJECTS))
    among = f"{number_of(told['of'], 'finding')} in {number_of(told['cases'], 'case')}"
    print(f"{told['accepted']} of {among} accepted; in {told['output']}")
    print("Research use only, not for diagnosis.")
    return 0
