"""The measurements: each returns one JSON-able row."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ZSADCLIPLib.backbones import textcache
from ZSADCLIPLib.jobs.detect import Detect
from ZSADCLIPLib.training.fit import SliceSet, fit
from ZSADCLIPLib.training.schedule import Schedule
from ZSADCLIPLib.volumes.intensity import blank_slices, to_uint8
from ZSADCLIPLib.volumes.reading import write_volume

from . import cases, flops, machine, reference

ROOT = Path(__file__).resolve().parents[3]


def peaks(dtype: str = "float32", seconds: float = 0.6) -> dict:
    """The machine's rate in `dtype` now; taken before and after a measurement, the better one counts."""
    return machine.peak(getattr(torch, dtype), seconds)


def efficiency(work: float, times: dict, rates: list[dict]) -> dict:
    """GFLOP, rates and time over the ideal (FLOPs / peak), by wall and by CPU seconds."""
    best = {key: max(rate[key] for rate in rates) for key in ("wall", "cpu")}
    return {
        "gflop": round(work / 1e9, 1),
        "gflops": round(work / times["wall_min"] / 1e9, 1),
        "peak_gflops": best["wall"],
        "over_ideal": round(times["wall_min"] * best["wall"] * 1e9 / work, 3),
        "over_ideal_cpu": round(times["cpu"] * best["cpu"] * 1e9 / work, 3),
    }


def _needed(backbone, adapter) -> int:
    return sum(flops.of_slice(backbone, adapter, cases.SIZE).values())


def slices(variant: str, name: str | None, batch: int, dtype: str = "float32", repeats: int = 2) -> dict:
    """Rate, memory and time by stage of `score` on one batch."""
    backbone, adapter = cases.load(variant, name, dtype)
    images = cases.images(backbone, batch)
    adapter.score(backbone, images[:1])
    before = peaks(dtype)
    machine.forget_peak()
    resting = machine.memory_mb()[0]
    with cases.staged(backbone, adapter) as stages:
        times = machine.timed(lambda: adapter.score(backbone, images), repeats, warm=0)
    extra = machine.memory_mb()[1] - resting
    row = {"variant": variant, "backbone": backbone.name, "dtype": dtype, "batch": batch}
    row |= {"slices_per_s": round(batch / times["wall_min"], 3), "cpu_s_per_slice": round(times["cpu"] / batch, 3)}
    row |= {"model_mb": round(resting), "extra_mb": round(extra)}
    whole = sum(stages.values())
    row["share"] = {key: round(value / whole, 3) for key, value in sorted(stages.items())}
    if backbone.vision.patch is not None:
        row |= efficiency(batch * _needed(backbone, adapter), times, [before, peaks(dtype)])
    return row


def against(variant: str, name: str | None, batch: int, dtype: str = "float32", rounds: int = 2) -> dict:
    """Seconds a slice of the engine and of the authors' way, in turns, so that other load meets both."""
    backbone, adapter = cases.load(variant, name, dtype)
    images = cases.images(backbone, batch)
    method = adapter.method
    # Without the augmented score the engine leaves out 21 views that the authors' code computes all the same.
    text = reference.text_for(backbone, adapter)
    adapter.score(backbone, images[:1])
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(machine.timed(lambda: adapter.score(backbone, images), 1, warm=0))
        one = lambda: reference.METHODS[method](backbone, adapter, images[:1], text)  # noqa: E731
        theirs.append(machine.timed(one, 1, warm=0))
    mine = {key: min(t[key] for t in ours) / batch for key in ("wall_min", "cpu")}
    other = {key: min(t[key] for t in theirs) for key in ("wall_min", "cpu")}
    return {
        "variant": variant,
        "backbone": backbone.name,
        "batch": batch,
        "engine_s": round(mine["wall_min"], 3),
        "reference_s": round(other["wall_min"], 3),
        "ratio": round(other["wall_min"] / mine["wall_min"], 2),
        "ratio_cpu": round(other["cpu"] / mine["cpu"], 2),
    }


