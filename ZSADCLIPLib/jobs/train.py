"""The job behind `zsadclip train`: one adapter from labelled volumes, with the threshold that suits it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from ..adapters import DEFAULT_METHOD, trainable_methods
from ..backbones import DEFAULT_BACKBONE
from ..benchmark.profiles import PROFILES, load_profile
from ..benchmark.settings import BackboneChoice, Score
from ..detection.scoring import Scoring
from ..errors import InputError, UsageError, ZSADCLIPError
from ..fields import Count, OneOf, Positive, check, flag
from ..files.atomic import clear_unfinished
from ..files.locks import folder_lock
from ..progress import Progress, Report, quiet, silent, sub_progress
from ..training.schedule import AUGMENTATIONS, CACHES, PRECISIONS, SELECT
from .healthy import healthy_profile, read_healthy


@dataclass(frozen=True)
class Train:
    """Train one adapter.

    data        folder or manifest of labelled volumes; None with domain "industrial" makes synthetic images.
    healthy     instead of data a folder, glob or manifest of scans without lesions: no masks, synthetic anomalies train. A
                profile of the package then takes every slice, with the head filling the square, as `detect` does.
    output      gets METHOD.safetensors, training.csv and split.json; a run that finds its own epochs there goes on, one that
                finds those of other settings, data, start or code is refused.
    start       "random", or an adapter file (ours or the authors') to go on from.
    domain      "brain" trains on the data set's training subjects, "industrial" on synthetic industrial images.
    slices      all, brain, or lesion+K (see settings.TrainingSettings); settings are config fields such as {"dice": "batch"}.
    profile     everything not named here: split, intensity, contrast, threshold rule.
    select      last, best-train-loss, or best-val-f1, which holds training subjects out (settings.TrainingSettings).
    epochs, batch_size, max_subjects, max_slices: None takes the profile's.
    """

    output: str = flag("--out", metavar="DIR", help="folder of the training; run again to go on")
    method: Annotated[str, OneOf(tuple(trainable_methods()))] = flag(default=DEFAULT_METHOD)
    data: str | None = flag(default=None, metavar="DIR", help="BraTS-MET folder or manifest CSV")
    healthy: str | None = flag(
        default=None, metavar="FOLDER", help="scans without lesions instead of --data; needs no masks"
    )
    domain: Literal["brain", "industrial"] = flag(default="brain", help="industrial makes its own images")
    backbone: str = flag(
        default=DEFAULT_BACKBONE, help="a backbone of 'zsadclip models', an open_clip name, a JSON config"
    )
    weights: str | None = flag(default=None, help="backbone weights: open_clip tag, file, folder, or random[:SEED]")
    weights_dir: str | None = flag(default=None, help="folder with weights, searched before the cache")
    start: str = flag(default="random", help="random, or an adapter file to go on from")
    profile: str = flag(default="mini", help=f"what is not given here: {', '.join(PROFILES)}, or a JSON file")
    epochs: Positive | None = flag(default=None)
    batch_size: Positive | None = flag(default=None)
    max_subjects: Positive | None = flag(default=None, help="train on a random subset")
    max_slices: Positive | None = flag(default=None)
    slices: str | None = flag(default=None, help="all, brain, or lesion+K")
    select: Annotated[str, OneOf(SELECT)] | None = flag(
        default=None, help="the epoch that is kept; best-val-f1 holds subjects out"
    )
    augment: Annotated[str, OneOf(AUGMENTATIONS)] | None = flag(default=None)
    cache: Annotated[str, OneOf(CACHES)] | None = flag(default=None, help="of frozen features")
    precision: Annotated[str, OneOf(PRECISIONS)] = flag(default="float32", help="autocast on a GPU")
    settings: dict = flag("--set", default_factory=dict, metavar="FIELD=VALUE", help="method settings")
    seed: Count = flag(default=111)
    device: str = flag(default="auto")

    kind: ClassVar[str] = "train"

    def run(self, progress: Progress = silent, report: Report = quiet) -> dict:
        """Train, find the threshold on training volumes and write the adapter.

        Returns {"adapter", "epochs", "loss", "threshold", "output"}. Raises ZSADCLIPError when settings or data cannot
        work, and whatever `progress` raises; finished epochs are kept.
        """
        check(self)
        self._check_source()
        base = load_profile(self.profile)
        if self.healthy is not None:
            base = healthy_profile(base)
        limits = {name: getattr(self, name) for name in ("epochs", "batch_size", "max_subjects", "max_slices")}
        options = replace(base.method(self.method), **{k: v for k, v in limits.items() if v is not None})
        # An industrial adapter that the profile names is for the benchmark's rows; here `start` says what to go on from.
        options = replace(options, settings={**options.settings, **self.settings}, industrial=None, kshot=0)
        shared = {name: getattr(self, name) for name in ("slices", "select", "augment", "cache") if getattr(self, name)}
        profile = replace(
            base,
            name=f"{base.name}, changed",
            backbones={"default": BackboneChoice(self.backbone, self.weights)},
            methods={self.method: options},
            train=replace(base.train, precision=self.precision, seed=self.seed, **shared),
        )
        with folder_lock(self.output):
            clear_unfinished(Path(self.output) / "features")
            return self._train(profile, progress, report)

    def _train(self, profile, progress: Progress, report: Report) -> dict:
        from ..adapters.checkpoint import save_adapter
        from ..benchmark import tasks
        from ..benchmark.cohort import read_cohort
        from ..benchmark.maps import open_adapter
        from ..benchmark.plan import Machine
        from ..benchmark.single import plan_single
        from ..benchmark.slices import build_slices
        from ..datasets.splits import write_split
        from ..files.digests import FileHashes
        from ..files.privacy import redact_all
        from ..files.text import write_json

        out = Path(self.output)
        hashes = FileHashes(out / "hashes.json")
        inner = sub_progress(progress, 0.0, 0.02)
        cohort = world = None
        if self.healthy is not None:
            cohort, profile, world = read_healthy(self.healthy, profile, hashes, inner, report)
        elif self.data is not None:
            cohort = read_cohort(profile, self.data, hashes, inner)
        machine, setup = Machine(self.device, "float32", self.weights_dir), "brats" if world is None else "healthy"
        plan = plan_single(profile, self.method, cohort, out, machine, hashes, self._start(), setup)
        self.check_identity(plan.identity)
        for i, (spec, records) in enumerate(plan.slice_sets):
            shares = (0.02 + 0.08 * n / len(plan.slice_sets) for n in (i, i + 1))
            build_slices(spec, records, sub_progress(progress, *shares))
        if cohort is not None:
            write_split(out / "split.json", cohort.split)
        trained = tasks.train_adapter(plan.training, sub_progress(progress, 0.1, 0.9))
        threshold = None
        if cohort is not None:
            records = [record for record in cohort.records if record.id in plan.row.threshold.cases]
            for i, record in enumerate(records):
                inner = sub_progress(progress, 0.9 + 0.08 * i / len(records), 0.9 + 0.08 * (i + 1) / len(records))
                for why in tasks.score_training_case([plan.row], record, inner).get("failed", {}).values():
                    raise ZSADCLIPError(f"no threshold from {record.id}: {why}")
            threshold = tasks.settle_row(plan.row).get(profile.threshold.rule)  # a rule of the test data has none
        backbone, adapter = open_adapter(plan.scoring)
        provenance, stored = dict(adapter.provenance), None
        if threshold is not None and profile.score.scale in ("raw", "layers"):
            factor = adapter.summed_layers if profile.score.scale == "layers" else 1
            cases = f"{len(plan.row.threshold.cases)} "
            cases += "training cases" if world is None else "held-out healthy scans, of the voxels of the head"
            stored = threshold * factor
            provenance |= _by_way(stored, profile.score) | {"threshold_rule": f"{profile.threshold.rule} on {cases}"}
        if world is not None:
            provenance |= {"world": asdict(world), "trained_on": world.pictures}
        target = out / f"{self.method}.safetensors"
        save_adapter(target, adapter, backbone, provenance)
        write_json(
            out / "settings.json", {"profile": redact_all(profile.to_dict()), "training": provenance["training"]}
        )
        progress(1.0, "done")
        result = {"adapter": str(target), "epochs": provenance["training"]["epochs"]}
        result |= {"loss": provenance["training"]["loss"], "threshold": stored}
        report({"event": "adapter", "id": self.method, "status": "kept" if trained.get("kept") else "done", **result})
        return {**result, "output": self.output}

    def _check_source(self) -> None:
        given = (self.data is not None) + (self.healthy is not None)
        if given != (self.domain == "brain"):
            raise UsageError(
                "the domain brain needs data, a folder or manifest, or healthy, scans without lesions, and not both; the domain "
                "industrial makes its own"
            )
        if self.healthy is not None and self.slices is not None:
            raise UsageError(
                "slices is for labelled data; a profile's healthy.slices says how many slices of a healthy scan train"
            )

    def check_identity(self, identity: dict) -> None:
        """Write down what the output is made of; raises UsageError when it holds a training of anything else."""
        from ..benchmark.rowfolder import read_json
        from ..files.text import write_json

        out = Path(self.output)
        written = read_json(out / "identity.json") if (out / "identity.json").is_file() else {}
        if written != identity and any((out / name).is_file() for name in ("adapter.safetensors", "training/last.pt")):
            other = ", ".join(_differences(written, identity)) if written else "settings that it does not tell"
            raise UsageError(f"{out} holds a training with other {other}; choose another folder, or delete this one")
        write_json(out / "identity.json", identity)

    def _start(self) -> str | None:
        if self.start == "random":
            return None
        if not Path(self.start).is_file():
            raise InputError(f"there is no adapter file {self.start}; give one, or random")
        return self.start


def _by_way(threshold: float, score: Score) -> dict:
    """A threshold as an adapter's provenance holds it: under the way of scoring that the profile section `score` found it in."""
    scoring = Scoring(score.planes or ("axial",), score.fuse, score.smooth_mm, score.smooth)
    return {"threshold": threshold} if scoring.is_plain else {"thresholds": {scoring.way: threshold}}


def _differences(first: object, second: object, name: str = "") -> list[str]:
    """Names of the settings that differ, inner ones with a dot."""
    if not (isinstance(first, dict) and isinstance(second, dict)):
        return [] if first == second else [name]
    names = sorted(first.keys() | second.keys())
    return [d for n in names for d in _differences(first.get(n), second.get(n), f"{name}.{n}".lstrip("."))]
