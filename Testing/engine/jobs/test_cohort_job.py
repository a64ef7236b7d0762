"""`zsadclip cohort`: a batch scored against itself, killed and resumed, spread, and what its results say."""

import csv
import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from killed_after import killed_after
from small_models import VIT

from ZSADCLIPLib.cli import main
from ZSADCLIPLib.errors import InputError, UsageError
from ZSADCLIPLib.execution.base import Spreadable
from ZSADCLIPLib.jobs.cohort import Cohort
from ZSADCLIPLib.neighbours.mutual import mutual_distances, mutual_scores
from ZSADCLIPLib.neighbours.stages import read_tokens
from ZSADCLIPLib.neighbours.storing import read_array
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.reading import read_volume, write_volume

NAMES = [f"c{n}" for n in range(6)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Six small volumes, the last with a lesion that has a truth, a tiny model, and the results over them in `here`."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as each of two workers has: another number rounds differently
    folder, rng = tmp_path_factory.mktemp("cohort"), np.random.default_rng(5)
    (folder / "tiny.json").write_text(json.dumps(VIT))
    rows = []
    for name in NAMES:
        array = np.zeros((20, 22, 12), np.int16)
        array[2:-2, 2:-2, 1:-1] = rng.integers(90, 110, (16, 18, 10))
        lesion = np.zeros(array.shape, bool)
        lesion[6:13, 6:13, 3:9] = name == NAMES[-1]
        array[lesion] = 400
        write_volume(folder / "in" / f"{name}.nii", Volume(array, np.diag([1, 1, 1.5, 1])))
        write_volume(folder / "truth" / f"{name}.nii", Volume(lesion.astype(np.uint8), np.diag([1, 1, 1.5, 1])))
        rows.append(f"{name},in/{name}.nii,truth/{name}.nii")
    (folder / "batch.csv").write_text("\n".join(["id,image,mask", *rows]) + "\n")
    assert cohort(folder, folder / "here").run()["failed"] == 0
    yield folder
    torch.set_num_threads(threads)


def cohort(data, out, *inputs, **changes):
    values = {"backbone": str(data / "tiny.json"), "weights": "random", "device": "cpu", "image_size": 128}
    values |= {"cell_mm": 4.0, "projection": 16, "pictures": False, "min_size_mm3": 0.0, "window": ("0", "400")}
    inputs = tuple(map(str, inputs or [data / "batch.csv"]))
    return Cohort(inputs, str(out), **{**values, **changes})


def bytes_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def scores_of(out, turn):
    return [read_array(out / "cohort" / "scores" / f"{turn}-{name}.safetensors", "scores") for name in NAMES]


def test_both_passes_are_the_mutual_scores_of_the_tokens(data):
    tokens = [read_tokens(data / "here" / "cohort" / "tokens" / f"{name}.safetensors").units() for name in NAMES]
    first = [mutual_scores(found, 0, 5).numpy() for found in mutual_distances(tokens)]
    for found, expected in zip(scores_of(data / "here", 0), first, strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-6)
    kept = []
    for scores, each in zip(first, tokens, strict=True):
        order = np.argsort(scores, kind="stable")
        kept.append(each[torch.from_numpy(order[: len(order) - int(0.1 * len(order))].copy())])
    for n, found in enumerate(scores_of(data / "here", 1)):
        others = [torch.cdist(tokens[n], each).amin(1) for i, each in enumerate(kept) if i != n]
        expected = mutual_scores(torch.stack(others, 1), 0, 0.3).numpy()
        np.testing.assert_allclose(found, expected, atol=5e-4)


def test_results_are_those_of_detection_and_say_that_they_hold_within_the_batch(data):
    here = data / "here"
    assert {p.name for p in here.iterdir() if p.is_file()} == {
        "summary.csv",
        *(f"{name}{end}" for name in NAMES for end in ("_anomaly.nii.gz", "_mask.nii.gz", ".json")),
    }
    with open(here / "summary.csv", newline="") as stream:
        rows = {row["id"]: row for row in csv.DictReader(stream)}
    assert list(rows) == NAMES and float(rows["c5"]["dice"]) > 0
    facts = [json.loads((here / f"{name}.json").read_text("utf-8")) for name in NAMES]
    assert len({each["threshold"] for each in facts}) == 1
    cells = np.concatenate(scores_of(here, 1))
    assert facts[0]["threshold"] == pytest.approx(np.quantile(cells, 0.99))
    for each in facts:
        said = [note["text"] for note in each["notes"]]
        assert any("within this batch only" in text for text in said) and any("batch of 6" in text for text in said)
        told = each["provenance"]["adapter"]["provenance"]
        assert told["volumes"] == 6 and told["use"] == "scores hold within this batch only"
        assert [len(one["interval"]) for one in told["passes"]] == [2, 2]
        assert told["passes"][1]["volume_score"] == each["volume_score"]
    assert max(facts, key=lambda each: each["volume_score"])["id"] == "c5"
    map_ = read_volume(here / "c5_anomaly.nii.gz").array
    lesion = read_volume(data / "truth" / "c5.nii").array > 0
    assert map_.shape == lesion.shape and map_[lesion].mean() > np.quantile(map_, 0.9)


def test_the_order_of_the_volumes_does_not_matter(data, tmp_path):
    inputs = [data / "in" / f"{name}.nii" for name in NAMES]
    for out, order in (("a", inputs), ("b", inputs[::-1])):
        assert cohort(data, tmp_path / out, *order).run()["failed"] == 0
    first, other = (bytes_of(tmp_path / out) for out in ("a", "b"))
    assert first == other


def test_fewer_references_and_passes_are_less_work_and_other_scores(data, tmp_path):
    job = cohort(data, tmp_path, references=2, refine=0, interval=(0.5, 1.0))
    assert job.run()["failed"] == 0
    found = scores_of(tmp_path, 0)
    assert not (tmp_path / "cohort" / "scores" / "1-c0.safetensors").exists()
    assert not np.allclose(found[0], scores_of(data / "here", 0)[0])
    facts = json.loads((tmp_path / "c0.json").read_text("utf-8"))["provenance"]["adapter"]["provenance"]
    assert facts["references"] == 2 and facts["passes"][0]["interval"] == [0.5, 1.0]


def test_other_settings_keep_the_tokens_and_replace_the_rest(data, tmp_path):
    cohort(data, tmp_path, refine=0).run()
    tokens = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "cohort" / "tokens").iterdir()}
    cohort(data, tmp_path).run()
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "cohort" / "tokens").iterdir()} == tokens
    assert bytes_of(tmp_path) == bytes_of(data / "here")
    assert cohort(data, tmp_path).run()["skipped"] == 6 and bytes_of(tmp_path) == bytes_of(data / "here")


