"""A benchmark's report in a real browser; skipped where Chromium or its driver is missing."""

import browser
import pytest
from run_fixtures import row_of, write_run

from ZSADCLIPLib.report.write import write_outputs

pytestmark = pytest.mark.skipif(not browser.available, reason="needs chromium and chromedriver")
ROWS = ("adaclip-industrial", "vand-industrial", "vand-brats", "intensity-baseline")
COLUMN = """
const table = document.querySelector(arguments[0] + " table"), n = [...table.tHead.rows[0].cells].findIndex(
  (head) => head.textContent === arguments[1]);
return [...table.tBodies[0].rows].map((row) => row.cells[n].dataset.key ?? row.cells[n].textContent);
"""
HEAD = (
    """[...document.querySelectorAll(arguments[0] + " thead th")].find((head) => head.textContent === arguments[1])"""
)


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    out = write_run(
        tmp_path_factory.mktemp("Läufe vom Mai"), map(row_of, ROWS), range(3), unfinished=("vand-industrial",)
    )
    write_outputs(out)
    with browser.Browser() as opened:
        opened.requests()
        opened.open((out / "report.html").as_uri())
        opened.until("document.body.dataset.ready")
        yield opened


def press(window, table: str, head: str) -> None:
    """Press the head of a column by the keyboard."""
    window.run(f"{HEAD}.querySelector('button').focus()", table, head)
    window.type(":focus", "\ue007")


def test_nothing_is_asked_for_and_the_console_is_silent(window):
    asked = [each for each in window.requests() if not each.startswith(("data:", "chrome"))]
    assert asked and all(each.startswith("file:") and each.endswith("report.html") for each in asked)
    assert not window.complaints()


def test_tables_sort_by_keyboard_and_say_so(window):
    table, as_written = "#table-table1-all", window.run(COLUMN, "#table-table1-all", "Dice")
    numbers = [float(value) for value in as_written if value != "–"]
    assert len(numbers) == 3 and as_written.count("–") == 1 and numbers not in (sorted(numbers), sorted(numbers)[::-1])
    for order, wanted in (("descending", sorted(numbers)[::-1]), ("ascending", sorted(numbers)), (None, None)):
        press(window, table, "Dice")
        shown = window.run(COLUMN, table, "Dice")
        assert window.run(f"return {HEAD}.getAttribute('aria-sort')", table, "Dice") == order
        if wanted is None:
            assert shown == as_written
        else:
            assert [float(value) for value in shown[:-1]] == wanted and shown[-1] == "–"  # what is undefined stays last


def test_a_click_sorts_text_and_only_one_column_is_marked(window):
    table = "#table-table1-all"
    press(window, table, "Dice")
    window.click(f"{table} thead button")
    models = window.run(COLUMN, table, "Model")
    assert models == sorted(models)
    assert window.run("return document.querySelectorAll(arguments[0] + ' [aria-sort]').length", table) == 1


@pytest.mark.parametrize("width", [390, 900])
@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_scrolls_boxes_never_the_page(window, width, dark):
    window.look_as(width, dark=dark)
    window.run("for (const each of document.querySelectorAll('details')) each.open = true")
    assert window.run("return document.documentElement.scrollWidth") <= width
    scrolled = "[...document.querySelectorAll('.scroll')].filter((box) => box.scrollWidth > box.clientWidth)"
    assert window.run(f"return {scrolled}.length") > 0 and window.run(
        f"return {scrolled}.every((box) => box.tabIndex === 0)"
    )
    paper = window.run("return getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(22, 24, 28)" if dark else "rgb(255, 255, 255)")
    answer = "document.querySelector('#answer img').getBoundingClientRect()"
    assert window.run(f"return {answer}.right") <= width  # the first figure needs no scrolling


def test_a_link_of_the_contents_opens_what_is_folded(window):
    window.look_as(1400)
    window.run("for (const each of document.querySelectorAll('details')) each.open = false")
    window.click(".contents a[href='#table-details-all']")
    window.until("document.querySelector('#table-details-all').open")
