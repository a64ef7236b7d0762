"""The outputs of a whole run: complete, the same each time, safe to open."""

import hashlib
import re
from base64 import b64encode
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from run_fixtures import row_of, write_run

from ZSADCLIPLib.errors import InputError
from ZSADCLIPLib.report import figures, page, runpage, write
from ZSADCLIPLib.report.figures.drawing import Drawing, canvas
from ZSADCLIPLib.report.sections import Section
from ZSADCLIPLib.report.typeset import Table
from ZSADCLIPLib.report.write import write_outputs

EVIL = "<script>alert('x')</script> $\\frac & \"quoted\"_|"


class Links(HTMLParser):
    """Collects every address a browser would load, and every tag."""

    def __init__(self):
        super().__init__()
        self.addresses, self.tags, self.alts, self.ids = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        found = dict(attrs)
        self.ids += [found["id"]] if "id" in found else []
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
    loaded = [address for address in links.addresses if address.startswith("data:image/")]
    inside = [address for address in links.addresses if address.startswith("#")]
    files = set(links.addresses) - set(loaded) - set(inside)
    assert (
        loaded and all((out / name).is_file() for name in files) and "tables/cases.csv" in files and "run.json" in files
    )
    assert inside and {address[1:] for address in inside} <= set(links.ids) and len(set(links.ids)) == len(links.ids)
    assert links.tags.count("script") == 1 and not {"link", "iframe", "object"} & set(links.tags)
    text = (out / "report.html").read_text(encoding="utf-8")
    assert "url(" not in text and "@import" not in text


def test_every_picture_has_words(out):
    alts = parsed(out).alts
    assert alts and len(alts) == len(list((out / "figures").glob("*.png"))) and all(len(alt) > 30 for alt in alts)


def sections(folder) -> dict[str, str]:
    """The page's text below each heading, in order."""
    page = (folder / "report.html").read_text(encoding="utf-8")
    return dict(re.findall(r'<section id="[a-z0-9-]+"><h2>(.*?)</h2>(.*?)</section>', page, re.S))


def test_every_figure_and_table_is_shown_once(out):
    page = (out / "report.html").read_text(encoding="utf-8")
    assert sorted(re.findall(r'<figure id="(.*?)">', page)) == sorted(p.stem for p in (out / "figures").glob("*.svg"))
    files = [*(out / "tables").glob("*.md"), out / "runtime.md"]
    with_lines = [path for path in files if path.read_text("utf-8").count("\n| ") > 2]
    assert page.count("<caption>") == len(with_lines) > 10
    # Of two volumes no claim can be judged, so there is no heading for them.
    assert list(sections(out)) == [*(each for each in Section if each is not Section.CLAIMS), "Run", "Downloads"]


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
    assert list(found)[-4:] == ["Own heading", "Run", runpage.UNPLACED, "Downloads"]
    for heading, name in ((runpage.UNPLACED, "nowhere"), ("Own heading", "Own heading"), ("Lesions", "Lesions")):
        assert f'<figure id="toy-{name}">' in found[heading] and f"<caption><span>Toy table of {name}" in found[heading]
    assert sum(body.count('id="toy-') for body in found.values()) == 3


def test_names_from_files_cannot_inject(out):
    text = (out / "report.html").read_text(encoding="utf-8")
    scripts = re.findall(r"<script>(.*?)</script>", text, re.S)
    assert text.lower().count("<script") == 1 and scripts == [(page.TEMPLATES / "report.js").read_text("utf-8")]
    digest = b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in text
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
