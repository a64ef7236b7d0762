"""The scripts around many volumes: the simulation, the lock file, the table on disk."""

import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

from ZSADCLIPLib.detection.summary import SummaryRows, write_summary
from ZSADCLIPLib.errors import InputError

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts" / "measure"


def script(name):
    loader = SourceFileLoader(name, str(SCRIPTS / name))
    module = module_from_spec(spec_from_loader(name, loader))
    sys.modules[name] = module
    loader.exec_module(module)
    return module


def test_the_simulation_finds_what_limits_a_run():
    s = script("scale")
    costs = s.Costs(read=0, prepare=1.0, back=0, write=1.0, score_seconds=0.5, input_mb=1, output_mb=1, load=0)
    cpu = s.play(costs, 1000, gpus=2, each=1, storage_mb_s=1e9, walltime_h=100)
    assert cpu["seconds"] == pytest.approx(1000 * 2.5 / 2, rel=0.02) and cpu["gpu"] == pytest.approx(0.2, rel=0.02)
    gpu = s.play(costs, 1000, gpus=2, each=16, storage_mb_s=1e9, walltime_h=100)
    assert gpu["seconds"] == pytest.approx(1000 * 0.5 / 2, rel=0.05) and gpu["gpu"] > 0.95
    disk = s.play(costs, 1000, gpus=2, each=16, storage_mb_s=4, walltime_h=100)
    assert disk["seconds"] == pytest.approx(1000 * 2 / 4, rel=0.05) and disk["storage"] > 0.95
    assert s.play(costs, 1000, gpus=2, each=1, storage_mb_s=1e9, walltime_h=0.1)["reloads"] >= 4


def test_the_table_keeps_the_order_of_cases_and_no_rows_in_memory(tmp_path):
    with SummaryRows(3) as table:
        for n in (2, 0, 1):
            table.put(n, {"id": f"c{n}", "status": "failed" if n == 1 else "done", "error": "x" * n, "dice": 0.5})
        assert [row["id"] for row in table.rows()] == ["c0", "c1", "c2"] and table.failed_ids == ["c1"]
        write_summary(tmp_path, ["c0", "c1", "c2"], (0, 1), table, "k")
    assert (tmp_path / "summary.csv").read_text("utf-8").splitlines()[0] == "id,status,error,dice"


def test_the_last_shard_writes_the_summary_unless_another_worked_on_other_cases(tmp_path):
    for first, ids, merged in ((1, ["b"], False), (0, ["a", "c"], True)):
        with SummaryRows(len(ids)) as table:
            for n, name in enumerate(ids):
                table.put(n, {"id": name, "status": "done", "error": ""})
            write_summary(tmp_path, ["a", "b", "c"], (first, 2), table, "k")
        assert (tmp_path / "summary.csv").exists() == merged
    assert [line[0] for line in (tmp_path / "summary.csv").read_text("utf-8").splitlines()[1:]] == ["a", "b", "c"]
    (tmp_path / "summary.csv").unlink()
    with SummaryRows(1) as table:
        table.put(0, {"id": "z", "status": "done", "error": ""})
        write_summary(tmp_path, ["a", "z", "c"], (1, 2), table, "k")
    assert subprocess.run(["grep", "-c", "b", tmp_path / "summary.csv"], capture_output=True).stdout.strip() == b"0"
    with SummaryRows(1) as table:
        table.put(0, {"id": "z", "status": "done", "error": ""})
        write_summary(tmp_path, ["x", "z", "c"], (1, 2), table, "other settings")
        assert (tmp_path / "summary.csv").exists()
        with pytest.raises(InputError, match="shard 1/2 worked on other cases .* Run all shards again"):
            write_summary(tmp_path, ["x", "z", "c"], (1, 2), table, "k")
    assert not (tmp_path / "summary.csv").exists()
