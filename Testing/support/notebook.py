"""Notebooks without Jupyter: the code cells are executed one after another, and what they show is kept as Jupyter would."""

from __future__ import annotations

import ast
import contextlib
import io
import json
from base64 import b64encode
from pathlib import Path


def code_cells(path: Path) -> list[dict]:
    """The code cells of a notebook of format 4."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def execute(sources: list[str], names: dict | None = None) -> list[list[dict]]:
    """The outputs of each source: what it prints, then what its last line shows; `names` are the variables, kept between them."""
    names = {} if names is None else names
    return [_outputs(source, number, names) for number, source in enumerate(sources, start=1)]


def _outputs(source: str, number: int, names: dict) -> list[dict]:
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, f"cell {number}", "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
    outputs = []
    if printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": printed.getvalue()})
    if value is not None:
        shown = {"output_type": "execute_result", "execution_count": number, "metadata": {}, "data": _shown(value)}
        outputs.append(shown)
    return outputs


def _shown(value) -> dict[str, str]:
    html = value._repr_html_() if hasattr(value, "_repr_html_") else None
    if html is not None:  # a figure may say that it has none
        return {"text/html": html}
    if hasattr(value, "savefig"):
        data = io.BytesIO()
        value.savefig(data, format="png")
        return {"image/png": b64encode(data.getvalue()).decode("ascii")}
    return {"text/plain": repr(value)}
