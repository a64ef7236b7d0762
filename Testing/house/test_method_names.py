"""Facts of a method stand with it: elsewhere the code never asks which method it works for."""

import ast
import re
from pathlib import Path

import pytest

from ZSADCLIPLib.adapters import METHODS

ROOT = Path(__file__).resolve().parents[2]
NAME = re.compile(rf"\b({'|'.join(METHODS)})\b")
MAY_NAME = ("ZSADCLIPLib/adapters/", "ZSADCLIPLib/report/claims/")
MAY_NAME += ("ZSADCLIPLib/benchmark/rows.py", "ZSADCLIPLib/benchmark/profiles.py")
FILES = [str(p.relative_to(ROOT)) for part in ("ZSADCLIPLib", "ZSADCLIP") for p in sorted((ROOT / part).rglob("*.py"))]


def literals(code: str) -> list[str]:
    """The strings of a module that name a method, but for docstrings and other strings that stand alone."""
    tree = ast.parse(code)
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    strings = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [node.value for node in strings if id(node) not in alone and NAME.search(node.value)]


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith(MAY_NAME)])
def test_no_module_outside_the_methods_names_one(name):
    assert literals((ROOT / name).read_text(encoding="utf-8")) == []


def test_names_are_found_where_they_hide():
    assert literals('"""vand"""\nx = y == "vand"\nz = f"{y}: choose anovl"\n') == ["vand", ": choose anovl"]
    assert literals('METHODS[x].label\nhelp = "VAND\'s memory bank"') == []
