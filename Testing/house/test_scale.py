"""The simulation of many volumes: its limits are those that can be reckoned by hand."""

import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "measure" / "scale"


@pytest.fixture(scope="module")
def scale():
    loader = SourceFileLoader("scale", str(SCRIPT))
    module = module_from_spec(spec_from_loader("scale", loader))
    sys.modules["scale"] = module  # where dataclasses look for their types
    loader.exec_module(module)
    yield module
    del sys.modules["scale"]


def test_workers_wait_for_nobody_until_a_device_is_full(scale):
    costs = scale.Costs(
        read=0.2, prepare=0.3, back=0.2, write=0.2, load=0.0, score_seconds=0.1, input_mb=0, output_mb=0
    )
    for workers, rate, busy in ((1, 1.0, 0.1), (5, 5.0, 0.5), (40, 10.0, 1.0)):
        played = scale.play(costs, 4000, 1, workers, 500.0, 1000.0)
        assert 4000 / played["seconds"] == pytest.approx(rate, rel=0.02)
        assert played["gpu"] == pytest.approx(busy, rel=0.02) and played["reloads"] == 0


def test_storage_and_loading_limit_as_well(scale):
    full = scale.Costs(load=0.0, input_mb=300, output_mb=200)
    played = scale.play(full, 2000, 8, 8, 500.0, 1000.0)
    assert played["seconds"] == pytest.approx(2000, rel=0.02) and played["storage"] == pytest.approx(1, rel=0.02)
    late = scale.play(scale.Costs(load=10.0), 16, 1, 16, 500.0, 1000.0)
    assert 10 + scale.Costs().cpu + 16 * scale.Costs().score <= late["seconds"] < 12 + 16 * scale.Costs().score
