"""`zsadclip train` and `zsadclip data audit` as their users meet them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from benchmark_cases import write_brains
from small_models import VIT

from ZSADCLIPLib.adapters.checkpoint import read_info
from ZSADCLIPLib.cli import main
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.reading import read_volume, write_volume


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("train")
    write_brains(root / "data")
    (root / "tiny.json").write_text(json.dumps(VIT))
    small = {
        "base": "ci",
        "slices": {"image_size": 64, "every": 1},
        "threshold": {"max_subjects": 2},
        "industrial": {"images": 8},
    }
    (root / "profile.json").write_text(json.dumps(small))
    return root


def train(place, out, *more):
    common = ["--backbone", str(place / "tiny.json"), "--weights", "random:3", "--profile", str(place / "profile.json")]
    return main(["train", "--out", str(out), *common, "--device", "cpu", "--epochs", "1", *map(str, more)])


def test_a_trained_adapter_carries_its_threshold_and_is_used_by_detect(place, capsys):
    out = place / "out"
    assert train(place, out, "--data", place / "data", "--slices", "lesion+2") == 0
    assert "vand: done, 1 epochs, loss" in capsys.readouterr().out
    info = read_info(out / "vand.safetensors")
    assert 0 < info.threshold < 4 and info.provenance["training"]["subjects"] == 4
    assert "f1max-pooled-train on 2 training cases" in info.provenance["threshold_rule"]
    volume = next((place / "data").rglob("*-t2w.nii.gz"))
    arguments = ["--backbone", place / "tiny.json", "--weights", "random:3", "--checkpoint", out / "vand.safetensors"]
    assert main(["detect", str(volume), "-o", str(out / "found"), *map(str, arguments), "--image-size", "64"]) == 0
    (case,) = (out / "found").glob("*t2w*.json")
    assert json.loads(case.read_text("utf-8"))["threshold"] == pytest.approx(info.threshold)


def test_a_finetune_goes_on_from_a_file_and_a_second_run_keeps_it(place, capsys, monkeypatch):
    def log(folder, row):
        (folder / "tensorboard").mkdir(exist_ok=True)
        (folder / "tensorboard" / "events").write_text(str(row["epoch"]))

    monkeypatch.setattr("ZSADCLIPLib.training.fit._tensorboard", log)
    start, out = place / "industrial", place / "finetune"
    assert train(place, start, "--domain", "industrial") == 0
    assert (start / "tensorboard" / "events").read_text("utf-8") == "1" and not (start / "training").exists()
    assert read_info(start / "vand.safetensors").provenance["training"]["domain"] == "industrial"
    assert train(place, out, "--data", place / "data", "--start", start / "vand.safetensors") == 0
    before = (out / "vand.safetensors").read_bytes()
    assert read_info(out / "vand.safetensors").provenance["training"]["start"] == "vand.safetensors"
    assert train(place, out, "--data", place / "data", "--start", start / "vand.safetensors") == 0
    assert "vand: kept" in capsys.readouterr().out and (out / "vand.safetensors").read_bytes() == before


def test_other_settings_data_or_start_are_refused_where_a_training_is(place, tmp_path, capsys):
    write_brains(tmp_path / "data")
    common, out = ("--data", tmp_path / "data"), tmp_path / "out"
    assert train(place, out, *common) == 0
    assert train(place, out, *common, "--cache", "none", "--device", "cpu") == 0  # where features are kept is no matter
    before = (out / "vand.safetensors").read_bytes()
    start = place / "industrial" / "vand.safetensors"
    assert start.is_file() or train(place, place / "industrial", "--domain", "industrial") == 0
    wrong = {
        "adapter.training.schedule.seed": ("--seed", 5),
        "adapter.training.slices": ("--slices", "lesion+1"),
        "method": ("--method", "anomalyclip"),
        "start": ("--start", start),
        "adapter.training.schedule.half": ("--cache", "disk-half"),
    }
    for name, options in wrong.items():
        assert train(place, out, *common, *options) == 2
        error = capsys.readouterr().err
        assert f"{out} holds a training with other" in error and name in error and "choose another folder" in error
    for mask in (tmp_path / "data").rglob("*-seg.nii.gz"):
        image = mask.with_name(mask.name.replace("-seg", "-t2w"))
        write_volume(image, replace(read_volume(image), array=read_volume(image).array * 2))
    assert train(place, out, *common) == 2
    assert "adapter.training.data, threshold_data" in capsys.readouterr().err
    (out / "identity.json").unlink()
    assert train(place, out, *common) == 2 and "settings that it does not tell" in capsys.readouterr().err
    assert (out / "vand.safetensors").read_bytes() == before


def test_what_cannot_be_trained_is_said(place, tmp_path, capsys):
    assert train(place, tmp_path) == 2
    assert "the domain brain needs data" in capsys.readouterr().err
    assert train(place, tmp_path, "--data", place / "data", "--start", "nowhere.pth") == 1
    assert "there is no adapter file nowhere.pth" in capsys.readouterr().err


def test_an_industrial_training_heeds_no_file_of_the_profile(place, tmp_path, capsys):
    profile = json.loads((place / "profile.json").read_text("utf-8")) | {
        "methods": {"vand": {"industrial": "mvtec.pth"}}
    }
    (tmp_path / "profile.json").write_text(json.dumps(profile))
    assert train(place, tmp_path / "out", "--domain", "industrial", "--profile", tmp_path / "profile.json") == 0


def test_the_audit_is_printed_and_saved(place, tmp_path, capsys):
    assert main(["data", "audit", str(place / "data"), "--out", str(tmp_path / "audit")]) == 0
    printed = capsys.readouterr().out
    assert "| cases | 6 |" in printed and "40x44x12" in printed and "saved: " in printed
    found = json.loads((tmp_path / "audit" / "audit.json").read_text("utf-8"))
    assert (
        found["summary"]["lesions"] == 6
        and len((tmp_path / "audit" / "audit.csv").read_text("utf-8").splitlines()) == 7
    )
    assert np.isclose(found["cases"][0]["lesion_mm3"][0], 324)
    assert main(["data", "audit", str(tmp_path / "nowhere")]) == 1
    assert "there is no folder or manifest" in capsys.readouterr().err


def test_the_threshold_of_a_smoothed_training_belongs_to_smoothed_maps(place, tmp_path, capsys):
    profile = json.loads((place / "profile.json").read_text("utf-8")) | {"score": {"smooth_mm": 2.0}}
    (tmp_path / "smooth.json").write_text(json.dumps(profile))
    out, tiny = tmp_path / "out", ["--backbone", str(place / "tiny.json"), "--weights", "random:3"]
    arguments = ["--data", place / "data", "--slices", "lesion+2", "--profile", tmp_path / "smooth.json"]
    assert train(place, out, *arguments) == 0
    stored = read_info(out / "vand.safetensors").provenance
    assert "threshold" not in stored and list(stored["thresholds"]) == ["axial/smooth2"]
    volume, ways = next((place / "data").rglob("*-t2w.nii.gz")), {"usual": [], "plain": ["--smooth-mm", "0"]}
    for name, more in ways.items():
        found = [
            "detect",
            str(volume),
            "-o",
            str(out / name),
            "--checkpoint",
            str(out / "vand.safetensors"),
            *tiny,
            *more,
        ]
        assert main([*found, "--image-size", "64"]) == 0
        case = json.loads(next((out / name).glob("*t2w*.json")).read_text("utf-8"))
        assert case["provenance"]["smooth_mm"] == (2.0 if name == "usual" else 0.0)
        assert (case["threshold"] == stored["thresholds"]["axial/smooth2"]) == (name == "usual")
        assert [note["code"] for note in case["notes"]].count("threshold") == (name == "plain")
    assert "no threshold for axial" in capsys.readouterr().out


def write_healthy(folder, count=3):
    rng = np.random.default_rng(7)
    for n in range(count):
        image = np.zeros((40, 44, 12), np.float32)
        image[4:-4, 4:-4, 1:-1] = rng.uniform(100, 200, (32, 36, 10))
        write_volume(folder / f"normal{n}.nii.gz", Volume(image, np.diag([-1.0, -1, 1, 1])))


def test_healthy_scans_train_any_method_and_come_out_the_same_again(place, tmp_path, capsys):
    write_healthy(tmp_path / "normal")
    for method in ("mediclip", "vand"):
        files = []
        for name in ("first", "second"):
            out = tmp_path / method / name
            assert train(place, out, "--healthy", tmp_path / "normal", "--method", method) == 0
            files.append((out / f"{method}.safetensors").read_bytes())
        assert files[0] == files[1]
    assert "segmentations" not in capsys.readouterr().err
    info = read_info(out / "vand.safetensors")
    assert info.threshold is not None and info.provenance["training"]["domain"] == "healthy"
    assert info.provenance["training"]["subjects"] == 1
    assert info.provenance["threshold_rule"].startswith("fpr:0.001 on 2 held-out healthy scans")
    assert info.provenance["world"]["pictures"].startswith("healthy scans with synthetic anomalies: 3 ")
    assert str(tmp_path).encode() not in files[0]


def test_a_segmentation_beside_healthy_scans_is_warned_of(place, tmp_path, capsys):
    write_healthy(tmp_path / "normal", 2)
    mask = read_volume(tmp_path / "normal" / "normal0.nii.gz")
    write_volume(tmp_path / "normal" / "normal0-seg.nii.gz", replace(mask, array=(mask.array > 150).astype(np.uint8)))
    assert train(place, tmp_path / "out", "--healthy", tmp_path / "normal") == 0
    assert "segmentations lie beside the scans (normal0-seg.nii.gz)" in capsys.readouterr().err


def test_healthy_scans_that_cannot_train_are_named(place, tmp_path, capsys):
    folder, out = tmp_path / "normal", tmp_path / "out"
    write_healthy(folder, 1)
    assert train(place, out, "--healthy", folder) == 1
    assert "holds 1 scan and at least 2 are needed" in capsys.readouterr().err
    write_healthy(folder, 2)
    (folder / "broken.nii.gz").write_bytes(b"no volume")
    assert train(place, out, "--healthy", folder) == 1
    assert "healthy scan broken:" in capsys.readouterr().err
    image = read_volume(folder / "normal0.nii.gz")
    air = np.where(image.array > 0, np.where(image.array > 190, 800, 40), -1000).astype(np.int16)
    write_volume(folder / "broken.nii.gz", replace(image, array=air))
    assert train(place, out, "--healthy", folder) == 1
    assert "some scans are CT (broken)" in capsys.readouterr().err
    for more, why in ((("--data", folder), "and not both"), (("--slices", "all"), "healthy.slices says")):
        assert train(place, out, "--healthy", folder, *more) == 2
        assert why in capsys.readouterr().err
