"""A block in bfloat16 on a CPU: one pass a layer, no less exact than layer, activation and sum one after the other."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ZSADCLIPLib.backbones import blocks
from ZSADCLIPLib.backbones.blocks import BlockParts, forward_block, linear

WIDTH, TOKENS = 64, 50


class QuickGELU(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.702 * x)


class Standin:
    """oneDNN's operator in float32, rounded once, for processors without bfloat16; `done` is what it was asked for."""

    def __init__(self):
        self.done = []

    def __call__(self, x, weight, bias, after, scalars, algorithm):
        assert (scalars, algorithm) == ([], "none" if after == "gelu" else "")
        self.done.append(after)
        y = F.linear(x.float(), weight.float(), None if bias is None else bias.float())
        return (F.gelu(y) if after == "gelu" else y).bfloat16()

    def binary(self, x, plus, weight, bias, after):
        self.done.append(after)
        return (plus.float() + F.linear(x.float(), weight.float(), None if bias is None else bias.float())).bfloat16()


@pytest.fixture(params=["oneDNN", "stand-in"])
def operator(request, monkeypatch):
    if request.param == "oneDNN":
        if blocks._onednn() is None:
            pytest.skip("this processor computes no bfloat16")
        return None
    standin = Standin()
    monkeypatch.setattr(blocks, "_onednn", lambda: standin)
    return standin


def block(activation=None, dtype=torch.bfloat16, bias=True):
    """A random block whose weights are numbers of bfloat16, in `dtype`."""
    torch.manual_seed(5)
    sizes = ((1, 3), (1, 1), (1, 4), (4, 1))
    norms = [nn.LayerNorm(WIDTH) for _ in range(2)]
    layers = [nn.Linear(i * WIDTH, o * WIDTH, bias=bias) for i, o in sizes]
    for module in (*norms, *layers):
        module.to(torch.bfloat16).to(dtype)
    qkv, out, up, down = layers
    return BlockParts(norms[0], qkv.weight, qkv.bias, out, norms[1], up, activation or nn.GELU(), down, heads=2)


def tokens(batch=3, dtype=torch.bfloat16):
    return torch.randn(batch, TOKENS, WIDTH, generator=torch.Generator().manual_seed(6)).to(dtype)


def error(found, exact):
    return float((found.double() - exact).norm() / exact.norm())


@torch.no_grad()
@pytest.mark.parametrize("rows", [None, 1, torch.tensor([0, 7, 49])], ids=["all", "class", "some"])
@pytest.mark.parametrize("activation", [nn.GELU, QuickGELU])
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_no_less_exact_than_step_by_step(operator, monkeypatch, rows, activation, bias):
    exact = forward_block(block(activation(), torch.float64, bias), tokens(dtype=torch.float64), rows, vv=True)
    fused = forward_block(block(activation(), bias=bias), tokens(), rows, vv=True)
    monkeypatch.setattr(blocks, "_onednn", lambda: None)
    steps = forward_block(block(activation(), bias=bias), tokens(), rows, vv=True)
    for one, many, right in zip(fused, steps, exact, strict=True):
        assert one.dtype == torch.bfloat16 and one.shape == right.shape
        assert error(one, right) <= 1.1 * error(many, right) < 0.01  # few rows differ by chance


@torch.no_grad()
@pytest.mark.parametrize(
    ("activation", "passes"),
    [(nn.GELU(), "none add gelu add"), (QuickGELU(), "none add none add"), (nn.GELU("tanh"), "none add none add")],
)
def test_each_layer_is_one_pass(monkeypatch, activation, passes):
    standin = Standin()
    monkeypatch.setattr(blocks, "_onednn", lambda: standin)
    forward_block(block(activation), tokens())
    assert " ".join(standin.done) == passes


class Unwanted:
    """An operator that nobody may ask."""

    def __call__(self, *_):
        raise AssertionError("oneDNN's operator was asked")

    binary = __call__


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@torch.no_grad()
def test_other_precisions_are_left_alone(monkeypatch, dtype):
    monkeypatch.setattr(blocks, "_onednn", Unwanted)
    parts, x = block(dtype=dtype), tokens(dtype=dtype)
    assert torch.equal(linear(x, parts.up.weight, parts.up.bias), parts.up(x))


def test_gradients_flow(monkeypatch):
    monkeypatch.setattr(blocks, "_onednn", Unwanted)
    parts, x = block(), tokens().requires_grad_()
    forward_block(parts, x)[0].float().sum().backward()
    assert x.grad.abs().sum() > 0 and parts.up.weight.grad.abs().sum() > 0


@torch.no_grad()
def test_nothing_gives_nothing(operator):
    assert forward_block(block(), tokens(batch=0))[0].shape == (0, TOKENS, WIDTH)


@torch.no_grad()
def test_weights_of_another_precision_are_left_to_autocast(monkeypatch):
    monkeypatch.setattr(blocks, "_onednn", Unwanted)
    parts = block(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(tokens(), parts.up.weight, parts.up.bias).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "operators",
    [
        SimpleNamespace(),
        SimpleNamespace(_is_mkldnn_bf16_supported=lambda: False, _linear_pointwise=Standin()),
        SimpleNamespace(_is_mkldnn_bf16_supported=lambda: True),
    ],
    ids=["no oneDNN", "no bfloat16", "another torch"],
)
@torch.no_grad()
def test_without_it_torch_does_the_same_step_by_step(monkeypatch, operators):
    monkeypatch.setattr(torch.ops, "mkldnn", operators)
    blocks._onednn.cache_clear()
    try:
        assert blocks._onednn() is None
        parts, x = block(), tokens()
        assert torch.equal(linear(x, parts.up.weight, parts.up.bias), parts.up(x))
    finally:
        blocks._onednn.cache_clear()
