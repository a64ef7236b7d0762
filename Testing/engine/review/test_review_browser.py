"""The review page in a real browser, by double click and served; skipped where Chromium or its driver is missing."""

import json
import threading
import time

import browser
import numpy as np
import pytest
from conftest import affine
from PIL import Image
from review_run import review_run

from ZSADCLIPLib.jobs.review import Review
from ZSADCLIPLib.review.finished import finished_cases
from ZSADCLIPLib.review.server import ReviewServer
from ZSADCLIPLib.review.verdicts import read_review

pytestmark = pytest.mark.skipif(not browser.available, reason="needs chromium and chromedriver")
OUTLINE = (0, 229, 255)
NOTE = "</script><b>bold</b> ä"


def tilted() -> np.ndarray:
    """A grid that lies obliquely in the scanner."""
    a = np.radians(20)
    turn = np.eye(4)
    turn[:3, :3] = [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
    return turn @ affine((1.0, 1.0, 2.0), (-20.0, -24.0, -32.0))


def ready(window, case: str = "first") -> None:
    window.until("document.body.dataset.ready === arguments[0]", case)


def test_the_page_works_by_double_click_and_served(tmp_path):
    out, images = review_run(tmp_path / "Läufe vom Mai", matrix=tilted())
    page = Review(str(out), (str(images["first"].parent),)).run()["page"]
    case = finished_cases(out)[0]
    with browser.Browser() as window:
        _by_double_click(window, out / "review" / "index.html", case)
        _outline(window, case, tmp_path / "screen.png")
        _served(window, out, case)
    assert page.endswith("index.html")


def _by_double_click(window, page, case) -> None:
    window.requests()
    window.open(page.absolute().as_uri())
    ready(window)
    assert not window.complaints()
    voxels = int(window.run("return document.getElementById('above').dataset.voxels"))
    assert voxels == int((case.mask().array > 0).sum())
    for finding in case.facts["findings"]:
        at = window.run("return zsadclip.view.position()")
        assert np.abs(np.subtract(at, finding["peak_ras"])).max() < 0.5, finding
        window.type("body", "j")
    assert window.run("return document.querySelector('#findings [aria-current=true] span').textContent") == "· "

    window.type("body", "kka")  # the first one
    window.type("#note", NOTE)
    window.type("#note", browser.ESCAPE)
    window.type("body", "jrm")
    window.run("zsadclip.view.jump([-8, -4, 20])")
    window.type("body", "f")
    window.until("document.getElementById('saved').textContent.startsWith('Kept')")
    window.run("return zsadclip.store.flush()")
    window.open(page.absolute().as_uri())
    window.run("location.reload()")
    window.until("document.getElementById('cases').innerText.includes('2 of 3 judged')")
    window.click("#cases li:first-child button")
    ready(window)
    assert window.run("return document.getElementById('note').value") == NOTE
    assert not window.run("return document.querySelectorAll('b').length")

    window.click("#download")
    file = _downloaded(window.downloads)
    (said,) = read_review(file).cases
    assert [(each.rank, each.verdict, each.note) for each in said.findings] == [(1, "accept", NOTE), (2, "reject", "")]
    assert len(said.missed) == 1 and said.finished and said.seal == case.seal
    asked = [address for address in window.requests() if not address.startswith("chrome")]
    assert asked and not [each for each in asked if not each.startswith(("file:", "data:", "blob:"))]


def _outline(window, case, picture) -> None:
    """Filled, outline and off, by keys and by the list, at the threshold of the moment."""

    def edge_pixels(look: str) -> int:
        window.until("document.getElementById('look').value === arguments[0]", look)
        window.until("!zsadclip.view.pending")
        window.screenshot(picture)
        shown = np.asarray(Image.open(picture).convert("RGB"), int)
        return int((np.abs(shown - OUTLINE).max(axis=-1) < 30).sum())

    drawn = "return zsadclip.view.nv.drawBitmap.reduce((sum, each) => sum + each, 0)"
    assert not edge_pixels("filled")
    window.type("body", "o")
    edges = edge_pixels("outline")
    assert edges > 30 and window.run(drawn) == (case.mask().array > 0).sum()
    nowhere = (case.map().affine @ (36, 40, 2, 1))[:3].tolist()  # its three planes meet no finding
    window.run("zsadclip.view.jump(arguments[0])", nowhere)
    assert not edge_pixels("outline")
    window.run("zsadclip.view.jump(arguments[0])", case.facts["findings"][0]["peak_ras"])
    window.run("zsadclip.view.setThreshold(0.87)")
    assert edge_pixels("outline") < edges and window.run(drawn) == (case.map().array >= 0.87).sum()
    window.type("body", "h")
    assert not edge_pixels("off")
    window.type("body", "h")
    assert edge_pixels("outline") > 0
    window.click("#look option[value=filled]")
    assert not edge_pixels("filled")


def _downloaded(folder):
    end = time.monotonic() + 600
    while not (found := [path for path in folder.iterdir() if path.suffix == ".json"]):
        assert time.monotonic() < end, "nothing was downloaded"
        time.sleep(0.1)
    return found[0]


def _served(window, out, case) -> None:
    with ReviewServer(out, out / "review", finished_cases(out)) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        window.open(server.address)
        ready(window)
        assert not window.complaints()
        window.type("#reader", f"{browser.CONTROL}a{browser.RELEASE}CD\t")
        window.until("zsadclip.store.reader === 'CD'")
        ready(window)
        window.type("body", "u")
        window.until("document.getElementById('saved').textContent === 'Saved in the run'")
        window.open(f"http://127.0.0.1:{server.server_port}/")
        window.until("document.getElementById('cases').innerText.includes('1 of 3 judged')")
        shown = window.run("return zsadclip.store.reviews.get('first')")
        server.shutdown()
    file = out / "reviews" / "CD" / "first_review.json"
    assert json.loads(file.read_text())["cases"][0]["findings"] == shown["findings"]
    assert read_review(file).cases[0].findings[0].verdict == "unsure"


def test_without_webgl_pictures_and_table_stand_in(tmp_path):
    out, images = review_run(tmp_path, ("first",), pictures=True)
    Review(str(out), (str(images["first"]),)).run()
    with browser.Browser(gl=False) as window:
        window.open((out / "review" / "index.html").as_uri())
        ready(window)
        window.until("document.querySelector('#picture img').naturalWidth > 100")
        assert "WebGL2" in window.run("return document.getElementById('why-picture').textContent")
        window.type("body", "a")
        assert "1 of 3 judged" in window.run("return document.getElementById('findings-title').textContent")
        assert not window.complaints()
