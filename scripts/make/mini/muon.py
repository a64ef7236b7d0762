"""Muon in float32 (Jordan, https://kellerjordan.github.io/posts/muon/): PyTorch's own is in bfloat16, which many CPUs lack."""

from __future__ import annotations

import math

import torch
from torch import Tensor

QUINTIC, STEPS, TINY = (3.4445, -4.7750, 2.0315), 5, 1e-7
"""Coefficients and number of the Newton-Schulz steps, as in the reference."""


def orthogonalised(matrix: Tensor) -> Tensor:
    """A matrix (n, m) with its singular values brought near 1."""
    a, b, c = QUINTIC
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / wide.norm().clamp(min=TINY)
    for _ in range(STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if matrix.shape[0] <= matrix.shape[1] else x.T


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, for matrices; the update has the root mean square of AdamW's (arXiv 2502.16982)."""

    def __init__(self, params, lr: float, weight_decay: float, momentum: float = 0.95):
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        """One update of every matrix that has a gradient."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                buffer = state.setdefault("momentum", torch.zeros_like(matrix.grad))
                buffer.lerp_(matrix.grad, 1 - group["momentum"])
                update = orthogonalised(matrix.grad.lerp(buffer, group["momentum"]))
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-group["lr"] * 0.2 * math.sqrt(max(matrix.shape)))
