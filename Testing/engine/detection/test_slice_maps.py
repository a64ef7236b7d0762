"""Detector and benchmark send slices through adapters in one way, so that both have the same numbers and refuse the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_models import config

from ZSADCLIPLib import Detector, load_adapter
from ZSADCLIPLib.adapters import METHODS
from ZSADCLIPLib.adapters.checkpoint import save_adapter
from ZSADCLIPLib.benchmark import maps, models
from ZSADCLIPLib.benchmark.settings import Keep, Metrics, Score, Slices
from ZSADCLIPLib.benchmark.slices import read_slices
from ZSADCLIPLib.benchmark.specs import AdapterSpec, BackboneSpec, DataSpec, RowSpec, ThresholdSpec
from ZSADCLIPLib.datasets.records import Record
from ZSADCLIPLib.detection.scoring import Scoring
from ZSADCLIPLib.detection.slice_maps import slice_maps
from ZSADCLIPLib.errors import ZSADCLIPError
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.intensity import blank_slices
from ZSADCLIPLib.volumes.reading import read_volume, write_volume

MODEL = BackboneSpec(config("vit"), "random:3", device="cpu")
SLICES = Slices(image_size=64, every=1)


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """A brain of 13 slices, five of them blank, on a grid that must be padded and resized."""
    folder, rng = tmp_path_factory.mktemp("volume"), np.random.default_rng(8)
    array, truth = np.zeros((40, 44, 13), np.int16), np.zeros((40, 44, 13), np.uint8)
    array[6:-6, 5:-5, 2:-3] = rng.integers(20, 900, (28, 34, 8))
    truth[10:14, 10:14, 4:6] = 1
    for name, each in (("image", array), ("mask", truth)):
        write_volume(folder / f"{name}.nii.gz", Volume(each, np.diag([-1.0, -1.5, 2, 1])))
    return Record("case", "subject", folder / "image.nii.gz", folder / "mask.nii.gz", rule="nonzero")


def specs(method, background="keep", **score):
    """Two rows of a method with different adapters."""
    sources = (f"{method}:random:{seed}" for seed in (0, 1)) if METHODS[method].trainable else (method, method)
    return [
        RowSpec(
            row=f"row{n}",
            method=method,
            start_label=None,
            adapter=AdapterSpec(method, MODEL, source),
            training=None,
            data=DataSpec(),
            slices=SLICES,
            score=Score(scale="raw", background=background, **score),
            threshold=ThresholdSpec("f1max-pooled-train", ("f1max-pooled-train",), ()),
            metrics=Metrics(),
            keep=Keep(),
            split="",
            test_data="",
            threshold_data="",
        )
        for n, source in enumerate(sources)
    ]


def case_of(record, crop="none"):
    return read_slices(record, DataSpec(), replace(SLICES, crop=crop))


def detect(spec, record, batch_size, crop="none", **more):
    backbone = models.open_backbone(spec.adapter.backbone)
    intensity, background = SLICES.intensity, spec.score.background
    options = {
        "image_size": 64,
        "intensity": intensity,
        "batch_size": batch_size,
        "background": background,
        "crop": crop,
        **more,
    }
    return Detector(backbone, load_adapter(spec.adapter.source, backbone), **options).detect(read_volume(record.image))


@pytest.mark.parametrize(
    ("batch_size", "background", "crop"),
    [(1, "keep", "none"), (3, "zero", "none"), (64, "keep", "none"), (3, "keep", "head"), (64, "zero", 30)],
)
@pytest.mark.parametrize("method", METHODS)
def test_detector_and_benchmark_have_the_same_bits(record, monkeypatch, method, batch_size, background, crop):
    monkeypatch.setattr(maps, "default_batch_size", lambda *_: batch_size)
    rows, case = specs(method, background), case_of(record, crop)
    assert blank_slices(case.image).sum() == 5
    evaluated = maps.row_maps(rows, case)
    for spec, array in zip(rows, evaluated, strict=True):
        detection = detect(spec, record, batch_size, crop)
        assert array.dtype == np.float32 and np.array_equal(array, detection.stack.arrange(detection.map.array))
    assert np.array_equal(*evaluated) == (not METHODS[method].trainable)


@pytest.mark.parametrize(("background", "crop"), [("keep", "none"), ("zero", "head"), ("keep", 30)])
@pytest.mark.parametrize(
    "way",
    [
        {"smooth_mm": 2.0},
        {"planes": ("axial", "coronal", "sagittal"), "fuse": "geometric", "smooth_mm": 1.5, "smooth": "3d"},
        {"planes": ("axial", "sagittal"), "fuse": "median"},
    ],
    ids=str,
)
def test_detector_and_benchmark_agree_about_every_way_of_scoring(record, monkeypatch, background, crop, way):
    monkeypatch.setattr(maps, "default_batch_size", lambda *_: 4)
    rows, case = specs("vand", background, **way), case_of(record, crop)
    rows = [replace(row, slices=replace(SLICES, crop=crop)) for row in rows]
    for spec, array in zip(rows, maps.row_maps(rows, case), strict=True):
        detection = detect(spec, record, 4, crop, scoring=Scoring(**way))
        assert len(detection.provenance["planes"]) == max(1, len(way.get("planes", ())))
        assert np.array_equal(array, detection.stack.arrange(detection.map.array))


@pytest.mark.parametrize("way", [{}, {"planes": ("axial", "coronal"), "fuse": "mean", "smooth_mm": 1.5}], ids=str)
def test_detector_and_benchmark_agree_about_neighbouring_slices(record, monkeypatch, tmp_path, way):
    monkeypatch.setattr(maps, "default_batch_size", lambda *_: 4)
    backbone = models.open_backbone(MODEL)
    adapter = load_adapter("vand:random", backbone, {"context": (-4.0, 4.0)})
    for kernel in adapter.kernel:
        kernel.data[:] = torch.tensor([0.4, 0.7, -0.3])[:, None]
    save_adapter(tmp_path / "deep.safetensors", adapter, backbone)
    (row, _), case = specs("vand", **way), case_of(record)
    row = replace(row, adapter=replace(row.adapter, source=str(tmp_path / "deep.safetensors")))
    (array,) = maps.row_maps([row], case)
    detection = detect(row, record, 4, scoring=Scoring(**way))
    assert np.array_equal(array, detection.stack.arrange(detection.map.array))
    plain = detect(specs("vand", **way)[0], record, 4, scoring=Scoring(**way))
    assert np.abs(detection.map.array - plain.map.array).max() > 1e-3


def test_planes_of_every_second_slice_are_those_of_the_whole(record):
    (spec, _), case = specs("vand", planes=("axial", "coronal"), fuse="mean"), case_of(record)
    half = read_slices(record, DataSpec(), replace(SLICES, every=2))
    (whole,), (every_second,) = maps.row_maps([spec], case), maps.row_maps([spec], half)
    assert half.image.shape[0] == 7 and every_second == pytest.approx(whole[half.taken], abs=1e-5)


def test_an_adapter_gives_the_same_alone_and_beside_others():
    images = np.random.default_rng(2).integers(0, 255, (5, 64, 64), np.uint8)
    images[[0, 4]] = 0
    opened = [maps.open_adapter(spec.adapter) for method in METHODS for spec in specs(method)]
    backbone, adapters = opened[0][0], [adapter for _, adapter in opened]
    together = slice_maps(backbone, adapters, images, 2)
    assert together[2] == 2
    for adapter, both, scores in zip(adapters, *together[:2], strict=True):
        (alone,), (alone_scores,), _ = slice_maps(backbone, [adapter], images, 2)
        assert np.array_equal(both, alone) and np.array_equal(scores, alone_scores)


def test_features_are_computed_once_for_adapters_that_need_the_same(monkeypatch):
    opened, calls = [maps.open_adapter(spec.adapter) for spec in specs("vand")], []
    backbone, adapters = opened[0][0], [adapter for _, adapter in opened]
    for adapter in adapters:
        features = adapter.features
        monkeypatch.setattr(adapter, "features", lambda *a, features=features: calls.append(1) or features(*a))
    slice_maps(backbone, adapters, np.random.default_rng(2).integers(0, 255, (4, 64, 64), np.uint8), 4)
    assert len(calls) == 1


def test_both_refuse_a_map_that_is_not_finite(record, monkeypatch):
    predict = METHODS["vand"].load().predict

    def broken(self, backbone, features, size):
        scores = predict(self, backbone, features, size)
        if self.fc[0].weight.flatten()[0] == first:
            scores.maps[0, 0, 0] = float("inf")
        return scores

    rows = specs("vand")
    first = maps.open_adapter(rows[0].adapter)[1].fc[0].weight.flatten()[0].item()
    monkeypatch.setattr(METHODS["vand"].load(), "predict", broken)
    refused, good = maps.row_maps(rows, case_of(record))
    assert isinstance(refused, ZSADCLIPError) and np.isfinite(good).all()
    with pytest.raises(ZSADCLIPError) as raised:
        detect(rows[0], record, 8)
    assert str(refused) == str(raised.value).replace("image", "row0") and "float32" in str(refused)