@pytest.mark.long
def test_a_batch_that_was_killed_goes_on_to_the_same_bytes(data, tmp_path):
    job = cohort(data, tmp_path / "out")
    (tmp_path / "job.json").write_text(json.dumps({"job": "cohort", **asdict(job)}))
    # Within tokens, distances, scores, distances of the second pass, results; scores are written anew each time.
    for count in (4, 4, 4, 8, 20):
        assert killed_after(count, tmp_path / "job.json")
        assert not (tmp_path / "out" / "summary.csv").exists()
    job.run()
    assert bytes_of(tmp_path / "out") == bytes_of(data / "here")


@pytest.mark.parametrize("overlap", [1, 4])
def test_as_many_volumes_at_once_as_one_likes_give_the_same_bytes(data, tmp_path, overlap):
    assert cohort(data, tmp_path, overlap=overlap).run()["failed"] == 0
    assert bytes_of(tmp_path) == bytes_of(data / "here")


@pytest.mark.long
def test_worker_processes_give_the_same_bytes(data, tmp_path):
    assert cohort(data, tmp_path, workers=2).run()["failed"] == 0
    assert bytes_of(tmp_path) == bytes_of(data / "here") and isinstance(cohort(data, tmp_path), Spreadable)


def test_a_volume_that_cannot_be_read_is_told_and_the_batch_is_the_others(data, tmp_path):
    (tmp_path / "bad.nii").write_bytes(b"nothing")
    result = cohort(data, tmp_path / "out", data / "in", tmp_path / "bad.nii").run()
    assert (result["cases"], result["failed"], result["failed_ids"]) == (7, 1, ["bad"])
    facts = json.loads((tmp_path / "out" / "c0.json").read_text("utf-8"))
    assert facts["provenance"]["adapter"]["provenance"]["volumes"] == 6


