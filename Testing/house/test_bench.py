"""The benchmark's own pieces: the reference computes what the engine computes, and the FLOPs are counted right."""

import sys
from pathlib import Path

import pytest
import torch
from small_models import backbone
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ZSADCLIPLib.adapters import METHODS
from ZSADCLIPLib.adapters.checkpoint import load_adapter

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts" / "measure"))
from bench_parts import flops, machine, reference, sections  # noqa: E402

SIZE = 96
SETTINGS = {"adaclip": {"clusters": 4}, "anovl": {"steps": 2}}


def adapter_for(method):
    return load_adapter(f"{method}:random", backbone("vit"), SETTINGS.get(method, {}))


def images(count):
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("method", METHODS)
def test_reference_equals_the_engine(method):
    model, adapter, two = backbone("vit"), adapter_for(method), images(2)
    ours, text = adapter.score(model, two), reference.text_for(model, adapter)
    for i in range(2):
        found, score = reference.METHODS[method](model, adapter, two[i : i + 1], text)
        torch.testing.assert_close(found, ours.maps[i], atol=2e-5, rtol=0)
        torch.testing.assert_close(score, ours.images[i], atol=2e-5, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_flops_agree_with_torch_s_counter(method):
    model, adapter, two = backbone("vit"), adapter_for(method), images(2)
    adapter.score(model, two[:1])
    # Counted on two images: text blocks that a batch shares are left out of the count of one slice.
    counts = []
    for rows in (1, 2):
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            adapter.score(model, two[:rows])
        counts.append(counter.get_total_flops())
    expected = sum(flops.of_slice(model, adapter, SIZE).values())
    assert counts[1] - counts[0] == pytest.approx(expected, rel=0.02)


def test_text_flops_agree_with_torch_s_counter():
    model, adapter = backbone("vit"), adapter_for("vand")
    tokens = model.text.tokenize(adapter.prompts.sentences("brain")[0])
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model.encode_text(tokens)
    assert counter.get_total_flops() == pytest.approx(flops.sentences(model.text, tokens), rel=0.01)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        reference.text_pass(model.text, tokens[:5])
    assert counter.get_total_flops() == pytest.approx(flops.padded_sentences(model.text, 5), rel=0.01)
    assert flops.padded_sentences(model.text, len(tokens)) > 10 * flops.sentences(model.text, tokens)


def test_peak_is_a_plausible_rate():
    rates = machine.peak(torch.float32, seconds=0.1, largest=1024)
    assert 0.05 < rates["wall"] < 1e6 and 0.05 < rates["cpu"] < 1e6


def test_memory_peak_can_start_anew():
    block = torch.ones(30_000_000)
    del block
    machine.forget_peak()
    now, most = machine.memory_mb()
    assert 0 < now <= most


@pytest.mark.parametrize(
    "measure, told",
    [
        (lambda: sections.slices("vand", "mini", 1, repeats=1), ("slices_per_s", "gflop", "over_ideal")),
        (lambda: sections.against("anomalyclip", "mini", 1, rounds=1), ("engine_s", "reference_s", "ratio")),
        (lambda: sections.text("vand", "mini", sample=3), ("shared_s", "full_length_s", "gflop")),
        (lambda: sections.volume("vand", "mini", 2), ("seconds", "scored", "gflops")),
        (lambda: sections.training("vand", "mini", 2), ("uncached_s", "ratio")),
        (lambda: sections.growth(1, slices_each=2), ("seconds_each", "peak_mb")),
        (lambda: sections.sentences(3, "mini"), ("prompts", "seconds")),
    ],
)
def test_every_section_measures(measure, told):
    row = measure()
    assert all(row[key] > 0 for key in told), row


def test_rates_are_finite_and_memory_is_told():
    assert 0 < machine.peak(torch.float32, 0.02, largest=256)["wall"] < 1e7
    machine.forget_peak()
    resting, highest = machine.memory_mb()
    assert 0 < resting <= highest
