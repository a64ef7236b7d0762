"""Every choice of a benchmark run that the paper leaves open, as named keys: plain frozen data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Annotated, Literal

from ..adapters.registry import METHODS
from ..datasets.labels import LABEL_RULES, TARGETS
from ..datasets.records import CHANNELS
from ..datasets.splits import FRACTION, SEED
from ..errors import UsageError
from ..evaluation.metrics import MORE_REGIONS, POLICIES, REGIONS
from ..evaluation.scales import SCALES
from ..evaluation.thresholds import PAPER_RULES, PRIMARY, check_rules
from ..fields import AtLeast, Between, Count, OneOf, Positive, Share, check
from ..notes import DOUBTS
from ..synthetic.anomalies.draws import WITHIN
from ..training.schedule import AUGMENTATIONS, CACHES, PRECISIONS, SELECT
from ..volumes.fusion import FUSIONS
from ..volumes.intensity import MODES
from ..volumes.slicing import PLANES
from ..volumes.smoothing import SMOOTHING
from .rows import ALL_ROWS

MASKS = {"half": "bilinear", "nearest": "nearest"}
"""How training masks are resized: at least half of a pixel, or the nearest one; the interpolation behind it."""
METHOD_NAMES = tuple(sorted({row.method for row in ALL_ROWS if row.backbone}))
ROLES = (*dict.fromkeys(row.backbone for row in ALL_ROWS if row.backbone), *METHOD_NAMES)


@dataclass(frozen=True)
class BackboneChoice:
    """A backbone: its name, config file or config; its weights (None = its own); its activation (None = as trained)."""

    name: str | dict = "mini"
    weights: str | None = None
    activation: str | None = None


@dataclass(frozen=True)
class Data:
    """What is read: channel, target and label rule of `datasets`, further ignored labels, and which doubts let a case pass.

    `placement` and `allow` are those of `datasets.read_case`.

    `train_cases` and `test_cases` count the synthetic brains that are made when no data set is given, 0 = a data set is needed.
    """

    channel: Annotated[str, OneOf((*CHANNELS, "image"))] = "t2w"
    target: Annotated[str, OneOf(TARGETS)] = "wt"
    label_rule: Annotated[str, OneOf(("auto", *LABEL_RULES))] = "auto"
    ignore: tuple[int, ...] = ()
    placement: Literal["sform", "qform"] | None = None
    allow: tuple[Annotated[str, OneOf(DOUBTS)], ...] = ()
    train_cases: Count = 10
    test_cases: Count = 6


@dataclass(frozen=True)
class SplitSettings:
    """Seeded split by subject, or a `file` written by an earlier run.

    `stratify`: "none", or "volume" so that both sides hold small and large lesions alike. `seeds`: repeat the whole benchmark
    for each of these splits, and show how results vary; `seed` is then not used.
    """

    fraction: Share = FRACTION
    seed: Count = SEED
    file: str | None = None
    stratify: Literal["none", "volume"] = "none"
    seeds: tuple[Count, ...] = ()


@dataclass(frozen=True)
class Slices:
    """How volumes become what a model sees; `every` keeps each k-th axial slice of training and test volumes alike.

    `intensity` is a mode of `volumes.intensity.to_uint8`; "window" needs `window` = (low, high) in the image's units.
    `orientation` is nose-up, or array for rows and columns as the file stores them. `crop` is none, head or a side in mm
    (see `volumes.crop`).
    """

    image_size: Positive = 240
    intensity: Annotated[str, OneOf(MODES)] = "per-volume-percentile"
    window: tuple[float, float] | None = None
    orientation: Literal["nose-up", "array"] = "nose-up"
    every: Positive = 1
    crop: Literal["none", "head"] | Annotated[float, Between(0)] = "none"


@dataclass(frozen=True)
class TrainingSettings:
    """Training shared by the methods.

    slices     which slices of a training volume train: "all", "brain", or "lesion+K" (lesion slices and K others).
    augment    none, flips (flips, rotations, scale), mosaic (four images in one, probability 0.2) or versions (eleven fixed
               turns, shifts and flips of each) or versions-16 (these, four enlarged ones and one in other light).
    precision  float32, or bfloat16 / float16 by autocast on a GPU.
    cache      of frozen features: memory, disk (memory-mapped), disk-half (float16) or none.
    select     the epoch that is kept: last, best-train-loss, or best-val-f1, the best pooled F1 over the slices of the share
               `validation` of the training subjects (of industrial images), which then do not train. Never test data.
    subset     which subjects `max_subjects` leaves: random (seeded) or first, by name.
    masks      how lesion masks are resized to the model's square: half (bilinear, at least 0.5) or nearest.
    """

    slices: str = "brain"
    augment: Annotated[str, OneOf(AUGMENTATIONS)] = "none"
    precision: Annotated[str, OneOf(PRECISIONS)] = "float32"
    cache: Annotated[str, OneOf(CACHES)] = "disk"
    subset: Literal["random", "first"] = "random"
    masks: Annotated[str, OneOf(tuple(MASKS))] = "half"
    select: Annotated[str, OneOf(SELECT)] = "last"
    validation: Share = 0.2
    seed: Count = 111


@dataclass(frozen=True)
class MethodSettings:
    """Training of one method; None = the authors' default.

    `settings` are config fields of the method, such as {"dice": "batch"}. `max_subjects` and `max_slices` limit what it
    trains on (seeded subsets). `industrial` is a published or own adapter file for the industrial start; None trains one
    on the synthetic industrial images; several files make a run each for the rows that start from them (`variations`).
    `kshot` normal slices of training subjects fill the memory bank of a method that has one; then its rows are few-shot. The
    setup few-shot has SHOTS of them where this is 0, and as many with a lesion where the method trains on both.
    """

    epochs: Positive | None = None
    batch_size: Positive | None = None
    settings: dict = field(default_factory=dict)
    max_subjects: Positive | None = None
    max_slices: Positive | None = None
    industrial: str | tuple[str, ...] | None = None
    kshot: Count = 0


@dataclass(frozen=True)
class Industrial:
    """The industrial domain: `images` synthetic ones, three quarters with a defect; or published files only (0)."""

    images: Count = 160
    seed: Count = 200_000


@dataclass(frozen=True)
class Healthy:
    """The setup healthy: `slices` slices without lesion of each training case (0: all of them), each in `variants` versions with
    synthetic anomalies `within` the head, or anywhere in the image."""

    slices: Count = 8
    variants: Positive = 4
    within: Annotated[str, OneOf(WITHIN)] = "head"


@dataclass(frozen=True)
class Score:
    """From a raw map to the evaluated one: scale (see `evaluation.scales`), in-plane blur in pixels (None = the method's own),
    upsampling, and what lies outside the brain (keep or zero).

    `planes`, `fuse`, `smooth_mm` and `smooth` are those of `detection.scoring.Scoring`, and act on raw maps; the first of
    several planes is axial, empty is axial alone. Parts of a prediction that reach over less than `min_depth_mm` of the
    evaluated slices are dropped before anything of it is counted.
    """

    scale: Annotated[str, OneOf(SCALES)] = "layers"
    gaussian_sigma: Annotated[float, AtLeast(0)] | None = None
    upsample: Literal["faithful", "half-pixel", "corners", "centres"] = "faithful"
    background: Literal["keep", "zero"] = "keep"
    planes: tuple[Annotated[str, OneOf(tuple(PLANES))], ...] = ()
    fuse: Annotated[str, OneOf(FUSIONS)] = FUSIONS[0]
    smooth_mm: Annotated[float, AtLeast(0)] = 0.0
    smooth: Annotated[str, OneOf(tuple(SMOOTHING))] = "through"
    min_depth_mm: Annotated[float, AtLeast(0)] = 0.0


@dataclass(frozen=True)
class Thresholds:
    """The primary rule, all rules that become columns, and how many training subjects thresholds are taken from."""

    rule: str = PRIMARY
    rules: tuple[str, ...] = PAPER_RULES
    max_subjects: Positive | None = None


@dataclass(frozen=True)
class Metrics:
    """How cases are counted: region of the primary table (see `evaluation.metrics`), lesions, undefined values, slices, bins.

    `aggregate` says what AUROC, AP and F1-max of a volume are: of all its voxels, or the mean of its lesion slices' values.
    `axis` is the distance along the brain: its extent as -1..1, from the volume's centre as -1..1, or from the brain's in mm.
    """

    region: Annotated[str, OneOf((*REGIONS, *MORE_REGIONS))] = "all"
    undefined: Annotated[str, OneOf(POLICIES)] = "nan"
    slice_policy: Literal["lesion", "lesion-or-prediction", "all"] = "lesion"
    min_component_mm3: Annotated[float, AtLeast(0)] = 0.0
    froc_levels: Count = 24
    bins: Positive = 20
    aggregate: Literal["volume", "slices"] = "volume"
    axis: Literal["extent", "centre", "mm"] = "extent"


@dataclass(frozen=True)
class Keep:
    """What a row keeps beside its numbers: qualitative panels, sketches of all scores, whole maps."""

    panels: bool = True
    sketches: bool = True
    maps: bool = False


@dataclass(frozen=True)
class Profile:
    """All settings of a benchmark run.

    `backbones` maps default, pmc, biomedclip, or a method's name (its own default), to its choice. `rows` are those of a run
    that names none: the paper's 13 or, extended, every method in its setups.
    """

    name: str
    backbones: dict[Annotated[str, OneOf(ROLES)], BackboneChoice]
    methods: dict[Annotated[str, OneOf(METHOD_NAMES)], MethodSettings]
    rows: Literal["paper", "extended"] = "paper"
    data: Data = field(default_factory=Data)
    split: SplitSettings = field(default_factory=SplitSettings)
    slices: Slices = field(default_factory=Slices)
    train: TrainingSettings = field(default_factory=TrainingSettings)
    industrial: Industrial = field(default_factory=Industrial)
    healthy: Healthy = field(default_factory=Healthy)
    score: Score = field(default_factory=Score)
    threshold: Thresholds = field(default_factory=Thresholds)
    metrics: Metrics = field(default_factory=Metrics)
    keep: Keep = field(default_factory=Keep)

    def __post_init__(self):
        where = f"profile {self.name}:"
        check(self, where)
        slice_rule(self.train.slices)
        check_rules((self.threshold.rule, *self.threshold.rules), self.metrics.region)
        _check_window(self.slices, where)
        _check_split(self.split, where)
        _check_shots(self.methods, where)
        _check_planes(self.score.planes, where)
        if self.threshold.rule not in self.threshold.rules:
            raise UsageError(
                f"{where} threshold.rule {self.threshold.rule!r} is not among threshold.rules; add it there"
            )
        if "default" not in self.backbones:
            raise UsageError(f"{where} backbones lacks default; give at least that one")
        if self.keep.maps and self.slices.every != 1:
            raise UsageError(f"{where} keep.maps needs slices.every 1, so that maps fit their volumes")

    def backbone(self, role: str, method: str) -> BackboneChoice:
        """The backbone of a row's role; the role default may be a method's own. Raises UsageError when the role is not set."""
        choice = self.backbones.get(method) if role == "default" else None
        choice = choice or self.backbones.get(role)
        if choice is None:
            raise UsageError(
                f"profile {self.name} has no backbone for {role}; add backbones.{role} or leave the row out"
            )
        return choice

    def method(self, name: str) -> MethodSettings:
        """A method's training settings, the authors' defaults where the profile says nothing."""
        return self.methods.get(name, MethodSettings())

    def to_dict(self) -> dict:
        return asdict(self)


def _check_window(slices: Slices, where: str) -> None:
    window = slices.window
    if (slices.intensity == "window") != (window is not None) or (window and not window[0] < window[1]):
        raise UsageError(
            f"{where} slices.window is {window and list(window)} and slices.intensity {slices.intensity!r}; the mode window, "
            "and no other, needs [low, high] with low < high"
        )


def _check_split(split: SplitSettings, where: str) -> None:
    if len(set(split.seeds)) < len(split.seeds) or len(split.seeds) == 1:
        raise UsageError(
            f"{where} split.seeds is {list(split.seeds)}; expected at least two different whole numbers from 0"
        )
    if split.file and (split.seeds or split.stratify != "none"):
        raise UsageError(f"{where} split.file fixes the split; leave split.seeds and split.stratify out")


def _check_shots(methods: dict[str, MethodSettings], where: str) -> None:
    for method, chosen in methods.items():
        if chosen.kshot and (method not in METHODS or not METHODS[method].few_shot):
            able = ", ".join(name for name, info in METHODS.items() if info.few_shot)
            raise UsageError(f"{where} methods.{method}.kshot is {chosen.kshot}; few-shot methods are {able}")


def _check_planes(planes: tuple[str, ...], where: str) -> None:
    if planes and (planes[0] != "axial" or len(set(planes)) < len(planes)):
        raise UsageError(
            f"{where} score.planes is {list(planes)}; expected axial, in which lesions are counted, and then others, each once"
        )


def slice_rule(text: str) -> tuple[str, int]:
    """("all", 0), ("brain", 0) or ("lesion", K) from "all", "brain" or "lesion+K"; raises UsageError otherwise.

    Those of the setup healthy are "healthy+K", with K 0 for all.
    """
    kind, plus, count = text.partition("+")
    if kind in ("all", "brain") and not plus:
        return kind, 0
    if kind in ("lesion", "healthy") and count.isdigit():
        return kind, int(count)
    raise UsageError(f"train.slices is {text!r}; expected all, brain or lesion+K with a whole number K")
