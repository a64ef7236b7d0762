"""What every method shares: an adapter owns only what it learns, the backbone is an argument."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from ..backbones.base import Backbone
from ..backbones.posembed import MODES
from ..errors import UsageError
from ..fields import AtLeast, Between, OneOf
from .losses import DICE_OVER
from .maps import UPSAMPLE
from .prompts import PromptSet, load_prompts
from .registry import trainable_methods

Features = dict[str, Tensor]
"""What a frozen backbone says about a batch of images; depends on no learned number, so it can be cached.

For an adapter with a `context` the images may be more than those that are asked for: NEIGHBOURS (B, K) then holds the rows of the
neighbours of each that is, one for each offset.
"""

NEIGHBOURS = "neighbours"

Dice = Annotated[str, OneOf(DICE_OVER)]
PosEmbed = Annotated[str, OneOf(tuple(MODES))]
Sigma = Annotated[float, AtLeast(0)]
AboveZero = Annotated[float, Between(0)]
Upsample = Annotated[str, OneOf((*UPSAMPLE, "faithful"))]
Offset = Annotated[float, Between(-100, 100)]
"""Types of fields that the methods' configs share."""


@dataclass
class Scores:
    """Raw anomaly scores of a batch: `maps` (B, S, S) and `images` (B,), float32, higher is more abnormal."""

    maps: Tensor
    images: Tensor


