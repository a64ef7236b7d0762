"""What steps cost: summed over sessions, with the device and its highest memory."""

import json

import pytest
import torch

from ZSADCLIPLib.benchmark.clocks import Clock, logged_seconds, runtime_of
from ZSADCLIPLib.benchmark.models import device_of
from ZSADCLIPLib.benchmark.specs import BackboneSpec
from ZSADCLIPLib.files.text import write_json


def test_notes_are_summed_by_stage_and_peaks_kept(tmp_path):
    Clock(BackboneSpec("mini", device="cpu")).note(tmp_path, "train", 12.5, epoch_seconds=[6.0, 6.5])
    Clock(None).note(tmp_path, "test-a", 1.25)
    gpu = {"seconds": 2.0, "peak_memory_mb": 1e6, "peak_gpu_mb": 700.5, "device": "NVIDIA H100"}
    write_json(tmp_path / "seconds" / "test-b.json", gpu)
    found = runtime_of(tmp_path)
    assert (found["train_seconds"], found["test_seconds"], found["threshold_seconds"]) == (12.5, 3.25, 0)
    assert (found["peak_memory_mb"], found["peak_gpu_mb"], found["device"]) == (1e6, 700.5, "CPU, NVIDIA H100")
    assert found["epoch_seconds"] == [6.0, 6.5]
    assert json.loads((tmp_path / "seconds" / "train.json").read_text("utf-8"))["peak_memory_mb"] > 10


def test_notes_of_earlier_runs_lack_a_device(tmp_path):
    write_json(tmp_path / "seconds" / "train.json", {"seconds": 3.0, "peak_memory_mb": None})
    found = runtime_of(tmp_path)
    assert found["train_seconds"] == 3 and found["device"] == "" and found["peak_gpu_mb"] is None


@pytest.mark.parametrize(
    "text, seconds", [("epoch,seconds\n1,2.5\n2,3.5\n", 6.0), ("epoch\n1\n", 0), ("", 0), (None, 0)]
)
def test_seconds_of_an_interrupted_training_are_read_from_its_log(tmp_path, text, seconds):
    if text is not None:
        (tmp_path / "training.csv").write_text(text)
    assert logged_seconds(tmp_path / "training.csv") == seconds


def test_a_process_works_on_the_gpu_it_was_given(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    assert [device_of(BackboneSpec("mini", device=name)) for name in ("auto", "cuda", "cuda:1", "cpu")] == [
        "cuda:2", "cuda:2", "cuda:1", "cpu"
    ]  # fmt: skip


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_step_on_a_gpu_notes_its_name_and_its_own_peak(tmp_path):
    torch.empty(50_000_000, device="cuda")
    clock = Clock(BackboneSpec("mini"))
    torch.empty(5_000_000, device="cuda")
    clock.note(tmp_path, "train", 1.0)
    found = runtime_of(tmp_path)
    assert found["device"] == torch.cuda.get_device_name() and 20 <= found["peak_gpu_mb"] < 100
