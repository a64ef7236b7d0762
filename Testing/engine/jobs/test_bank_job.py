"""`zsadclip bank build`, and detection with what it builds."""

import csv
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from killed_after import killed_after
from small_models import VIT

from ZSADCLIPLib.cli import main
from ZSADCLIPLib.errors import InputError, UsageError, WeightsError
from ZSADCLIPLib.execution.base import Spreadable
from ZSADCLIPLib.jobs.bank import BuildBank
from ZSADCLIPLib.jobs.detect import Detect
from ZSADCLIPLib.jobs.evaluate import Evaluate
from ZSADCLIPLib.neighbours.bank import healthy_cut, healthy_sketch, load_bank
from ZSADCLIPLib.neighbours.cells import CellGrid
from ZSADCLIPLib.neighbours.mutual import mutual_distances, share_scores
from ZSADCLIPLib.neighbours.tokens import units
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.reading import read_volume, write_volume

MODEL = {"weights": "random", "device": "cpu"}
TOKENS = {"image_size": 128, "cell_mm": 4.0, "projection": 16, "window": ("0", "400")}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Four healthy volumes in `healthy`, a sick one of another spacing, a tiny model, and a bank of the healthy."""
    folder, rng = tmp_path_factory.mktemp("bank"), np.random.default_rng(5)
    (folder / "tiny.json").write_text(json.dumps(VIT))
    for n in range(5):
        shape, spacing = ((20, 22, 16), 1.0) if n < 4 else ((20, 22, 8), 2.0)
        array = np.zeros(shape, np.int16)
        array[2:-2, 2:-2, 1:-1] = rng.integers(90, 110, (16, 18, shape[2] - 2))
        if n == 4:
            array[6:13, 6:13, 2:6] = 400
        name = folder / "healthy" / f"h{n}.nii" if n < 4 else folder / "sick.nii"
        write_volume(name, Volume(array, np.diag([1, 1, spacing, 1])))
    assert build(folder, folder / "here.bank").run()["cases"] == 4
    return folder


def build(data, out, *inputs, **changes):
    inputs = tuple(map(str, inputs or [data / "healthy"]))
    return BuildBank(inputs, str(out), backbone=str(data / "tiny.json"), **{**MODEL, **TOKENS, **changes})


def detect(data, out, **changes):
    values = {"method": "bank", "bank": str(data / "here.bank"), "backbone": str(data / "tiny.json"), **MODEL}
    return Detect((str(data / "sick.nii"),), str(out), **{**values, "min_size_mm3": 0.0, **changes})


def test_a_bank_holds_the_tokens_and_the_cut_of_its_volumes(data):
    bank = load_bank(data / "here.bank")
    assert bank.volumes == 4 and bank.seen == len(bank.tokens) and bank.settings.cell_mm == 4
    assert not (data / "here.bank.parts").exists()
    own = [units(bank.tokens[bank.origin == n]) for n in range(4)]
    sketch = None
    for n, distances in enumerate(mutual_distances(own)):
        prepared = bank.settings.look(0).prepare(read_volume(data / "healthy" / f"h{n}.nii"), 128)
        grid = CellGrid(prepared.stack, 4.0)
        drawn = grid.draw(np.argwhere(grid.brain(prepared.scored)), share_scores(distances, (0, 1)).numpy())
        counts = healthy_sketch(drawn[prepared.scored])
        sketch = counts if sketch is None else sketch.merge(counts)
    threshold, median = healthy_cut(sketch)
    assert bank.threshold == pytest.approx(threshold, abs=1e-4) and bank.display[0] == pytest.approx(median, abs=1e-4)


def test_detection_with_a_bank_writes_the_usual_files_and_finds_what_is_unlike(data, tmp_path):
    result = detect(data, tmp_path).run()
    assert (result["cases"], result["failed"]) == (1, 0)
    assert {p.name for p in tmp_path.iterdir()} == {
        *("sick_anomaly.nii.gz", "sick_mask.nii.gz", "sick.json", "sick.png", "summary.csv")
    }
    found = json.loads((tmp_path / "sick.json").read_text("utf-8"))
    assert found["threshold"] == load_bank(data / "here.bank").threshold
    assert found["threshold_rule"].startswith("fpr:0.0005") and found["findings"]
    map_ = read_volume(tmp_path / "sick_anomaly.nii.gz").array
    assert map_.shape == (20, 22, 8)
    block, brain = np.zeros(map_.shape, bool), read_volume(data / "sick.nii").array > 0
    block[7:12, 7:12, 2:6] = True
    assert map_[block].mean() > map_[brain & ~block].mean()
    again = detect(data, tmp_path, skip_existing=True).run()
    assert again["skipped"] == 1


def test_another_bank_makes_other_results(data, tmp_path):
    assert build(data, tmp_path / "other.bank", data / "healthy" / "h0.nii", data / "healthy" / "h1.nii").run()
    first, other = detect(data, tmp_path / "out"), detect(data, tmp_path / "out", bank=str(tmp_path / "other.bank"))
    assert first.key != other.key
    first.run()
    assert Detect(**{**asdict(other), "skip_existing": True}).run()["skipped"] == 0


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"bank": None}, "needs --bank FILE"),
        ({"image_size": 48}, "image_size 48: the bank was built with 128"),
        ({"planes": ("coronal", "axial")}, "the bank was built with"),
        ({"plane": "coronal"}, "the bank was built with axial"),
        ({"crop": "none"}, "built with head"),
        ({"window": (0.0, 9.0)}, "window"),
        ({"fast": True}, "fast True"),
        ({"reference": ("a.nii",)}, "no use"),
        ({"checkpoint": "vand:random"}, "no use"),
        ({"settings": {"a": 1}}, "a bank has none"),
        ({"min_size_mm3": -1.0}, "not 0 or more"),
    ],
)
def test_settings_that_a_bank_does_not_have_are_named(data, tmp_path, wrong, words):
    with pytest.raises(UsageError, match=words):
        detect(data, tmp_path, **wrong).load(0)


def test_settings_that_say_what_the_bank_says_are_taken(data, tmp_path):
    assert detect(data, tmp_path, image_size=128, plane="axial", planes=("axial",), crop="head").load(0)


def test_another_backbone_is_refused(data, tmp_path):
    with pytest.raises(WeightsError, match="fingerprint"):
        detect(data, tmp_path, weights="random:1").run()
    with pytest.raises(WeightsError, match="no bank"):
        detect(data, tmp_path, bank=str(data / "tiny.json")).run()


def test_a_single_volume_has_no_threshold(data, tmp_path):
    result = build(data, tmp_path / "one.bank", data / "healthy" / "h0.nii").run()
    assert result["threshold"] is None and load_bank(tmp_path / "one.bank").volumes == 1


def test_a_sample_of_tokens_is_what_the_cut_is_taken_with(data, tmp_path):
    whole, few = load_bank(data / "here.bank"), build(data, tmp_path / "few.bank", max_tokens=80).run()
    bank = load_bank(tmp_path / "few.bank")
    assert len(bank.tokens) <= 80 < bank.seen == len(whole.tokens)
    assert few["threshold"] > whole.threshold  # fewer to be near to
    with pytest.raises(UsageError, match="keep more"):
        build(data, tmp_path / "none.bank", max_tokens=3).run()


def test_a_volume_that_cannot_be_used_stops_the_bank_and_the_rest_is_kept(data, tmp_path):
    (tmp_path / "bad.nii").write_bytes(b"nothing")
    job = build(data, tmp_path / "a.bank", data / "healthy", tmp_path / "bad.nii")
    with pytest.raises(InputError, match="bad cannot be used .* leave them out"):
        job.run()
    assert len(list((tmp_path / "a.bank.parts" / "tokens").iterdir())) == 4 and not (tmp_path / "a.bank").exists()


def test_a_bank_takes_the_place_of_banks_only(data, tmp_path):
    (tmp_path / "a.bank").write_text("notes")
    with pytest.raises(UsageError, match="is no bank"):
        build(data, tmp_path / "a.bank").run()
    assert (tmp_path / "a.bank").read_text("utf-8") == "notes"
    (tmp_path / "b.bank").write_bytes((data / "here.bank").read_bytes())
    build(data, tmp_path / "b.bank", data / "healthy" / "h0.nii").run()
    assert load_bank(tmp_path / "b.bank").volumes == 1


def test_shards_and_wrong_intervals_are_refused(data, tmp_path):
    for wrong, words in (
        ({"shard": "1/2"}, "shard"),
        ({"interval": (0.5, 0.1)}, "LOW <= HIGH"),
        ({"planes": ()}, "planes"),
    ):
        with pytest.raises(UsageError, match=words):
            build(data, tmp_path / "a.bank", **wrong).run()
    assert isinstance(build(data, tmp_path / "a.bank"), Spreadable)


@pytest.mark.parametrize("overlap", [1, 4])
def test_as_many_volumes_at_once_as_one_likes_give_the_same_bytes(data, tmp_path, overlap):
    build(data, tmp_path / "a.bank", overlap=overlap).run()
    assert (tmp_path / "a.bank").read_bytes() == (data / "here.bank").read_bytes()
    found = []
    for name, n in (("alone", 1), ("overlap", overlap)):
        replace(detect(data, tmp_path / name, overlap=n), inputs=(str(data / "healthy"),)).run()
        found.append({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()})
    assert found[0] == found[1]


@pytest.mark.long
@pytest.mark.parametrize("workers", [0, 2])
def test_a_bank_that_was_killed_goes_on_to_the_same_bytes(data, tmp_path, workers):
    job = build(data, tmp_path / "a.bank", workers=workers)
    (tmp_path / "job.json").write_text(json.dumps({"job": "bank", **asdict(job)}))
    if not workers:
        for count in (2, 3, 5, 2):  # within tokens, distances, scores, counts
            assert killed_after(count, tmp_path / "job.json") and not (tmp_path / "a.bank").exists()
    job.run()
    assert (tmp_path / "a.bank").read_bytes() == (data / "here.bank").read_bytes()
    assert {p.name for p in tmp_path.iterdir()} == {"a.bank", "job.json"}


def test_the_command_builds_and_uses_a_bank(data, tmp_path, capsys):
    out = tmp_path / "a.bank"
    model = ["--backbone", str(data / "tiny.json"), "--weights", "random", "--device", "cpu"]
    options = ["--cell-mm", "4", "--projection", "16", "--image-size", "128", "--window", "0", "400"]
    assert main(["bank", "build", str(data / "healthy"), "-o", str(out), *model, *options]) == 0
    assert "4 volumes" in capsys.readouterr().out and out.read_bytes() == (data / "here.bank").read_bytes()
    command = ["detect", str(data / "sick.nii"), "-o", str(tmp_path / "out"), "--method", "bank", "--bank", str(out)]
    assert main([*command, *model]) == 0 and (tmp_path / "out" / "sick.png").is_file()


def test_evaluate_takes_a_bank_as_a_method(data, tmp_path, capsys):
    truth = np.zeros((20, 22, 8), np.uint8)
    truth[6:13, 6:13, 2:6] = 1
    write_volume(tmp_path / "truth.nii", Volume(truth, np.diag([1, 1, 2.0, 1])))
    (tmp_path / "cases.csv").write_text(f"id,image,mask\nsick,{data / 'sick.nii'},truth.nii\n")
    command = ["evaluate", str(tmp_path / "cases.csv"), "-o", str(tmp_path / "out"), "--methods", "bank"]
    with pytest.raises(UsageError, match="needs a bank"):
        Evaluate(str(tmp_path / "cases.csv"), str(tmp_path / "out"), ("bank",)).run()
    model = ["--backbone", str(data / "tiny.json"), "--weights", "random", "--device", "cpu", "--min-size", "0"]
    assert main([*command, "--bank", str(data / "here.bank"), *model]) == 0
    assert "1 result, 0 failed" in capsys.readouterr().out
    with open(tmp_path / "out" / "tables" / "cases.csv", newline="", encoding="utf-8") as file:
        row = next(row for row in csv.DictReader(file) if row["Method"] == "Healthy bank")
    assert float(row["AP"]) > 0.5 and (tmp_path / "out" / "bank" / "sick_anomaly.nii.gz").is_file()
