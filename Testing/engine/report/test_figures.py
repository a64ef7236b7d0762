"""Every figure: its plotted numbers, its files, and what happens when there is nothing to draw."""

import csv
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.text import Text
from run_fixtures import row_of, write_run

from ZSADCLIPLib.report.axis import Axis, slice_bins
from ZSADCLIPLib.report.figures import FIGURES, save, style
from ZSADCLIPLib.report.figures.froc import curve_points
from ZSADCLIPLib.report.numbers import Numbers
from ZSADCLIPLib.report.results import read_run

ROWS = ("adaclip-industrial", "adaclip-brats", "vand-brats", "vand-pmc", "anovl-industrial", "intensity-baseline")


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    return Numbers(read_run(write_run(tmp_path_factory.mktemp("run"), map(row_of, ROWS), seeds=range(3))))


@pytest.fixture(scope="module")
def drawings(numbers):
    with style():
        return {name: drawing for name, draw in FIGURES.items() if (drawing := draw(numbers)) is not None}


def test_all_figures_are_drawn_and_named_alike(drawings):
    assert len(drawings) == 13 and FIGURES.keys() - drawings.keys() == {"evidence"}
    for name, drawing in drawings.items():
        assert drawing.name == name and drawing.data and len(drawing.alt) > 30 and len(drawing.caption) > 60


def test_axes_are_labelled_and_n_is_in_the_picture(drawings):
    for name, drawing in drawings.items():
        texts = [text.get_text() for axis in drawing.figure.axes for text in axis.findobj(Text)]
        if name.startswith("qualitative"):
            continue
        assert name == "learning" or any("n = 3" in text for text in texts), name
        assert any(axis.get_ylabel() for axis in drawing.figure.axes) or name in ("gap", "thresholds", "answer")
        assert any(axis.get_xlabel() for axis in drawing.figure.axes) or name == "fig1-dice"


def test_captions_name_the_threshold_rule_or_say_there_is_none(drawings):
    for name, drawing in drawings.items():
        said = drawing.caption.lower()
        assert (
            "best pooled f1 on training data" in said
            or "no threshold" in said
            or "over all thresholds" in said
            or name == "thresholds"
        )


def test_pictures_name_the_slice_of_the_volume_not_of_those_kept(numbers):
    thinned = Numbers(replace(numbers.run, info={**numbers.run.info, "slices_every": 3}))
    plain, third = (FIGURES["qualitative-largest"](each) for each in (numbers, thinned))
    index = plain.data[0]["slice"]
    assert f"(index {index} of the volume" in plain.caption
    assert third.data[0]["slice"] == 1 + 3 * index and f"(index {1 + 3 * index} of" in third.caption


def test_figure_1_plots_the_values_of_the_table(numbers, drawings):
    data = drawings["fig1-dice"].data
    for result in numbers.run.results:
        plotted = [d["dice"] for d in data if d["row"] == result.row.id]
        assert plotted == pytest.approx(result.values("dice", numbers.run.choices()[0]).tolist())


def test_figure_2_has_a_panel_a_trained_row_and_no_empty_one(numbers, drawings):
    drawing = drawings["fig2-slices"]
    titles = [axis.get_title() for axis in drawing.figure.axes]
    assert titles == ["AdaCLIP Industrial", "AdaCLIP Brats", "VAND Brats", "VAND PMC"]
    assert [a.get_yticks().size for a in drawing.figure.axes] == [drawing.figure.axes[0].get_yticks().size] * 4
    assert drawing.figure.axes[0].get_yticks().size > 3
    subject = next(d for d in drawing.data if d["row"] == "vand-brats")
    volumes = [d["lesion_ml"] for d in drawing.data if d["row"] == "vand-brats"]
    assert volumes == sorted(volumes) and subject["q1_2d"] <= subject["median_2d"] <= subject["q3_2d"]


def test_bins_cover_the_brain():
    bin_of = Axis().bin_of
    assert bin_of([-1, -0.95, -0.9, 0, 0.1, 0.999, 1, 1.2, -1.3]).tolist() == [0, 0, 1, 10, 11, 19, 19, -1, -1]
    assert bin_of([0.1, 0.3, 0.7, -0.7]).tolist() == [11, 13, 17, 3]  # edges that are inexact in binary
    assert Axis(count=4).centres == [-0.75, -0.25, 0.25, 0.75]


def test_bins_hold_every_slice_with_lesion_once(numbers):
    choice = numbers.run.choices()[0]
    for result in numbers.run.results:
        slices = np.concatenate(result.slice_dice(choice))
        slices = slices[~np.isnan(slices)]
        bins = slice_bins([result], choice)
        assert sum(len(b.values) for b in bins) == slices.size
        assert sum(sum(b.values) for b in bins) == pytest.approx(slices.sum())
        shared = next(b for b in bins if len(b.dice) > 1 and len({len(v) for v in b.dice.values()}) > 1)
        assert shared.over_subjects == pytest.approx(np.mean([np.mean(v) for v in shared.dice.values()]))
        assert shared.over_slices == pytest.approx(np.mean(shared.values))


def test_froc_curves_pass_through_the_tables_points(numbers):
    for result in numbers.run.results:
        false, sensitivity = curve_points(result)
        assert (np.diff(false) >= 0).all() and (np.diff(sensitivity) >= 0).all()
        for rate, value in result.froc().items():
            reached = sensitivity[false <= rate]
            assert value == pytest.approx(reached[-1] if reached.size else 0.0)


def test_lesions_over_distance_by_hand(numbers, drawings):
    total = sum(sum(case["slices"]["lesion"]) for case in numbers.run.results[0].files.cases)
    data = [d for d in drawings["appendix-b-lesions"].data if d["slices"]]
    assert sum(d["slices"] * d["area_mean_mm2"] for d in data) == pytest.approx(total)  # voxels of 1 mm
    assert all(d["subjects"] <= 3 for d in data)


def test_files_are_the_same_each_time(numbers, tmp_path):
    for side in ("a", "b"):
        with style():
            for name in ("fig1-dice", "learning", "qualitative-median"):
                save(FIGURES[name](numbers), tmp_path / side)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name
    assert len(list((tmp_path / "a").iterdir())) == 9
    for path in (tmp_path / "a").glob("*.svg"):
        ElementTree.parse(path)
        assert "dc:date" not in path.read_text(encoding="utf-8")


def test_the_csv_holds_what_is_plotted(drawings, tmp_path):
    with style():
        paths = save(drawings["thresholds"], tmp_path)
    with open(paths["csv"], newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(drawings["thresholds"].data) == len(ROWS) * 5
    assert {r["oracle"] for r in rows if "test" in r["rule"] or "volume" in r["rule"]} == {"1"}
    assert float(rows[0]["mean"]) == pytest.approx(drawings["thresholds"].data[0]["mean"], rel=1e-5)


def test_a_run_of_one_untrained_row_still_has_figures(tmp_path):
    numbers = Numbers(read_run(write_run(tmp_path, [row_of("anovl-industrial")], seeds=[1])))
    with style():
        found = {name: draw(numbers) for name, draw in FIGURES.items()}
        save(found["fig1-dice"], tmp_path / "figures")
        save(found["froc"], tmp_path / "figures")
    assert [name for name, drawing in found.items() if drawing is None] == [
        "fig2-slices",
        "fig3-distance",
        "evidence",
        "qualitative-median",
        "qualitative-smallest",
        "learning",
    ]