class Adapter(nn.Module, ABC):
    """Base of all methods: what only a method knows about its computing stands in its class.

    `config` is the method's frozen dataclass, completed for the backbone (layers, widths). `state_dict()` is the
    checkpoint, `provenance` what is known about its making. Subclasses give `features`, `predict` and, when they train,
    `objective`.

    not_in_features  config fields that `features` does not depend on; one that is not named gives caches of its own.
    training_only    config fields that only training reads.
    map_only         config values that leave out what only the image score needs; the map does not depend on them.
    unblurred        config values that switch the method's own blur off.
    seed_field       the config field with the seed of scoring, None where scoring draws nothing.
    resample         how slices are brought to the model's size, as in the authors' code.
    without_tokens   what differs from the published method on an image tower without a sequence of tokens, in words.
    published_key    the entry by which an error names the authors' files, empty where there are none.
    """

    method = ""
    trainable = True
    Config: ClassVar[type]
    not_in_features: ClassVar[frozenset[str]] = frozenset()
    training_only: ClassVar[frozenset[str]] = frozenset(("dice", "learning_rate", "epochs", "batch_size"))
    map_only: ClassVar[Mapping] = {}
    unblurred: ClassVar[Mapping] = {}
    seed_field: ClassVar[str | None] = None
    resample: ClassVar[str] = "bicubic"
    without_tokens: ClassVar[tuple[str, ...]] = ()
    published_key: ClassVar[str] = ""

    def __init__(self, config, backbone: Backbone):
        super().__init__()
        self.config = config
        self.provenance: dict = {}
        self.prompts: PromptSet = load_prompts(config.prompts)
        self._text_cache: tuple = (None, None)

    @abstractmethod
    def features(self, backbone: Backbone, images: Tensor) -> Features:
        """Frozen features of images (B, 3, S, S)."""

    @abstractmethod
    def predict(self, backbone: Backbone, features: Features, size: int) -> Scores:
        """Scores of images of `size` pixels from their features."""

    def objective(self, backbone: Backbone, features: Features, masks: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Training loss {"total": ..., parts} for masks (B, S, S) in {0, 1} and labels (B,); raises UsageError if none."""
        raise UsageError(f"{self.method} is training-free; choose {', '.join(trainable_methods())}")

    def learned_text(self, backbone: Backbone) -> Tensor:
        """`text` of a method that learns words: without gradients only after they changed (a parameter's version counts that)."""
        if torch.is_grad_enabled():
            return self.text(backbone)
        stamp = (backbone.fingerprint, backbone.dtype, *((p.data_ptr(), p._version) for p in self.parameters()))
        if self._text_cache[0] != stamp:
            self._text_cache = (stamp, self.text(backbone))
        return self._text_cache[1]

    @torch.no_grad()
    def score(self, backbone: Backbone, images: Tensor) -> Scores:
        """Score preprocessed images (B, 3, S, S); the result of an image does not depend on its batch."""
        return self.predict(backbone, self.features(backbone, images), images.shape[-1])

    def loss(self, backbone: Backbone, images: Tensor, masks: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Training loss of a batch; see `objective`."""
        return self.objective(backbone, self.features(backbone, images), masks, labels)

    def volume_scores(self, scores: Tensor, map_maxima: Tensor) -> Tensor:
        """Slice scores of one volume from its image scores (N,) and map maxima (N,); most methods keep the former."""
        return scores

    def display_range(self, backbone: Backbone) -> tuple[float, float]:
        """The raw values drawn as the ends of the colour scale, the same for every image so that cases compare."""
        return 0.0, 1.0

    def score_range(self, backbone: Backbone) -> tuple[float, float]:
        """Bounds of the raw values, which the sketches of a benchmark span."""
        return self.display_range(backbone)

    @classmethod
    def offsets(cls, config) -> tuple[float, ...]:
        """Offsets in mm, ascending, of the slices along the stack that a slice's map depends on; empty: on itself alone."""
        return ()

    @property
    def context(self) -> tuple[float, ...]:
        """The `offsets` of this adapter."""
        return self.offsets(self.config)

    @property
    def normalised(self) -> bool:
        """Whether images are normalised with CLIP's mean and std (`Backbone.preprocess`), else they come in 0..1."""
        return True

    @property
    def summed_layers(self) -> int:
        """How many layers a raw map sums over."""
        return 1

    def remember(self, backbone: Backbone, images: Tensor) -> None:
        """Add normal images (k, 3, S, S) to the memory bank; raises UsageError for methods without one."""
        raise UsageError(f"{self.method} has no memory bank for reference images")

    def adaptations(self, backbone: Backbone) -> list[str]:
        """What differs from the published method on this backbone, in words."""
        offsets = ", ".join(f"{mm:g}" for mm in self.context)
        mixed = [f"tokens are mixed with those of the slices at {offsets} mm"] if self.context else []
        return mixed if backbone.vision.takes_prompts else [*self.without_tokens, *mixed]

    @classmethod
    def from_published(cls, state: Mapping, file: str) -> tuple[dict, Mapping] | None:
        """(config fields, own tensors) of a file that the authors published, None for any other file.

        Raises WeightsError for a file of theirs that is incomplete.
        """
        return None

    def check_published(self, backbone: Backbone, state: Mapping, file: str) -> None:
        """Raise WeightsError when the authors' file this adapter was made from shows that it belongs to another backbone."""

    def feature_settings(self) -> dict:
        """What `features` depends on beside backbone and images: all config fields but those in `not_in_features`.

        Adapters of one method that agree in them may share features.
        """
        names = [field.name for field in fields(self.config) if field.name not in self.not_in_features]
        return {name: getattr(self.config, name) for name in names}

    def describe(self) -> dict:
        """Config and prompts, JSON-able, stored with every result and checkpoint."""
        return {"method": self.method, "config": asdict(self.config), "prompts": self.prompts.to_dict()}


def with_own(context: tuple[float, ...]) -> tuple[float, ...]:
    """Offsets in ascending order, that of the slice itself among them; empty stays empty."""
    return tuple(sorted({0.0, *context})) if context else ()


def quarters(backbone: Backbone) -> tuple[int, ...]:
    """The four layers at the quarters of an image tower's depth (6, 12, 18, 24 for ViT-L; stages 1 to 4 for a ResNet)."""
    depth = backbone.vision.depth
    return tuple(sorted({max(1, round(depth * q / 4)) for q in (1, 2, 3, 4)}))


def sentence_embeddings(backbone: Backbone, prompts: PromptSet, name: str) -> tuple[Tensor, Tensor]:
    """Embeddings of the normal (n, C) and abnormal (m, C) sentences, not normalised, cached in memory and on disk."""
    key = ("sentences", prompts, name)
    if key not in backbone.cache:
        # Kept under the backbone's own precision, for others too: a training in autocast must not put less in here.
        plain = torch.autocast(backbone.device.type, enabled=False)
        with torch.inference_mode(False), torch.no_grad(), plain:
            groups = prompts.sentences(name)
            every = backbone.encode_sentences([sentence for group in groups for sentence in group])
            backbone.cache[key] = every[: len(groups[0])], every[len(groups[0]) :]
    return backbone.cache[key]


def group_direction(embeddings: Tensor, unit_first: bool = True) -> Tensor:
    """One unit vector (..., C) for a group of sentences (..., n, C): mean of unit vectors (VAND, AdaCLIP) or of raw ones."""
    if unit_first:
        embeddings = nn.functional.normalize(embeddings, dim=-1)
    return nn.functional.normalize(embeddings.mean(dim=-2), dim=-1)
