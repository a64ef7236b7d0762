"""Every choice of a benchmark run that the paper leaves open, as named keys: plain frozen data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from ..adapters.registry import METHODS
from ..datasets.labels import LABEL_RULES, TARGETS
from ..datasets.records import CHANNELS
from ..datasets.splits import FRACTION, SEED
from ..errors import UsageError
from ..evaluation.metrics import MORE_REGIONS, POLICIES, REGIONS
from ..evaluation.scales import SCALES
from ..evaluation.thresholds import PAPER_RULES, PRIMARY, check_rules
from ..training.schedule import AUGMENTATIONS, CACHES, SELECT
from ..volumes.intensity import MODES
from .rows import ALL_ROWS

AXES = ("extent", "centre", "mm")
MASKS = {"half": "bilinear", "nearest": "nearest"}
"""How training masks are resized: at least half of a pixel, or the nearest one; the interpolation behind it."""
METHOD_NAMES = tuple(sorted({row.method for row in ALL_ROWS if row.backbone}))
ROLES = (*dict.fromkeys(row.backbone for row in ALL_ROWS if row.backbone), *METHOD_NAMES)
_LOWEST = {  # of numbers that have no upper bound
    "data.train_cases": 0,
    "data.test_cases": 0,
    "split.seed": 0,
    "slices.image_size": 1,
    "slices.every": 1,
    "train.seed": 0,
    "industrial.images": 0,
    "industrial.seed": 0,
    "score.gaussian_sigma": 0,
    "threshold.max_subjects": 1,
    "metrics.min_component_mm3": 0,
    "metrics.froc_levels": 0,
    "metrics.bins": 1,
}
_LOWEST_OF_METHODS = {"epochs": 1, "batch_size": 1, "max_subjects": 1, "max_slices": 1, "kshot": 0}


@dataclass(frozen=True)
class Model:
    """A backbone: its name, config file or config; its weights (None = its own); its activation (None = as trained)."""

    name: str | dict = "mini"
    weights: str | None = None
    activation: str | None = None


@dataclass(frozen=True)
class Data:
    """What is read: channel, target and label rule of `datasets`, further ignored labels.

    `train_cases` and `test_cases` count the synthetic brains that are made when no data set is given, 0 = a data set is needed.
    """

    channel: str = "t2w"
    target: str = "wt"
    label_rule: str = "auto"
    ignore: tuple[int, ...] = ()
    train_cases: int = 10
    test_cases: int = 6


@dataclass(frozen=True)
class SplitSettings:
    """Seeded split by subject, or a `file` written by an earlier run.

    `stratify`: "none", or "volume" so that both sides hold small and large lesions alike. `seeds`: repeat the whole benchmark
    for each of these splits, and show how results vary; `seed` is then not used.
    """

    fraction: float = FRACTION
    seed: int = SEED
    file: str | None = None
    stratify: str = "none"
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Slices:
    """How volumes become what a model sees; `every` keeps each k-th axial slice of training and test volumes alike.

    `intensity` is a mode of `intensity.to_uint8`; "window" needs `window` = (low, high) in the image's units. `orientation` is
    nose-up, or array for rows and columns as the file stores them.
    """

    image_size: int = 240
    intensity: str = "per-volume-percentile"
    window: tuple[float, float] | None = None
    orientation: str = "nose-up"
    every: int = 1


@dataclass(frozen=True)
class Train:
    """Training shared by the methods.

    slices     which slices of a training volume train: "all", "brain", or "lesion+K" (lesion slices and K others).
    augment    none, flips (flips, rotations, scale) or mosaic (four images in one, probability 0.2).
    precision  float32, or bfloat16 / float16 by autocast on a GPU.
    cache      of frozen features: memory, disk (memory-mapped), disk-half (float16) or none.
    select     the epoch that is kept: last, best-train-loss, or best-val-f1, the best pooled F1 over the slices of the share
               `validation` of the training subjects (of industrial images), which then do not train. Never test data.
    subset     which subjects `max_subjects` leaves: random (seeded) or first, by name.
    masks      how lesion masks are resized to the model's square: half (bilinear, at least 0.5) or nearest.
    """

    slices: str = "brain"
    augment: str = "none"
    precision: str = "float32"
    cache: str = "disk"
    subset: str = "random"
    masks: str = "half"
    select: str = "last"
    validation: float = 0.2
    seed: int = 111


@dataclass(frozen=True)
class Method:
    """Training of one method; None = the authors' default.

    `settings` are config fields of the method, such as {"dice": "batch"}. `max_subjects` and `max_slices` limit what it
    trains on (seeded subsets). `industrial` is a published or own adapter file for the industrial start; None trains one
    on the synthetic industrial images; several files make a run each for the rows that start from them (`variations`).
    `kshot` normal slices of training subjects fill the memory bank of a method that has one; then its rows are few-shot.
    """

    epochs: int | None = None
    batch_size: int | None = None
    settings: dict = field(default_factory=dict)
    max_subjects: int | None = None
    max_slices: int | None = None
    industrial: str | tuple[str, ...] | None = None
    kshot: int = 0


@dataclass(frozen=True)
class Industrial:
    """The industrial domain: `images` synthetic ones, three quarters with a defect; or published files only (0)."""

    images: int = 160
    seed: int = 200_000


@dataclass(frozen=True)
class Score:
    """From a raw map to the evaluated one: scale (see `evaluation.scales`), in-plane blur in pixels (None = the method's own),
    upsampling, and what lies outside the brain (keep or zero)."""

    scale: str = "layers"
    gaussian_sigma: float | None = None
    upsample: str = "faithful"
    background: str = "keep"


@dataclass(frozen=True)
class Thresholds:
    """The primary rule, all rules that become columns, and how many training subjects thresholds are taken from."""

    rule: str = PRIMARY
    rules: tuple[str, ...] = PAPER_RULES
    max_subjects: int | None = None


@dataclass(frozen=True)
class Metrics:
    """How cases are counted: region of the primary table (see `metrics`), lesions, undefined values, slices, distance bins.

    `aggregate` says what AUROC, AP and F1-max of a volume are: of all its voxels, or the mean of its lesion slices' values.
    `axis` is the distance along the brain: its extent as -1..1, from the volume's centre as -1..1, or from the brain's in mm.
    """

    region: str = "all"
    undefined: str = "nan"
    slice_policy: str = "lesion"
    min_component_mm3: float = 0.0
    froc_levels: int = 24
    bins: int = 20
    aggregate: str = "volume"
    axis: str = "extent"


@dataclass(frozen=True)
class Keep:
    """What a row keeps beside its numbers: qualitative panels, sketches of all scores, whole maps."""

    panels: bool = True
    sketches: bool = True
    maps: bool = False


@dataclass(frozen=True)
class Profile:
    """All settings of a benchmark run.

    `backbones` maps default, pmc, biomedclip, or a method's name (its own default), to a Model.
    """

    name: str
    backbones: dict[str, Model]
    methods: dict[str, Method]
    data: Data = field(default_factory=Data)
    split: SplitSettings = field(default_factory=SplitSettings)
    slices: Slices = field(default_factory=Slices)
    train: Train = field(default_factory=Train)
    industrial: Industrial = field(default_factory=Industrial)
    score: Score = field(default_factory=Score)
    threshold: Thresholds = field(default_factory=Thresholds)
    metrics: Metrics = field(default_factory=Metrics)
    keep: Keep = field(default_factory=Keep)

    def __post_init__(self):
        for name, value, allowed in (
            ("data.channel", self.data.channel, (*CHANNELS, "image")),
            ("data.target", self.data.target, TARGETS),
            ("data.label_rule", self.data.label_rule, ("auto", *LABEL_RULES)),
            ("slices.intensity", self.slices.intensity, MODES),
            ("split.stratify", self.split.stratify, ("none", "volume")),
            ("slices.orientation", self.slices.orientation, ("nose-up", "array")),
            ("metrics.aggregate", self.metrics.aggregate, ("volume", "slices")),
            ("train.select", self.train.select, SELECT),
            ("train.subset", self.train.subset, ("random", "first")),
            ("train.masks", self.train.masks, tuple(MASKS)),
            ("metrics.axis", self.metrics.axis, AXES),
            ("train.augment", self.train.augment, AUGMENTATIONS),
            ("train.precision", self.train.precision, ("float32", "bfloat16", "float16")),
            ("train.cache", self.train.cache, CACHES),
            ("score.scale", self.score.scale, SCALES),
            ("score.upsample", self.score.upsample, ("faithful", "half-pixel", "corners", "centres")),
            ("score.background", self.score.background, ("keep", "zero")),
            ("metrics.region", self.metrics.region, (*REGIONS, *MORE_REGIONS)),
            ("metrics.undefined", self.metrics.undefined, POLICIES),
            ("metrics.slice_policy", self.metrics.slice_policy, ("lesion", "lesion-or-prediction", "all")),
        ):
            if value not in allowed:
                raise UsageError(f"profile {self.name}: {name} is {value!r}; choose one of {', '.join(allowed)}")
        self._check_names_and_numbers()
        slice_rule(self.train.slices)
        check_rules((self.threshold.rule, *self.threshold.rules), self.metrics.region)
        if self.threshold.rule not in self.threshold.rules:
            raise UsageError(
                f"profile {self.name}: threshold.rule {self.threshold.rule!r} is not among threshold.rules; add it there"
            )
        if "default" not in self.backbones:
            raise UsageError(f"profile {self.name}: backbones lacks default; give at least that one")
        if self.keep.maps and self.slices.every != 1:
            raise UsageError(f"profile {self.name}: keep.maps needs slices.every 1, so that maps fit their volumes")

    def _check_names_and_numbers(self) -> None:
        for section, names, known in (
            ("methods", self.methods, METHOD_NAMES),
            ("backbones", self.backbones, ROLES),
        ):
            unknown = sorted(set(names) - set(known))
            if unknown:
                raise UsageError(f"profile {self.name}: {section} has no {unknown[0]!r}; known are {', '.join(known)}")
        numbers = [(key, getattr(getattr(self, key.split(".")[0]), key.split(".")[1]), n) for key, n in _LOWEST.items()]
        for method, chosen in self.methods.items():
            if chosen.kshot and not METHODS[method].memory_bank:
                able = ", ".join(name for name, info in METHODS.items() if info.memory_bank)
                raise UsageError(
                    f"profile {self.name}: methods.{method}.kshot is {chosen.kshot}; only {able} has a memory bank"
                )
            numbers += [(f"methods.{method}.{key}", getattr(chosen, key), n) for key, n in _LOWEST_OF_METHODS.items()]
        for name, value, lowest in numbers:
            if value is not None and value < lowest:
                raise UsageError(f"profile {self.name}: {name} is {value}; expected {lowest} or more")
        window = self.slices.window
        if (self.slices.intensity == "window") != (window is not None) or (
            window and (len(window) != 2 or not window[0] < window[1])
        ):
            raise UsageError(
                f"profile {self.name}: slices.window is {window and list(window)} and slices.intensity "
                f"{self.slices.intensity!r}; the mode window, and no other, needs [low, high] with low < high"
            )
        seeds = self.split.seeds
        if len(set(seeds)) < len(seeds) or len(seeds) == 1 or any(seed < 0 for seed in seeds):
            raise UsageError(
                f"profile {self.name}: split.seeds is {list(seeds)}; expected at least two different whole numbers from 0"
            )
        if self.split.file and (seeds or self.split.stratify != "none"):
            raise UsageError(
                f"profile {self.name}: split.file fixes the split; leave split.seeds and split.stratify out"
            )
        for name, share in (("split.fraction", self.split.fraction), ("train.validation", self.train.validation)):
            if not 0 < share < 1:
                raise UsageError(f"profile {self.name}: {name} is {share}; expected a number between 0 and 1")

    def backbone(self, role: str, method: str) -> Model:
        """The model of a row's role; the role default may be a method's own. Raises UsageError when the role is not set."""
        model = self.backbones.get(method) if role == "default" else None
        model = model or self.backbones.get(role)
        if model is None:
            raise UsageError(
                f"profile {self.name} has no backbone for {role}; add backbones.{role} or leave the row out"
            )
        return model

    def method(self, name: str) -> Method:
        """A method's training settings, the authors' defaults where the profile says nothing."""
        return self.methods.get(name, Method())

    def to_dict(self) -> dict:
        return asdict(self)


def slice_rule(text: str) -> tuple[str, int]:
    """("all", 0), ("brain", 0) or ("lesion", K) from "all", "brain" or "lesion+K"; raises UsageError otherwise."""
    kind, plus, count = text.partition("+")
    if kind in ("all", "brain") and not plus:
        return kind, 0
    if kind == "lesion" and count.isdigit():
        return kind, int(count)
    raise UsageError(f"train.slices is {text!r}; expected all, brain or lesion+K with a whole number K")
