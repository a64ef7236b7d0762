"""Links from a run's report to review pages, and the commands that make one."""

import shlex
from pathlib import Path

import pytest
from run_fixtures import row_of, write_run

from ZSADCLIPLib.benchmark.rowfolder import finish_row, read_json
from ZSADCLIPLib.cli import parser
from ZSADCLIPLib.files.text import write_json
from ZSADCLIPLib.report.numbers import Numbers
from ZSADCLIPLib.report.results import read_run
from ZSADCLIPLib.report.reviews import commands, review_pages
from ZSADCLIPLib.report.write import write_outputs

pytestmark = pytest.mark.usefixtures("one_figure")
SETTINGS = {
    "slices": {"image_size": 240, "intensity": "per-slice-minmax", "window": None, "crop": "none"},
    "score": {"scale": "layers", "background": "zero", "planes": ["axial", "coronal"], "fuse": "mean", "smooth_mm": 2.0}
    | {"smooth": "through"},
    "min_component_mm3": 5.0,
    "min_depth_mm": 0.0,
    "adapter": {"overrides": {"upsample": "faithful"}},
}


@pytest.fixture
def out(tmp_path) -> Path:
    """A run of two rows, of which the better one keeps its adapter."""
    folder = write_run(tmp_path, [row_of("vand-brats"), row_of("vand-industrial")], range(2))
    (row,) = (folder / "rows").glob("vand-brats-*")
    manifest = read_json(row / "manifest.json") | {"settings": SETTINGS}
    manifest["method"]["summed_layers"] = 4
    write_json(row / "manifest.json", manifest)
    (row / "adapter.safetensors").write_bytes(b"adapter")
    finish_row(row, [path.stem for path in (row / "cases").glob("*.json")])
    return folder


def make_page(out: Path, row: str, *ids: str) -> None:
    """The files of a review page that the report looks for."""
    page = out / "detect" / row / "review"
    (page / "cases").mkdir(parents=True)
    for id in ids:
        (page / "cases" / f"{id}.js").write_text("")
    (page / "run.js").write_text("")


def test_without_a_page_the_commands_are_the_rows_own_settings(out):
    numbers = Numbers(read_run(out))
    row, (detect, report) = commands(out, numbers)
    assert row == "VAND Brats" and report == "zsadclip report OUT"
    chosen = parser().parse_args(shlex.split(detect)[1:])
    assert chosen.inputs == ["OUT/data/case-00000", "OUT/data/case-00001"] and chosen.output == "OUT/detect/vand-brats"
    assert (chosen.image_size, chosen.intensity, chosen.crop, chosen.background) == (
        240,
        "per-slice-minmax",
        "none",
        "zero",
    )
    assert (chosen.planes, chosen.fuse, chosen.smooth_mm, chosen.smooth) == (
        ["axial", "coronal"],
        "mean",
        2.0,
        "through",
    )
    assert (chosen.min_size_mm3, chosen.min_depth_mm, chosen.review) == (5.0, 0.0, True)
    stored = numbers.run.results[-1].files.threshold["rules"]["f1max-pooled-train"]
    (best,) = (r for r in numbers.run.results if r.row.id == "vand-brats")
    stored = best.files.threshold["rules"]["f1max-pooled-train"]
    assert float(chosen.threshold.removeprefix("fixed:")) == pytest.approx(4 * stored)
    page = Path(write_outputs(out)["report"]).read_text("utf-8")
    assert (
        "There is no review page of this run yet" in page and '<pre class="command">zsadclip detect OUT/data/' in page
    )


def test_pages_are_linked_case_by_case_the_lowest_dice_first(out):
    make_page(out, "vand-brats", "case-00000-t2w", "case-00001", "case-00007")
    make_page(out, "vand-industrial", "something-else")
    numbers = Numbers(read_run(out))
    (reviewed,) = review_pages(out, numbers)
    assert reviewed.row == "VAND Brats" and reviewed.address == "detect/vand-brats/review/index.html"
    (best,) = (r for r in numbers.run.results if r.row.id == "vand-brats")
    dice = best.values("dice", numbers.run.choices()[0])
    assert [each[2] for each in reviewed.cases] == sorted(dice)
    addresses = {case: address for case, address, _ in reviewed.cases}
    assert addresses["case-00000"] == "detect/vand-brats/review/index.html#case-00000-t2w"
    page = Path(write_outputs(out)["report"]).read_text("utf-8")
    assert '<a href="detect/vand-brats/review/index.html#case-00000-t2w">case-00000</a>' in page
    assert "There is no review page" not in page and "zsadclip detect" not in page


def test_a_run_without_adapters_says_so(tmp_path):
    out = write_run(tmp_path, [row_of("anovl-industrial")], range(2))
    assert commands(out, Numbers(read_run(out))) is None
    page = Path(write_outputs(out)["report"]).read_text("utf-8")
    assert "no row keeps an adapter that detection can load" in page