def text(variant: str, name: str | None, sample: int = 24) -> dict:
    """All sentences of a method: shared beginnings, full length (a sample, scaled by its number), from the disk."""
    backbone, adapter = cases.load(variant, name)
    groups = adapter.prompts.sentences(adapter.config.object_name)
    sentences = [s for group in groups for s in group]
    tokens = backbone.text.tokenize(sentences).to(backbone.device)
    chosen = tokens[:: max(1, len(tokens) // sample)]
    with torch.no_grad():
        ours = machine.timed(lambda: backbone.encode_text(tokens), 2)
        full = machine.timed(lambda: reference.text_pass(backbone.text, chosen), 2, warm=0)
    scale = len(tokens) / len(chosen)
    with tempfile.TemporaryDirectory() as folder:
        before = os.environ.get("ZSADCLIP_TEXT_CACHE")
        os.environ["ZSADCLIP_TEXT_CACHE"] = folder
        textcache.remember("k", backbone.encode_text(tokens))
        cached = machine.timed(lambda: textcache.recall("k", (len(tokens), backbone.embed_dim)), 5)
        os.environ.pop("ZSADCLIP_TEXT_CACHE")
        if before is not None:
            os.environ["ZSADCLIP_TEXT_CACHE"] = before
    return {
        "variant": variant,
        "backbone": backbone.name,
        "sentences": len(tokens),
        "sampled": len(chosen),
        "shared_s": round(ours["wall_min"], 3),
        "full_length_s": round(full["wall_min"] * scale, 2),
        "ratio": round(full["wall_min"] * scale / ours["wall_min"], 1),
        "ratio_cpu": round(full["cpu"] * scale / ours["cpu"], 1),
        "from_disk_ms": round(cached["wall_min"] * 1000, 1),
        "gflop": round(flops.sentences(backbone.text, tokens) / 1e9, 1),
        "full_length_gflop": round(flops.padded_sentences(backbone.text, len(tokens)) / 1e9, 1),
    }


@dataclass(frozen=True)
class Loaded(Detect):
    """The detect job with its models already there."""

    def detector(self, batch=None):
        return LOADED["detector"]


LOADED: dict = {}


def volume(
    variant: str, name: str | None, count: int, blank: int = 0, fast: bool = False, dtype: str = "float32"
) -> dict:
    """`zsadclip detect` on one volume: reading, slicing, scoring, mask, findings, writing and picture; models loaded."""
    from ZSADCLIPLib.detection.detector import Detector

    backbone, adapter = cases.load(variant, name, dtype)
    LOADED["detector"] = Detector(backbone, adapter, image_size=cases.SIZE, **({"fast": True} if fast else {}))
    adapter.score(backbone, cases.images(backbone, 1))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "v.nii.gz"
        slab = cases.slab(count, blank)
        write_volume(path, slab, "float32")
        job = Loaded((str(path),), str(Path(folder) / "out"), method=adapter.method)
        before = peaks(dtype)
        machine.forget_peak()
        times = machine.timed(job.run, 1, warm=0)
        after = peaks(dtype)
    empty = blank_slices(to_uint8(np.moveaxis(slab.array, 2, 0)))
    scored = int((~empty).sum()) + bool(empty.any())
    row = {"variant": variant, "backbone": backbone.name, "dtype": dtype, "slices": count + blank, "scored": scored}
    row |= {"fast": fast}
    row |= {
        "seconds": round(times["wall"], 1),
        "cpu_s": round(times["cpu"], 1),
        "peak_mb": round(machine.memory_mb()[1]),
    }
    return row | efficiency(scored * _needed(backbone, adapter), times, [before, after])


def training(variant: str, name: str | None, count: int) -> dict:
    """Seconds of an epoch that computes its features and of one that reads them."""
    backbone, adapter = cases.load(variant, name)
    array = np.resize(cases.images(backbone, 8)[:, 0].numpy() > 0, (count, cases.SIZE, cases.SIZE))
    data = SliceSet((array * 255).astype(np.uint8), np.roll(array, 7, axis=1))
    uncached = fit(adapter, backbone, data, Schedule(epochs=1, cache="none"))[0]["seconds"]
    cached = fit(adapter, backbone, data, Schedule(epochs=3, cache="memory"))[-1]["seconds"]
    row = {"variant": variant, "backbone": backbone.name, "slices": count, "uncached_s": uncached, "cached_s": cached}
    return row | {"ratio": round(uncached / max(cached, 0.01), 1)}


def growth(count: int, slices_each: int = 6) -> dict:
    """`count` small volumes through one detector: seconds a volume and the peak of the memory."""
    from ZSADCLIPLib.detection.detector import Detector

    backbone, adapter = cases.load("vand", "mini")
    detector, small = Detector(backbone, adapter, image_size=cases.SIZE), cases.slab(slices_each)
    detector.detect(small)
    machine.forget_peak()
    started = time.perf_counter()
    for _ in range(count):
        detector.detect(small)
    each = (time.perf_counter() - started) / count
    return {"volumes": count, "seconds_each": round(each, 3), "peak_mb": round(machine.memory_mb()[1])}


def sentences(count: int, name: str) -> dict:
    """`count` different sentences through the text tower."""
    backbone, _ = cases.load("vand", name)
    words = ("a", "the", "bright", "dark", "small", "large", "blurry", "good", "bad", "cropped")
    made = [f"{words[i % 10]} photo of {words[i // 10 % 10]} brain {words[i // 100]}" for i in range(count)]
    tokens = backbone.text.tokenize(made).to(backbone.device)
    with torch.no_grad():
        times = machine.timed(lambda: backbone.encode_text(tokens), 2)
    return {"prompts": count, "backbone": name, "seconds": round(times["wall_min"], 3), "cpu_s": round(times["cpu"], 3)}


def startup(runs: int = 2) -> dict:
    """A whole `zsadclip detect` of 16 slices with the embedded model, as a process of its own, files warm."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "v.nii.gz"
        write_volume(path, cases.slab(16), "float32")
        command = [sys.executable, "-m", "ZSADCLIPLib", "detect", str(path), "-o", str(Path(folder) / "out")]
        environment = {**os.environ, "ZSADCLIP_TEXT_CACHE": str(Path(folder) / "texts")}
        walls, cpus = [], []
        for _ in range(runs + 1):
            started, used = time.perf_counter(), _children()
            subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
            walls.append(time.perf_counter() - started)
            cpus.append(_children() - used)
    return {"slices": 16, "wall_s": round(min(walls[1:]), 2), "cpu_s": round(min(cpus[1:]), 2)}


def _children() -> float:
    spent = os.times()
    return spent.children_user + spent.children_system
