"""WinCLIP (Jeong et al., arXiv 2303.14814): training-free windows of patches against many prompts, few-shot with normal images.

Step by step in docs/methods/winclip.md. The authors published no code; numbers are those of anomalib's implementation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones.base import Backbone
from ..errors import UsageError
from ..fields import Positive
from .base import AboveZero, Adapter, Features, PosEmbed, Scores, Upsample, group_direction, sentence_embeddings
from .maps import to_grid, upsample


@dataclass(frozen=True)
class WinCLIPConfig:
    """Settings of WinCLIP; the defaults are the reference's.

    scales          sides of the windows in patches; the whole image is one scale more.
    temperature     divisor of the cosine.
    reference_norm  compare patches with the memory bank of normal images after the final layer norm.
    """

    scales: tuple[Positive, ...] = (2, 3)
    object_name: str = "brain"
    prompts: str | dict = "winclip"
    temperature: AboveZero = 0.07
    reference_norm: bool = True
    upsample: Upsample = "faithful"
    pos_embed: PosEmbed = "bicubic-antialias"


class WinCLIP(Adapter):
    """Needs no training and owns no parameters; with `remember` few-shot (WinCLIP+)."""

    method = "winclip"
    trainable = False
    Config = WinCLIPConfig
    not_in_features = frozenset(("object_name", "prompts", "temperature", "upsample"))
    without_tokens = (
        "a window is pooled from its cells alone, which the convolutions have mixed with the whole image",
    )

    def __init__(self, config: WinCLIPConfig, backbone: Backbone):
        if not config.scales or len(set(config.scales)) < len(config.scales):
            raise UsageError(
                f"scales {list(config.scales)}: expected sides of windows in patches, each once, such as 2,3"
            )
        super().__init__(config, backbone)
        self.memory: dict[str, Tensor] = {}

    def feature_settings(self) -> dict:
        """Also whether patch tokens are there, which only a memory bank needs."""
        return super().feature_settings() | ({"memory": True} if self.memory else {})

    def display_range(self, backbone: Backbone) -> tuple[float, float]:
        """A quarter of what a cosine difference can reach at most, on both sides of 0.5: the scales outvote one another."""
        return self._reach(backbone, 0.25)

    def score_range(self, backbone: Backbone) -> tuple[float, float]:
        """All that a cosine difference can reach; the colour scale shows a quarter of it."""
        return self._reach(backbone, 1.0)

    def _reach(self, backbone: Backbone, share: float) -> tuple[float, float]:
        """Bounds of a map for a share of all differences; with a memory bank of the mean of two maps."""
        text = self.text(backbone)
        high = float((share * (text[:, 1] - text[:, 0]).norm() / self.config.temperature).sigmoid())
        return ((1 - high) / 2, (high + share) / 2) if self.memory else (1 - high, high)

    def text(self, backbone: Backbone) -> Tensor:
        """Unit text directions (C, 2), columns normal and abnormal: means of the raw sentence embeddings."""
        groups = sentence_embeddings(backbone, self.prompts, self.config.object_name)
        return torch.stack([group_direction(group, unit_first=False) for group in groups], dim=1)

    @torch.no_grad()
    def features(self, backbone: Backbone, images: Tensor) -> Features:
        """Embeddings of the images (B, C) and of their windows (B, n, C); patch tokens where there is a memory bank."""
        return self._features(backbone, images, bool(self.memory))

    def _features(self, backbone: Backbone, images: Tensor, patches: bool) -> Features:
        vision, pos_embed = backbone.vision, self.config.pos_embed
        depth = vision.depth if patches else None
        # Without a sequence of tokens the last layer is coarser than the windows; its joint tokens are not.
        taps, joint = ((depth,), ()) if vision.takes_prompts else ((), (depth,))
        image = backbone.encode_image(images, *((taps, joint) if patches else ((), ())), pos_embed=pos_embed)
        found = {"embedding": image.embedding}
        if patches:
            tokens = (image.taps or image.joint)[depth][:, vision.prefix :]
            if self.config.reference_norm and vision.takes_prompts:
                tokens = vision.norm_post(tokens.to(backbone.dtype)).float()
            found["patches"] = tokens
        return found | {f"windows{s}": backbone.encode_windows(images, s, pos_embed) for s in self.config.scales}

    @torch.no_grad()
    def remember(self, backbone: Backbone, images: Tensor) -> None:
        """Add the patches and windows of normal images (k, 3, S, S) to the memory bank; places are not kept."""
        for name, vectors in self._features(backbone, images, patches=True).items():
            if name != "embedding":
                # Black windows of a place are equal to the bit: of a batch one is enough.
                bank = F.normalize(vectors.flatten(0, 1), dim=-1).unique(dim=0)
                self.memory[name] = torch.cat([self.memory[name], bank]) if name in self.memory else bank

    def probability(self, backbone: Backbone, embeddings: Tensor) -> Tensor:
        """Abnormal probability (...) of embeddings (..., C)."""
        text = self.text(backbone)
        cosine = F.normalize(embeddings, dim=-1) @ (text[:, 1] - text[:, 0])
        return (cosine / self.config.temperature).sigmoid()

    def zero_shot_grid(self, backbone: Backbone, features: Features) -> Tensor:
        """Harmonic mean (B, g, g) over the scales of what windows are called, the whole image among them."""
        inverse = 1 / self.probability(backbone, features["embedding"])[:, None, None]
        for scale in self.config.scales:
            inverse = inverse + 1 / over_windows(self.probability(backbone, features[f"windows{scale}"]), scale)
        return (1 + len(self.config.scales)) / inverse

    def few_shot_grid(self, features: Features) -> Tensor:
        """Mean (B, g, g) over patches and scales of the distance to the memory bank, range 0..1."""
        grids = [to_grid(distances(features["patches"], self.memory["patches"]))]
        for scale in self.config.scales:
            name = f"windows{scale}"
            grids.append(over_windows(distances(features[name], self.memory[name]), scale))
        return torch.stack(grids).mean(dim=0)

    def predict(self, backbone: Backbone, features: Features, size: int) -> Scores:
        grid, score = self.zero_shot_grid(backbone, features), self.probability(backbone, features["embedding"])
        if self.memory:
            few = self.few_shot_grid(features)
            grid, score = (grid + few) / 2, (score + few.flatten(1).amax(dim=1)) / 2
        mode = "half-pixel" if self.config.upsample == "faithful" else self.config.upsample
        return Scores(upsample(grid, size, mode, backbone.vision.cell(size, grid.shape[-1])), score)


def over_windows(values: Tensor, scale: int) -> Tensor:
    """Values (B, n) of all windows of scale x scale patches -> patches (B, g, g): harmonic mean of the windows of each.

    Written as sums over windows, which spread their reciprocals over their patches. A value of 0 makes its patches 0.
    """
    grid = round(values.shape[1] ** 0.5) + scale - 1
    both = torch.stack([torch.ones_like(values), 1 / values])[:, :, None].expand(-1, -1, scale * scale, -1)
    counts, inverse = F.fold(both.flatten(0, 1), grid, scale).unflatten(0, both.shape[:2])[:, :, 0]
    return counts / inverse


def distances(vectors: Tensor, bank: Tensor) -> Tensor:
    """(1 - the best cosine) / 2 of vectors (B, n, C) with a bank (m, C) of unit vectors: (B, n), range 0..1.

    Rounding takes the cosine of equal vectors past 1, and reciprocals of both signs would cancel, so none is below 0.
    """
    nearest = torch.stack([(one @ bank.T).amax(dim=-1) for one in F.normalize(vectors, dim=-1)])
    return ((1 - nearest) / 2).clamp(min=0)
