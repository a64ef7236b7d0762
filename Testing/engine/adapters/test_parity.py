"""The engine gives the numbers of the authors' own code, for every golden case."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from parity.case import load_cases
from parity.report import check, main

GOLDEN = Path(__file__).parents[2] / "golden"


def weights(file):
    """What a case's model is drawn from; cases in a row that share it draw it once."""
    info = json.loads((GOLDEN / file).with_suffix(".json").read_text("utf-8"))
    return str(info.get("config")), str(info.get("clip_seed", info.get("seed"))), str(info.get("activation")), file


FILES = sorted((p.relative_to(GOLDEN).with_suffix("") for p in GOLDEN.rglob("*.npz")), key=weights)


def test_there_are_cases_of_every_kind():
    assert {p.parts[0] for p in FILES} == {
        *("vand", "anomalyclip", "adaclip", "anovl", "pmcclip", "winclip", "mvfa", "mediclip", "madclip", "musc"),
    }
    assert len(FILES) == 70


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Cases with the same weights and sentences share their text features, as runs of the product do."""
    return str(tmp_path_factory.mktemp("texts"))


@pytest.mark.parametrize("file", FILES, ids=str)
def test_golden(file, texts, monkeypatch):
    monkeypatch.setenv("ZSADCLIP_TEXT_CACHE", texts)
    rows = [row for case in load_cases(GOLDEN / file) for row in check(case)]
    assert rows
    assert not [str(row) for row in rows if not row.passed]


def test_the_script_runs_from_anywhere(tmp_path):
    command = [
        sys.executable,
        str(GOLDEN.parents[1] / "scripts" / "check" / "parity"),
        str(GOLDEN / "pmcclip" / "text16"),
    ]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_wrong_number_fails(tmp_path, capsys):
    import numpy as np

    source = GOLDEN / "vand" / "tiny42_gelu"
    with np.load(source.with_suffix(".npz")) as stored:
        arrays = {k: stored[k].copy() for k in stored.files}
    arrays["maps"][0, 3, 4] += 1e-3
    np.savez(tmp_path / "case.npz", **arrays)
    (tmp_path / "case.json").write_text(source.with_suffix(".json").read_text("utf-8"))
    assert main([str(tmp_path)]) == 1
    assert "FAIL" in capsys.readouterr().out


def test_a_case_that_cannot_run_fails(tmp_path, capsys):
    (tmp_path / "case.npz").write_bytes((GOLDEN / "vand" / "losses.npz").read_bytes())
    (tmp_path / "case.json").write_text('{"method": "unknown"}')
    assert main([str(tmp_path)]) == 1
    assert "cannot be run" in capsys.readouterr().out
