"""AnoVL's test-time adaptation: a linear text adapter fitted to one image in a few steps.

Step by step in docs/methods/anovl.md, "Test-time adaptation".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

NOISE = 0.05 * 1.1


@dataclass
class Draws:
    """The random numbers of one image: start `weight` (n, C) and `bias` (n,), `noise` (steps, L, C), already scaled."""

    weight: Tensor
    bias: Tensor
    noise: Tensor


@lru_cache(maxsize=4)
def seeded_draws(seed: int, steps: int, shape, sentences: int, device) -> Callable[[int], Draws]:
    """Draws that are the same for every image: U(-1/sqrt C, 1/sqrt C) for the layer, N(0, 0.055^2) for the noise.

    One start for all slices keeps them comparable: another one can move a map as much as the adaptation does.
    """
    generator = torch.Generator().manual_seed(seed)
    tokens, dim = shape
    bound = dim**-0.5
    with torch.inference_mode(False):
        weight = (torch.rand(sentences, dim, generator=generator) * 2 - 1) * bound
        bias = (torch.rand(sentences, generator=generator) * 2 - 1) * bound
        noise = torch.randn(steps, tokens, dim, generator=generator) * NOISE
        draws = Draws(weight.to(device), bias.to(device), noise.to(device))
    return lambda index: draws


def _mix(tokens: Tensor, weight: Tensor, bias: Tensor, anchors: Tensor) -> Tensor:
    hidden = torch.tanh(F.normalize(tokens, dim=-1) @ weight.transpose(1, 2) + bias[:, None])
    return 0.5 * tokens + 0.5 * hidden @ anchors


def adapt(
    tokens: Tensor, anchors: Tensor, text: Tensor, draws: list[Draws], state: dict | None = None
) -> tuple[Tensor, list[Tensor], dict]:
    """Fit one adapter per image and apply it.

    `tokens` (B, L, C) raw joint tokens; `anchors` (n, C) unit sentence embeddings, normal ones first; `text` (C, 2);
    `draws` one per image; `state` the optimiser's state to go on from. Loss of an image: mean over patches of
    -p0 ln p0 (both classes) + 0.5 * mean of (-ln p1[abnormal] - ln p0[normal]), p0 of the clean and p1 of the noisy tokens.
    AdamW works element by element, so the stacked adapters of a batch are independent. Returns the adapted tokens, the
    losses (steps,) before each update of every image, and the optimiser's state.
    """
    tokens = tokens.detach().float()
    with torch.inference_mode(False), torch.enable_grad():
        tokens, anchors, direction = tokens.clone(), anchors.clone(), (text[:, 1] - text[:, 0]).clone()
        weight = torch.stack([d.weight for d in draws]).requires_grad_()
        bias = torch.stack([d.bias for d in draws]).requires_grad_()
        optimizer = torch.optim.AdamW([weight, bias], lr=1e-3, weight_decay=0.01)
        if state is not None:
            optimizer.load_state_dict(state)
        losses = []
        for step in range(draws[0].noise.shape[0]):
            noisy = tokens + torch.stack([d.noise[step] for d in draws])
            clean_logit = F.normalize(_mix(tokens, weight, bias, anchors), dim=-1) @ direction
            noisy_logit = F.normalize(_mix(noisy, weight, bias, anchors), dim=-1) @ direction
            p, q = clean_logit.sigmoid(), (-clean_logit).sigmoid()
            entropy = -(p * F.logsigmoid(clean_logit) + q * F.logsigmoid(-clean_logit))
            contrast = -F.logsigmoid(noisy_logit) - F.logsigmoid(-clean_logit)
            each = (entropy + 0.5 * contrast).mean(dim=1)
            losses.append(each.detach())
            optimizer.zero_grad()
            each.sum().backward()
            optimizer.step()
        adapted = _mix(tokens, weight, bias, anchors).detach()
    return adapted, list(torch.stack(losses, dim=1)) if losses else [], optimizer.state_dict()
