"""The example notebook runs as it stands, and shows what was kept in it."""

import json
import re
import sys
from pathlib import Path

import notebook

PATH = Path(__file__).resolve().parents[3] / "docs" / "examples" / "detection.ipynb"


def kinds(outputs: list[dict]) -> list[tuple]:
    return [(each["output_type"], *each.get("data", {})) for each in outputs]


def test_the_example_runs_and_its_outputs_are_those_that_are_kept(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "ipyniivue", None)  # as where the outputs were kept
    cells = notebook.code_cells(PATH)
    names: dict = {}
    outputs = notebook.execute(["".join(cell["source"]) for cell in cells], names)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert list(map(kinds, outputs)) == [kinds(cell["outputs"]) for cell in cells]
    shown = outputs[1][0]["data"]["text/html"]
    assert f"{len(names['detection'].findings)} findings" in shown and "data:image/png;base64," in shown
    assert "pip install ipyniivue" in outputs[3][0]["data"]["text/plain"]
    counts = [int(line.split()[1]) for line in outputs[4][0]["text"].splitlines()[1:]]
    assert counts[0] == len(names["detection"].findings) > counts[1]
    kept = cells[5]["outputs"][0]["text"]
    assert len(outputs[5][0]["text"].splitlines()) == len(kept.splitlines()) == 1 + counts[0]
    assert not list(tmp_path.iterdir())


def test_the_file_is_small_and_holds_no_path():
    text = PATH.read_text(encoding="utf-8")
    assert len(text.encode()) < 200_000
    assert not re.search(r"/(home|root|work|tmp|Users)/", text)
    known = {"nbformat": 4, "nbformat_minor": 5}
    data = json.loads(text)
    assert data.items() >= known.items() and all(cell["id"] for cell in data["cells"])
