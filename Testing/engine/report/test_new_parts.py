"""A new metric is one entry of METRICS, a new figure one function and its line of FIGURES: the outputs of a run show both."""

import csv

import pytest
from designed_run import Design, write_designed

from ZSADCLIPLib.evaluation.metrics import METRICS, Metric
from ZSADCLIPLib.report import figures
from ZSADCLIPLib.report.figures.drawing import Drawing, canvas
from ZSADCLIPLib.report.sections import Section
from ZSADCLIPLib.report.write import write_outputs

JACCARD = Metric("jaccard", "Jaccard", "counts", lambda c: c.tp / (c.tp + c.fp + c.fn), ("details", "rules"))


def toy_figure(numbers) -> Drawing:
    """What a newcomer writes into a file of its own: mean Jaccard of each row."""
    means = {r.row.id: numbers.summary(r, "jaccard", numbers.run.choices()[0]).mean for r in numbers.run.results}
    figure, [[axis]] = canvas(3, 2)
    axis.bar(list(means), list(means.values()))
    data = [{"row": row, "mean": mean} for row, mean in means.items()]
    return Drawing("toy", "Mean Jaccard", "Caption.", "Bars of mean Jaccard.", figure, data, section=Section.LESIONS)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    designs = {"vand-brats": Design((0.3, 0.4), 0.75, 0.05), "vand-pmc": Design((0.4, 0.5), 0.75, 0.05)}
    write_designed(folder, designs, subjects=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METRICS, JACCARD.name, JACCARD)
        patch.setattr(figures, "FIGURES", {"fig1-dice": figures.FIGURES["fig1-dice"], "toy": toy_figure})
        write_outputs(folder)
    return folder


def table(out, name) -> list[dict[str, str]]:
    with open(out / "tables" / f"{name}.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_volume_has_the_new_metric(out):
    cases = table(out, "cases")
    assert len(cases) == 2 * 2 * 2
    for line in cases:
        dice = float(line["dice"])
        assert float(line["jaccard"]) == pytest.approx(dice / (2 - dice), rel=1e-4)


def test_tables_and_results_have_its_mean(out):
    mean = sum(float(c["jaccard"]) for c in table(out, "cases")[:2]) / 2
    for name, column in (("details-all", "Mean ± sd mean"), ("rules-all", "best pooled F1 on training data mean")):
        (line,) = [line for line in table(out, name) if (line["Metric"], line["Setup"]) == ("Jaccard", "Brats")]
        assert float(line[column]) == pytest.approx(mean, rel=1e-4)
    lines = [line for line in table(out, "results") if line["metric"] == "jaccard" and line["region"] == "all"]
    assert [line["row"] for line in lines] == ["vand-brats", "vand-pmc"]
    assert float(lines[0]["mean"]) == pytest.approx(mean, rel=1e-4)
    assert "jaccard" not in " ".join(table(out, "table1-all")[0]).lower()


def test_page_and_folder_have_the_figure_and_the_metric(out):
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count('<figure id="toy">') == 1 and '<th scope="row">Jaccard</th>' in page
    assert {path.suffix for path in (out / "figures").glob("toy.*")} == {".png", ".svg", ".csv"}
