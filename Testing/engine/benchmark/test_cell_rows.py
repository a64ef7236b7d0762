"""Rows that compare volumes: a bank of training volumes, and test volumes among themselves."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmark_cases import contents, figures, write_brains, write_profile

from ZSADCLIPLib.benchmark.cells import turns_of
from ZSADCLIPLib.benchmark.cohort import read_cohort
from ZSADCLIPLib.benchmark.estimate import estimate
from ZSADCLIPLib.benchmark.plan import Machine, make_plan
from ZSADCLIPLib.benchmark.profiles import load_profile
from ZSADCLIPLib.benchmark.rows import ROWS, select_rows
from ZSADCLIPLib.benchmark.specs import RowSpec, from_json, to_json
from ZSADCLIPLib.errors import UsageError
from ZSADCLIPLib.files.digests import FileHashes
from ZSADCLIPLib.jobs.benchmark import Benchmark
from ZSADCLIPLib.neighbours.cells import CellGrid
from ZSADCLIPLib.neighbours.mutual import mutual_distances, mutual_scores
from ZSADCLIPLib.neighbours.storing import read_array
from ZSADCLIPLib.neighbours.tokens import units
from ZSADCLIPLib.report.results import Choice, read_run
from ZSADCLIPLib.volumes.reading import read_volume
from ZSADCLIPLib.volumes.slicing import slice_volume

IDS = ("bank-volume", "cohort-volume")
METHODS = {"bank": {"settings": {"cell_mm": 4.0}}, "cohort": {"settings": {"cell_mm": 4.0, "interval": [0, 1]}}}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("cells")
    write_brains(root / "data", shape=(28, 30, 12))
    write_profile(root / "tiny.json", keep={"panels": False}, methods=METHODS, split={"fraction": 0.5})
    return root


def plan_of(place, **sections):
    base, hashes = load_profile(place / "tiny.json"), FileHashes(place / "hashes.json")
    profile = replace(base, **{name: replace(getattr(base, name), **keys) for name, keys in sections.items()})
    return make_plan(
        profile, select_rows(IDS), read_cohort(profile, place / "data", hashes), place / "out", Machine(), hashes
    )


@pytest.fixture(scope="module")
def whole(place):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the run has, whose bytes are compared
    out = place / "out"
    with figures("fig1-dice"):
        yield out, Benchmark(str(out), str(place / "tiny.json"), str(place / "data"), IDS).run()
    torch.set_num_threads(threads)


def tokens_of(spec, case, name="tokens"):
    return read_array(place_of(spec.token_folder, case), name)


def place_of(folder, case):
    return Path(folder) / f"{case}.safetensors"


def test_they_are_asked_for_by_id_setup_or_method_and_are_not_among_the_13():
    assert [row.id for row in select_rows(setups=("volume",))] == list(IDS)
    assert [row.id for row in select_rows(methods=("cohort",))] == ["cohort-volume"]
    assert len(ROWS) == 13 and not {row.id for row in select_rows()} & set(IDS)


def test_specifications_travel_as_json_and_follow_the_profile(place):
    rows = plan_of(place).rows
    assert from_json(tuple[RowSpec, ...], json.loads(json.dumps(to_json(rows)))) == rows
    bank, cohort = (spec.cells for spec in rows)
    assert bank.token_folder == cohort.token_folder and bank.folder != cohort.folder
    assert (turns_of(bank), turns_of(cohort)) == (1, 2) and bank.tokens["planes"] == ["axial"]
    assert set(bank.train).isdisjoint(bank.test)
    three = plan_of(place, score={"planes": ("axial", "coronal")}).rows[0].cells
    assert three.tokens["planes"] == ["axial", "coronal"] and three.token_folder != bank.token_folder


def test_settings_that_cannot_be_are_named_first(place):
    for settings, words in (
        ({"cell": 4}, "methods.bank.settings.*cell"),
        ({"interval": [0, 2]}, "interval 0 to 2"),
        ({"cell_mm": 0}, "cell_mm"),
    ):
        write_profile(place / "wrong.json", methods={"bank": {"settings": settings}})
        with pytest.raises(UsageError, match=words):
            Benchmark(str(place / "no"), str(place / "wrong.json"), str(place / "data"), IDS[:1]).run()


def test_they_are_priced_by_all_slices_of_all_volumes():
    lines = {line["row"]: line for line in estimate(load_profile("mini"), select_rows(IDS), None)["rows"]}
    assert lines["bank-volume"]["score_hours"] > 0 and lines["bank-volume"]["train_hours"] == 0


def test_both_run_and_stand_in_the_report(whole):
    out, result = whole
    assert (result["rows"], result["failed"]) == (2, 0)
    rows = {found.row.id: found for found in read_run(out).results}
    for name in IDS:
        manifest = rows[name].files.manifest
        assert manifest["method"]["references"] and manifest["training"] is None
        assert np.isfinite(rows[name].values("dice", Choice())).all()
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Healthy bank Volumes" in page and "Mutual scoring Volumes" in page


def test_a_bank_scores_by_lesion_free_cells_of_the_other_training_cases(place, whole):
    spec = plan_of(place).rows[0].cells
    for case in (spec.test[0], spec.train[0]):
        others = [other for other in spec.train if other != case]
        tokens = units(tokens_of(spec, case))
        found = []
        for other in others:
            cells, clean = tokens_of(spec, other, "cells"), tokens_of(spec, other, "clean")
            truth = read_volume(place / "data" / other / f"{other}-seg.nii.gz")
            lesion = CellGrid(slice_volume(truth), 4.0).share(truth.array > 0)[tuple(cells.T)] > 0
            np.testing.assert_array_equal(clean, ~lesion)
            found.append(torch.cdist(tokens, units(tokens_of(spec, other))[torch.from_numpy(clean)]).amin(1))
        expected = torch.stack(found).mean(0).numpy()
        np.testing.assert_allclose(read_array(place_of(spec.folder, f"0-{case}"), "scores"), expected, atol=1e-3)


def test_a_batch_is_its_own_side_and_its_second_pass_has_fewer_references(place, whole):
    spec = plan_of(place).rows[1].cells
    for side in (spec.train, spec.test):
        tokens = [units(tokens_of(spec, case)) for case in side]
        first = [mutual_scores(distances, 0, len(side)).numpy() for distances in mutual_distances(tokens)]
        kept = []
        for case, each, expected in zip(side, tokens, first, strict=True):
            np.testing.assert_allclose(read_array(place_of(spec.folder, f"0-{case}"), "scores"), expected, atol=1e-5)
            out = torch.from_numpy(read_array(place_of(spec.folder, f"0-{case}"), "dropped"))
            assert 0 < out.sum() == int(0.1 * len(each))
            kept.append(each[~out])
        for n, case in enumerate(side):
            others = [torch.cdist(tokens[n], each).amin(1) for i, each in enumerate(kept) if i != n]
            found = read_array(place_of(spec.folder, f"1-{case}"), "scores")
            np.testing.assert_allclose(found, torch.stack(others).mean(0).numpy(), atol=1e-3)


def test_a_second_run_keeps_them_and_what_was_lost_comes_back(place, whole):
    out, before = whole[0], contents(whole[0])
    job = Benchmark(str(out), str(place / "tiny.json"), str(place / "data"), IDS)
    assert job.run()["kept"] == 2
    spec = plan_of(place).rows[1]
    place_of(spec.cells.folder, f"1-{spec.cells.test[0]}").unlink()
    for path in (out / "rows").glob("cohort-volume-*/*"):
        if path.name in ("done.json", "cases"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert job.run()["failed"] == 0
    assert contents(out) == before
