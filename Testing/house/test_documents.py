"""What code and documents refer to exists: pages, sections, links, functions, settings, golden cases."""

import ast
import io
import re
import tokenize
from dataclasses import fields
from functools import lru_cache
from pathlib import Path

import pytest

from ZSADCLIPLib.adapters import METHODS

ROOT = Path(__file__).resolve().parents[2]
CODE = sorted(
    path
    for folder in ("ZSADCLIPLib", "ZSADCLIP", "Testing", "scripts", ".ci")
    for path in (ROOT / folder).rglob("*")
    if path.is_file() and (path.suffix == ".py" or (not path.suffix and folder in ("scripts", ".ci")))
)
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "Testing").rglob("*.md")])
METHOD_PAGES = ROOT / "docs" / "methods"
WRITTEN = {"audit.md", "evaluation.md", "NAME.md"}
"""Files that the engine writes for its users."""


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def remarks(text: str) -> str:
    """Comments and docstrings of Python code, or of a shell script."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return "\n".join(line for line in text.splitlines() if line.lstrip().startswith("#"))
    comments = [t.string for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type == tokenize.COMMENT]
    # Strings that stand alone: docstrings of modules, classes and functions, and those below a constant.
    alone = [n.value for n in ast.walk(tree) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)]
    return "\n".join([*comments, *(str(node.value) for node in alone)])


@lru_cache
def headings(page: Path) -> list[str]:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    return re.findall(r"^#+ (.+)$", text, re.M)


def anchors(page: Path) -> set[str]:
    """The headings as GitHub makes links of them."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings(page)}


@pytest.mark.parametrize("path", CODE, ids=name)
def test_pages_and_sections_that_code_names_exist(path):
    text = path.read_text(encoding="utf-8")
    said = set(re.findall(r"[\w./-]+\.md\b", remarks(text))) | set(re.findall(r"\bdocs/[\w./-]+\.md\b", text))
    assert not [page for page in said - WRITTEN if not (ROOT / page).is_file()]
    for page, section in re.findall(r'(docs/[\w./-]+\.md),\s+"([^"]+)"', text):
        titles = [re.sub(r"^\d+\. ", "", heading) for heading in headings(ROOT / page)]
        assert section in titles, f"{page} has no section {section!r}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors(file), f"{link}: there is no such heading"
    assert not [said for said in re.findall(r"\bdocs/[\w./-]+\.md\b", text) if not (ROOT / said).is_file()]


@lru_cache
def definitions() -> set[str]:
    """Functions and classes of the engine by name, methods as Class.method."""
    found = set()
    for path in (ROOT / "ZSADCLIPLib").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found.add(node.name)
            if isinstance(node, ast.ClassDef):
                found |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return found


@pytest.mark.parametrize("page", sorted(METHOD_PAGES.glob("*.md")), ids=name)
def test_functions_that_the_methods_pages_name_exist(page):
    named = set(re.findall(r"`([A-Za-z_][\w.]*)\(\)`", page.read_text(encoding="utf-8")))
    assert not named - definitions()


OURS = ("linear-probe",)
"""Methods without code of authors to agree with."""


@pytest.mark.parametrize("method", METHODS)
def test_a_methods_page_lists_its_settings_and_golden_cases(method):
    page = (METHOD_PAGES / f"{method}.md").read_text(encoding="utf-8")
    head, rule, *rows = re.search(r"^\| `--set` .*\n(?:\|.*\n)+", page, re.M)[0].splitlines()
    listed = {setting for row in rows for setting in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert listed == {field.name for field in fields(METHODS[method].load().Config)}
    cases = {path.stem for path in (ROOT / "Testing" / "golden" / method).glob("*.npz")}
    assert cases or method in OURS
    assert not [case for case in sorted(cases) if f"`{case}`" not in page]
