"""The outputs of a whole run: complete, the same each time, safe to open."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from run_fixtures import row_of, write_run

from ZSADCLIPLib.errors import InputError
from ZSADCLIPLib.report import figures, write
from ZSADCLIPLib.report.figures.drawing import Drawing, canvas
from ZSADCLIPLib.report.sections import Section
from ZSADCLIPLib.report.typeset import Table
from ZSADCLIPLib.report.write import write_outputs

EVIL = "<script>alert('x')</script> $\\frac & \"quoted\"_|"


class Links(HTMLParser):
    """Collects every address a browser would load, and every tag."""

    def __init__(self):
        super().__init__()
        self.addresses, self.tags, self.alts = [], set(), []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        found = dict(attrs)
        self.addresses += [found[name] for name in ("src", "href", "data", "srcset") if found.get(name)]
        if tag == "img":
            self.alts.append(found.get("alt", ""))


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    rows = [row_of(name) for name in ("vand-industrial", "vand-brats", "adaclip-brats", "intensity-baseline")]
    folder = write_run(tmp_path_factory.mktemp("run"), rows, range(2), names=[EVIL, "two"], unfinished=("vand-brats",))
    write_outputs(folder)
    return folder


def parsed(out) -> Links:
    links = Links()
    links.feed((out / "report.html").read_text(encoding="utf-8"))
    return links


def test_a_report_loads_nothing_from_outside(out):
    links = parsed(out)
    assert links.addresses and all(a.startswith(("data:image/", "#")) for a in links.addresses)
    assert not {"script", "link", "iframe", "object"} & links.tags
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "url(" not in page and "@import" not in page


def test_every_picture_has_words(out):
    alts = parsed(out).alts
    assert alts and len(alts) == len(list((out / "figures").glob("*.png"))) and all(len(alt) > 30 for alt in alts)


def sections(folder) -> dict[str, str]:
    """The page's text below each heading, in order."""
    page = (folder / "report.html").read_text(encoding="utf-8")
    return dict(re.findall(r'<section id="s\d+"><h2>(.*?)</h2>(.*?)</section>', page, re.S))


def test_every_figure_and_table_is_shown_once(out):
    page = (out / "report.html").read_text(encoding="utf-8")
    assert sorted(re.findall(r'<figure id="(.*?)">', page)) == sorted(p.stem for p in (out / "figures").glob("*.svg"))
    files = [*(out / "tables").glob("*.md"), out / "runtime.md"]
    assert page.count("<caption>") == len(files) + 1  # the claims, whose file is claims.yaml
    assert list(sections(out)) == [*Section, "Run"]


def toy(section):
    """A figure and a table that a newcomer writes."""
    name = section or "nowhere"

    def draw(numbers):
        figure, axes = canvas(2, 2)
        axes[0][0].plot([0, 1], [1, 0])
        return Drawing(
            f"toy-{name}", f"Toy figure of {name}", "Caption.", "A line.", figure, [{"x": 0}], section=section
        )

    def make(numbers):
        return Table(f"toys-{name}", f"Toy table of {name}", ("Row", "Value"), (("a", 1.5),), section=section)

    return draw, make


def test_a_new_figure_and_table_need_no_place_in_the_page(tmp_path, monkeypatch):
    toys = [toy(section) for section in ("", "Own heading", Section.LESIONS)]
    monkeypatch.setattr(figures, "FIGURES", {f"toy{n}": draw for n, (draw, _) in enumerate(toys)})
    monkeypatch.setattr(write, "TABLES", (*(make for _, make in toys), *write.TABLES))
    write_outputs(write_run(tmp_path, [row_of("vand-industrial")], range(2)))
    found = sections(tmp_path)
    assert list(found)[-3:] == ["Own heading", "Run", write.UNPLACED]
    for heading, name in ((write.UNPLACED, "nowhere"), ("Own heading", "Own heading"), ("Lesions", "Lesions")):
        assert f'<figure id="toy-{name}">' in found[heading] and f"<caption>Toy table of {name}" in found[heading]
    assert sum(body.count("toy-") for body in found.values()) == 3


def test_names_from_files_cannot_inject(out):
    text = (out / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text.lower()
    drawn = list((out / "figures").glob("*.svg"))
    assert drawn
    for path in drawn:
        tags = {element.tag for element in ElementTree.parse(path).iter()}
        assert not any(tag.endswith("script") for tag in tags), path.name


def test_an_unfinished_run_says_so(out):
    text = re.sub(r"<[^>]+>", "", (out / "report.html").read_text(encoding="utf-8"))
    assert "3 finished rows" in text and "Unfinished, so without numbers: vand-brats" in text
    assert "Research use only" in text and "Synthetic data" in text


def test_the_same_rows_give_the_same_bytes(out):
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and "rows" not in p.parts}
    write_outputs(out)
    after = {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and "rows" not in p.parts}
    assert before == after and len(before) > 30
    assert sum(map(len, before.values())) < 5e6


def test_without_a_finished_row_there_is_nothing_to_report(tmp_path):
    write_run(tmp_path, [row_of("anovl-industrial")], range(1), unfinished=("anovl-industrial",))
    with pytest.raises(InputError, match="no finished row"):
        write_outputs(tmp_path)