def test_few_volumes_are_refused_and_some_are_warned_about(data, tmp_path):
    four = [data / "in" / f"{name}.nii" for name in NAMES[:4]]
    with pytest.raises(UsageError, match="4 volumes cannot be scored .* expected 5 or more, better 16"):
        cohort(data, tmp_path / "out", *four).run()
    (tmp_path / "bad.nii").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="4 volumes"):
        cohort(data, tmp_path / "out", *four, tmp_path / "bad.nii").run()
    events = []
    cohort(data, tmp_path / "five", *four, data / "in" / "c4.nii").run(report=events.append)
    assert [
        event["text"] for event in events if event["event"] == "note" and "batch of 5 volumes is small" in event["text"]
    ]


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"threshold": "batch:2"}, "batch:Q with 0 < Q < 1"),
        ({"threshold": "checkpoint"}, "a batch has none"),
        ({"threshold": "much"}, "much"),
        ({"interval": (0.0, 3.0)}, "LOW <= HIGH"),
        ({"references": 0}, "references"),
        ({"shard": "1/3"}, "shard 1/3"),
        ({"min_depth_mm": -1.0}, "min_depth_mm"),
    ],
)
def test_settings_that_cannot_be_are_named_before_any_work(data, tmp_path, wrong, words):
    with pytest.raises(UsageError, match=words):
        cohort(data, tmp_path / "out", **wrong).run()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("threshold, rule", [("quantile:0.9", "quantile:0.9 over brain"), ("0.4", "fixed:0.4")])
def test_masks_are_cut_as_asked(data, tmp_path, threshold, rule):
    cohort(data, tmp_path, threshold=threshold).run()
    facts = json.loads((tmp_path / "c5.json").read_text("utf-8"))
    assert facts["threshold_rule"].startswith(rule)


def test_a_result_never_takes_the_place_of_an_input(data, tmp_path):
    for name in NAMES:
        (tmp_path / f"{name}_mask.nii.gz").write_bytes(b"mine")
    with pytest.raises(UsageError, match="no result of an earlier run"):
        cohort(data, tmp_path).run()


def test_the_command_scores_a_batch(data, tmp_path, capsys):
    command = ["cohort", str(data / "batch.csv"), "-o", str(tmp_path), "--backbone", str(data / "tiny.json")]
    command += ["--weights", "random", "--device", "cpu", "--image-size", "128", "--cell-mm", "4", "--projection", "16"]
    command += [
        "--window",
        "0",
        "400",
        "--refine",
        "1",
        "--interval",
        "0",
        "0.3",
        "--references",
        "32",
        "--min-size",
        "0",
        "--no-pictures",
    ]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "6 volumes, 0 failed" in said.out and "within this batch only" in said.out and "batch of 6" in said.err
    assert bytes_of(tmp_path) == bytes_of(data / "here") and os.listdir(tmp_path / "cohort")


def test_cells_are_dropped_by_their_gap_and_compared_in_a_box_where_that_is_asked(data, tmp_path):
    plain = scores_of(data / "here", 1)
    for name, changes, said in (
        ("gap", {"drop": "gap"}, {"drop": "gap", "window_mm": None}),
        ("box", {"window_mm": 16.0}, {"drop": "score", "window_mm": 16.0}),
    ):
        assert cohort(data, tmp_path / name, **changes).run()["failed"] == 0
        found = scores_of(tmp_path / name, 1)
        assert not any(np.allclose(one, other) for one, other in zip(found, plain, strict=True))
        facts = json.loads((tmp_path / name / "c5.json").read_text("utf-8"))["provenance"]["adapter"]["provenance"]
        assert {key: facts[key] for key in said} == said
    assert (scores_of(tmp_path / "box", 0)[0] >= scores_of(data / "here", 0)[0] - 1e-6).all()  # fewer to be near to
    np.testing.assert_array_equal(scores_of(tmp_path / "gap", 0)[0], scores_of(data / "here", 0)[0])


def test_a_box_needs_volumes_on_one_grid(data, tmp_path):
    write_volume(tmp_path / "other.nii", Volume(read_volume(data / "in" / "c0.nii").array, np.diag([1, 1, 2, 1])))
    job = cohort(data, tmp_path / "out", data / "in", tmp_path / "other.nii", window_mm=16.0)
    with pytest.raises(InputError, match="other has another affine than c0.*leave window-mm out"):
        job.run()
