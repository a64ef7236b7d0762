"""A new method is one file and one entry of METHODS: it then runs in every job and stands in every menu, table and figure."""

import csv
import json

import forked
import pytest
import torch
import toy_run
from benchmark_cases import write_brains, write_profile
from small_models import backbone, config
from toy_method import ENTRY, NAME

from ZSADCLIPLib.adapters import METHODS
from ZSADCLIPLib.adapters.checkpoint import load_adapter
from ZSADCLIPLib.benchmark.rows import ALL_ROWS, MORE_ROWS, ROWS
from ZSADCLIPLib.errors import WeightsError

SETUPS = ("industrial", "finetune", "brats", "pmc", "biomedclip", "healthy", "smooth-brats", "planes-brats")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("toy")
    write_brains(root / "data")
    names = {"default": "vit", "pmc": "pmc", "biomedclip": "vit"}
    backbones = {role: {"name": config(shape), "weights": "random:3"} for role, shape in names.items()}
    write_profile(root / "tiny.json", backbones=backbones, methods={NAME: {"epochs": 1}})
    assert forked.run(toy_run.run, str(root)) == 0
    return root, json.loads((root / "told.json").read_text("utf-8")), (root / "printed.txt").read_text("utf-8")


def test_its_rows_are_those_of_a_trained_method_after_the_others(place):
    _, told, _ = place
    assert told["rows"] == [f"{NAME}-{setup}" for setup in SETUPS]
    others = [row for row in told["order"] if not row.startswith(NAME)]
    assert others == [row.id for row in ALL_ROWS] and others[: len(ROWS)] == [row.id for row in ROWS]
    assert told["order"].index("toy-industrial") == len(ROWS) + len(MORE_ROWS)


def test_its_rows_come_when_it_is_named_and_the_thirteen_stay(place):
    _, told, _ = place
    assert len(told["unasked"]) == 14 and not [row for row in told["unasked"] if row.startswith(NAME)]
    assert told["by name"] == [f"{method}-{setup}" for method in ("vand", NAME) for setup in SETUPS[:4]]


def test_it_runs_through_the_benchmark_and_stands_in_tables_figures_and_report(place):
    root, told, _ = place
    assert (told["benchmark"]["rows"], told["benchmark"]["failed"]) == (8, 0)
    report = (root / "benchmark" / "report.html").read_text(encoding="utf-8")
    assert all(
        f"Toy {label}" in report
        for label in ("Industrial", "Finetune", "Brats", "PMC", "BiomedCLIP", "Healthy", "Brats, 3 planes")
    )
    assert ENTRY.colour in (root / "benchmark" / "figures" / "ranking.svg").read_text(encoding="utf-8")
    with open(root / "benchmark" / "figures" / "fig2-slices.csv", newline="") as stream:
        assert {line["row"] for line in csv.DictReader(stream)} == set(told["rows"])
    tables = [path.read_text(encoding="utf-8") for path in (root / "benchmark" / "tables").rglob("*.csv")]
    assert any("Toy" in text and "Finetune" in text for text in tables)


def test_it_trains_and_detects(place):
    root, told, printed = place
    assert told["train"]["threshold"] is not None and told["detect"]["failed"] == 0
    (case,) = [json.loads(path.read_text("utf-8")) for path in (root / "detect").glob("*t2w.json")]
    assert case["provenance"]["adapter"]["method"] == NAME
    assert case["threshold_rule"] == "checkpoint" and case["provenance"]["adapted"] == []
    assert NAME in printed.split("--method")[1].split("}")[0]


def test_its_published_files_are_known_by_itself(monkeypatch, tmp_path):
    monkeypatch.setitem(METHODS, NAME, ENTRY)
    own = load_adapter(f"{NAME}:random:5", backbone())
    torch.save({"toy_layer": own.layer.state_dict()}, tmp_path / "theirs.pth")
    loaded = load_adapter(tmp_path / "theirs.pth", backbone())
    assert loaded.method == NAME and torch.equal(loaded.layer.weight, own.layer.weight)
    torch.save({"something": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match=r"toy_layer \(Toy\)"):
        load_adapter(tmp_path / "other.pth", backbone())
