"""The documentation as a site: it builds without a network, links and anchors hold, nothing is fetched, the search works."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from html import unescape
from pathlib import Path

import browser
import pytest

from ZSADCLIPLib.adapters import METHODS
from ZSADCLIPLib.cli import COMMANDS
from ZSADCLIPLib.jobs.detect import Detect
from ZSADCLIPLib.node.config import NodeSettings

ROOT = Path(__file__).resolve().parents[2]
PARTS = ROOT / "scripts" / "make" / "docsite"
# With these, whatever asks for an address gets an error.
NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")


def run(*command) -> subprocess.CompletedProcess:
    environment = os.environ | NO_NETWORK | {"PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(
        [sys.executable, *map(str, command)], cwd=ROOT, env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site, in a folder with a blank and an umlaut."""
    if os.environ.get("CI", "").lower() != "true":
        pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site") / "für alle"
    done = run("-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def text_of(page: Path) -> str:
    return unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


def test_links_and_anchors_hold_and_no_page_asks_another_host(site):
    done = run(PARTS / "check.py", site)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "inside, said",
    [
        ('<a href="nowhere.html">x</a>', "nowhere.html leads nowhere"),
        ('<a href="install.html#nothing">x</a>', "there is no such place"),
        ('<script src="https://example.org/x.js"></script>', "fetches https://example.org/x.js"),
        ('<img src="images/nothing.png">', "images/nothing.png leads nowhere"),
    ],
)
def test_a_bad_page_is_seen(site, tmp_path, inside, said):
    for name in ("index.html", "install.html"):
        (tmp_path / name).write_text(f"<html><body>{inside if name == 'index.html' else ''}</body></html>")
    done = run(PARTS / "check.py", tmp_path)
    assert done.returncode == 1 and said in done.stderr


def test_the_command_line_is_that_of_the_parser(site):
    page = text_of(site / "reference" / "command-line.html")
    assert not [name for name in COMMANDS if f"zsadclip {name}" not in page]
    flags = [
        each.metadata["names"] or (f"--{each.name.replace('_', '-')}",) for each in fields(Detect) if each.metadata
    ]
    assert not [names for names in flags if names[0].startswith("-") and names[-1] not in page]


def test_settings_are_those_of_the_classes(site):
    page = text_of(site / "reference" / "settings.html")
    named = {each.name for info in METHODS.values() for each in fields(info.load().Config)}
    named |= {each.name for each in fields(NodeSettings)}
    assert not [name for name in named if name not in page]
    assert re.search(r"quiet_s\s+number 0 or more\s+s\s+10.0\s+seconds without an image", page)


def test_docstrings_stand_in_the_reference(site):
    page = text_of(site / "reference" / "python.html")
    for said in (
        "Runs one adapter on one backbone over whole volumes.",
        "Voxel edge lengths along I, J, K in mm.",
        "detect(",
    ):
        assert said in page


def test_text_becomes_lists_and_no_mark_is_left(site):
    for page in site.rglob("*.html"):
        text = re.sub(r"<pre.*?</pre>", "", page.read_text(encoding="utf-8"), flags=re.S)
        assert not re.search(r"<!-- (?:run|needs|tested|generated|python)", text), page
        for paragraph in re.findall(r"<p>(.*?)</p>", text, re.S):
            assert not re.search(r"^\s*(?:[*+-] |1\. |\|)", paragraph, re.M), f"{page.name}: {paragraph[:80]}"


@pytest.mark.skipif(not browser.available, reason="needs chromium and chromedriver")
def test_a_double_click_shows_and_searches_it(site):
    with browser.Browser((500, 900), gl=False) as window:
        window.open((site / "tutorials" / "own-scans.html").as_uri())
        window.requests()
        window.run("document.querySelector('label[for=__search]').click()")
        window.type(".md-search__input", "bootstrap")
        window.until("document.querySelectorAll('.md-search-result__item').length")
        assert not window.complaints()
        assert not [address for address in window.requests() if not address.startswith(("file:", "data:", "chrome:"))]
        assert window.run("return document.documentElement.scrollWidth <= innerWidth")  # nothing sticks out on a phone


def test_the_script_builds_it_where_it_is_told(tmp_path):
    """With a stand-in for the environment: what it calls, and where it looks for the folder."""
    for name in ("scripts/docs", "scripts/make/environment"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "scripts/make/environment").write_text('root=$(cd "$(dirname "$0")/.." && pwd)\ncd "$root"\n')
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$@" >> "{tmp_path}/log"\n')
    python.chmod(0o755)
    (tmp_path / "elsewhere").mkdir()
    command = ["bash", str(tmp_path / "scripts/docs"), "site"]
    done = subprocess.run(command, cwd=tmp_path / "elsewhere", capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == f"{tmp_path}/elsewhere/site/index.html", done.stderr
    calls = (tmp_path / "log").read_text().splitlines()
    assert "--strict" in calls[0] and calls[0].endswith(f"{tmp_path}/elsewhere/site") and "check.py" in calls[1]
