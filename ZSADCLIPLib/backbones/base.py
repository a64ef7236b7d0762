"""The one interface adapters see: a frozen image and text tower with what its numbers depend on."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from .blocks import Edit, Mix
from .focus import Box
from .text import Prompts, TextTower
from .textcache import key_of, recall, remember
from .windows import equal_cells, nearest_windows, window_cells, windows_of

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


def fingerprint(model: nn.Module) -> str:
    """Sixteen hex digits that tell weights apart: names, shapes and a strided sample of every tensor (as float32)."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        flat = value.detach().reshape(-1)
        sample = flat[:: max(1, flat.numel() // 64)].float().cpu().contiguous()
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(sample.numpy().tobytes())
    return digest.hexdigest()[:16]


def whole_float32(device: torch.device, dtype: torch.dtype) -> AbstractContextManager:
    """Inside it convolutions in float32 keep all their bits: on a GPU they would round their inputs to 10 (TF32) by default."""
    if device.type != "cuda" or dtype != torch.float32:
        return nullcontext()
    now = torch.backends.cudnn
    flags = {"enabled": now.enabled, "benchmark": now.benchmark, "deterministic": now.deterministic}
    return now.flags(**flags, benchmark_limit=now.benchmark_limit, allow_tf32=False)


@dataclass
class ImageFeatures:
    """What an image tower gives for a batch of B images.

    embedding      (B, C) the ordinary image embedding, not normalised.
    raw_embedding  (B, C) the class token projected without the final layer norm (AnomalyCLIP); equals `embedding` on
                   towers that have no such norm.
    taps           {layer: tokens (B, prefix + L, W)} after that block, before the final norm.
    joint          {layer: tokens (B, prefix + L, C)} in the space of the texts, from the V-V stream where it runs.
    """

    embedding: Tensor
    raw_embedding: Tensor
    taps: dict[int, Tensor] = field(default_factory=dict)
    joint: dict[int, Tensor] = field(default_factory=dict)


class VisionTower(Protocol):
    """What an image tower gives and can do; layers are counted from 1.

    kind           name of its family, recorded with results; nothing depends on it.
    prefix         tokens before those of the patches in `ImageFeatures.taps` and `joint`.
    depth, width   number of layers, and channels of a token that prompts can join.
    embed_dim      dimension of the space shared with the texts.
    patch          side of a patch in pixels, None where the image is not cut into patches; with it `encode` also takes `box`.
    takes_prompts  whether there is a sequence of tokens, which `edit` may lengthen.
    """

    kind: str
    prefix: int
    depth: int
    width: int
    embed_dim: int
    patch: int | None
    takes_prompts: bool

    def tap_width(self, layer: int) -> int:
        """Channels of the tokens tapped after `layer`."""

    def grid(self, size: int, layer: int | None = None) -> int:
        """Tokens along one side of a `size` x `size` image after `layer` (default: of the joint tokens)."""

    def cell(self, size: int, cells: int) -> float:
        """Pixels along one side that one of `cells` x `cells` tokens of a `size` x `size` image stands for."""

    def encode(
        self,
        images: Tensor,
        taps: Sequence[int] = (),
        joint: Sequence[int] = (),
        vv_from: int | None = None,
        edit: Edit | None = None,
        pos_embed: str = "bicubic-antialias",
    ) -> ImageFeatures:
        """Images (B, 3, S, S) -> `ImageFeatures`; raises UsageError for layers and edits that it does not have."""

    def begin(self, images: Tensor, layer: int, pos_embed: str = "bicubic-antialias") -> Tensor:
        """Images (B, 3, S, S) -> tokens (B, prefix + L, W) after `layer`; what comes later is not computed."""

    def resume(self, tokens: Tensor, layers: Sequence[int], mix: Mix) -> dict[int, Tensor]:
        """Go on from what `begin` gave for the first of `layers` (ascending) to the last: {layer: what `mix` keeps there}."""

    def encode_windows(self, images: Tensor, scale: int, wanted: Tensor, pos_embed: str) -> Tensor:
        """Images (B, 3, S, S) -> embeddings (m, C) of the m `wanted` (B, n) of all windows of scale x scale joint tokens.

        They come image by image, windows in the order of `windows.window_cells`. Where `patch` is there, a window sees
        nothing but its own patches.
        """


class Towers(NamedTuple):
    """What a builder makes of a config: the model, its towers, and the activation that it really has."""

    model: nn.Module
    vision: VisionTower
    text: TextTower
    activation: str


@dataclass
class Backbone:
    """A frozen CLIP-like model; nothing ever modifies it.

    `activation` ("gelu", "quick_gelu" or "relu"), `weights` (where they came from) and `fingerprint` are stored with every
    adapter trained on it. `encode_image` and `encode_text` return float32 whatever the working `dtype`.
    """

    name: str
    model: nn.Module
    vision: VisionTower
    text: TextTower
    activation: str
    native_size: int
    weights: str
    mean: tuple[float, ...] = OPENAI_MEAN
    std: tuple[float, ...] = OPENAI_STD
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    fingerprint: str = ""
    cache: dict = field(default_factory=dict, repr=False)
    box: Box | None = None

    def __post_init__(self):
        self.model.eval().requires_grad_(False)
        self.fingerprint = self.fingerprint or fingerprint(self.model)
        self.model.to(device=self.device, dtype=self.dtype)

    def focused(self, box: Box | None) -> Backbone:
        """The same model looking only at a box of patches (fast mode, towers with patches), or at everything again with None."""
        other = copy.copy(self)
        other.box = box
        return other

    @property
    def kind(self) -> str:
        return self.vision.kind

    @property
    def embed_dim(self) -> int:
        return self.vision.embed_dim

    def preprocess(self, slices: Tensor, normalise: bool = True) -> Tensor:
        """Grey slices (B, S, S) uint8 -> (B, 3, S, S) float32, scaled to 0..1 and normalised with CLIP's mean and std.

        Without `normalise` they stay in 0..1.
        """
        grey = slices.to(self.device, non_blocking=True).float().div(255)[:, None]
        if not normalise:
            return grey.repeat(1, 3, 1, 1)
        if "normalise" not in self.cache:
            with torch.inference_mode(False):
                values = (torch.tensor(v, device=self.device).view(1, 3, 1, 1) for v in (self.mean, self.std))
                self.cache["normalise"] = tuple(values)
        mean, std = self.cache["normalise"]
        return (grey - mean) / std

    def encode_image(
        self,
        images: Tensor,
        taps: Sequence[int] = (),
        joint: Sequence[int] = (),
        vv_from: int | None = None,
        edit: Edit | None = None,
        pos_embed: str = "bicubic-antialias",
    ) -> ImageFeatures:
        """Normalised images (B, 3, S, S) -> `ImageFeatures` in float32; see the towers for taps, joint and vv_from."""
        images = images.to(self.device, self.dtype)
        focus = {} if self.box is None else {"box": self.box}
        with whole_float32(self.device, self.dtype):
            features = self.vision.encode(images, taps, joint, vv_from, self._cast(edit), pos_embed, **focus)
        return ImageFeatures(
            features.embedding.float(),
            features.raw_embedding.float(),
            {k: v.float() for k, v in features.taps.items()},
            {k: v.float() for k, v in features.joint.items()},
        )

    def begin(self, images: Tensor, layer: int, pos_embed: str = "bicubic-antialias") -> Tensor:
        """Tokens (B, prefix + L, W) after `layer` in float32; no later layer is computed."""
        focus = {} if self.box is None else {"box": self.box}
        with whole_float32(self.device, self.dtype):
            return self.vision.begin(images.to(self.device, self.dtype), layer, pos_embed, **focus).float()

    def resume(self, tokens: Tensor, layers: Sequence[int], mix: Mix) -> dict[int, Tensor]:
        """Go on from what `begin` gave for the first of `layers` to the last: {layer: what `mix` keeps there}, float32.

        `mix` computes in float32, and gradients flow through all of it.
        """
        focus = {} if self.box is None else {"box": self.box}

        def cast(layer: int, x: Tensor) -> tuple[Tensor, Tensor]:
            following, kept = mix(layer, x.float())
            return following.to(self.dtype), kept

        with whole_float32(self.device, self.dtype):
            kept = self.vision.resume(tokens.to(self.device, self.dtype), sorted(layers), cast, **focus)
        return {layer: values.float() for layer, values in kept.items()}

    def encode_windows(self, images: Tensor, scale: int, pos_embed: str = "bicubic-antialias") -> Tensor:
        """Embeddings (B, n, C) of all windows of scale x scale patches in float32, not normalised.

        Windows that are black all over depend on their place only, so they are computed once. In fast mode those outside
        the box are the nearest ones in it. Raises UsageError when no window fits.
        """
        images, size = images.to(self.device), images.shape[-1]
        grid, nearest = self.vision.grid(size), None
        count = len(window_cells(grid, scale, self.device))
        wanted = torch.ones(len(images), count, dtype=torch.bool, device=self.device)
        if self.vision.patch is None:
            return self._windows(images, scale, wanted, pos_embed).unflatten(0, wanted.shape)
        black = self.preprocess(torch.zeros(1, size, size, dtype=torch.uint8))
        key = ("black windows", size, scale, pos_embed)
        if key not in self.cache:
            with torch.inference_mode(False), torch.no_grad():
                self.cache[key] = self._windows(black, scale, wanted[:1], pos_embed)
        wanted = ~windows_of(equal_cells(images, black, self.vision.patch, grid), scale)
        if self.box is not None:
            nearest = nearest_windows(self.box, grid, scale, self.device)
            wanted &= torch.zeros(count, dtype=torch.bool, device=self.device).index_fill(0, nearest, True)
        found = self.cache[key].repeat(len(images), 1, 1)
        if wanted.any():
            found[wanted] = self._windows(images, scale, wanted, pos_embed)
        return found if nearest is None else found[:, nearest]

    def _windows(self, images: Tensor, scale: int, wanted: Tensor, pos_embed: str) -> Tensor:
        with whole_float32(self.device, self.dtype):
            return self.vision.encode_windows(images.to(self.dtype), scale, wanted, pos_embed).float()

    def encode_text(
        self, tokens: Tensor, edit: Edit | None = None, embeddings: Tensor | None = None, causal: bool = True
    ) -> Tensor:
        """Token ids (n, context) -> embeddings (n, C) in float32, not normalised; see the text towers for `causal`."""
        return self.text.encode(tokens.to(self.device), self._cast(edit), embeddings, causal).float()

    def encode_sentences(self, sentences: Sequence[str]) -> Tensor:
        """Embeddings (n, C) of sentences in float32, not normalised, through the cache on disk (`textcache`)."""
        text = self.text
        key = key_of(self.fingerprint, self.activation, str(self.dtype), text.signature(sentences))
        features = recall(key, (len(sentences), self.embed_dim))
        if features is None:
            features = self.encode_text(text.tokenize(sentences))
            remember(key, features)
        return features.to(self.device)

    def encode_prompted(self, tokens: Tensor, prompts: Prompts, depth: int) -> Tensor:
        """Sentences (n, context) with image-dependent prompt rows -> (B, n, C) in float32; see the text towers."""
        return self.text.encode_prompted(tokens.to(self.device), prompts, depth).float()

    def _cast(self, edit: Edit | None) -> Edit | None:
        """Prompts are learnt in float32; the towers may run in less."""
        if edit is None or self.dtype == torch.float32:
            return edit
        return lambda i, x: edit(i, x).to(self.dtype)

    def describe(self) -> dict:
        """What results and checkpoints record about the backbone (JSON-able)."""
        return {
            "name": self.name,
            "kind": self.kind,
            "activation": self.activation,
            "weights": self.weights,
            "fingerprint": self.fingerprint,
            "dtype": str(self.dtype).removeprefix("torch."),
            "mean": list(self.mean),
            "std": list(self.std),
        }
