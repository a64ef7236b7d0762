"""`zsadclip train` and `zsadclip data audit` as their users meet them."""

import json

import numpy as np
import pytest
from benchmark_cases import write_brains
from small_models import VIT

from ZSADCLIPLib.__main__ import main
from ZSADCLIPLib.checkpoint import read_info


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
    assert json.loads(case.read_text())["threshold"] == pytest.approx(info.threshold)


def test_a_finetune_goes_on_from_a_file_and_a_second_run_keeps_it(place, capsys):
    start, out = place / "industrial", place / "finetune"
    assert train(place, start, "--domain", "industrial") == 0
    assert read_info(start / "vand.safetensors").provenance["training"]["domain"] == "industrial"
    assert train(place, out, "--data", place / "data", "--start", start / "vand.safetensors") == 0
    before = (out / "vand.safetensors").read_bytes()
    assert read_info(out / "vand.safetensors").provenance["training"]["start"] == "vand.safetensors"
    assert train(place, out, "--data", place / "data", "--start", start / "vand.safetensors") == 0
    assert "vand: kept" in capsys.readouterr().out and (out / "vand.safetensors").read_bytes() == before


def test_what_cannot_be_trained_is_said(place, tmp_path, capsys):
    assert train(place, tmp_path) == 2
    assert "the domain brain needs data" in capsys.readouterr().err
    assert train(place, tmp_path, "--data", place / "data", "--start", "nowhere.pth") == 1
    assert "there is no adapter file nowhere.pth" in capsys.readouterr().err


def test_the_audit_is_printed_and_saved(place, tmp_path, capsys):
    assert main(["data", "audit", str(place / "data"), "--out", str(tmp_path / "audit")]) == 0
    printed = capsys.readouterr().out
    assert "| cases | 6 |" in printed and "40x44x12" in printed and "saved: " in printed
    found = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert found["summary"]["lesions"] == 6 and len((tmp_path / "audit" / "audit.csv").read_text().splitlines()) == 7
    assert np.isclose(found["cases"][0]["lesion_mm3"][0], 324)
    assert main(["data", "audit", str(tmp_path / "nowhere")]) == 1
    assert "there is no folder or manifest" in capsys.readouterr().err
