"""Whole volumes: geometry, thresholds, blank slices, memory, and maps that must not be used."""

import itertools
import json

import numpy as np
import pytest
import torch
from conftest import ORIENTATIONS, stored_as
from small_models import backbone

from ZSADCLIPLib import Detector, Volume, load_adapter
from ZSADCLIPLib.detection.devices import choose_device, choose_dtype
from ZSADCLIPLib.detection.threshold import Threshold
from ZSADCLIPLib.errors import InputError, UsageError, WeightsError, ZSADCLIPError
from ZSADCLIPLib.evaluation.thresholds import reaches
from ZSADCLIPLib.progress import Cancelled
from ZSADCLIPLib.volumes.maptypes import as_stored


def detector(method="vand:random", **options):
    model = backbone("vit")
    return Detector(model, load_adapter(method, model), **{"image_size": 64, **options})


@pytest.fixture(scope="module")
def brain():
    rng = np.random.default_rng(4)
    array = np.zeros((40, 44, 9), np.int16)
    array[6:-6, 5:-5, 1:-1] = rng.integers(20, 900, (28, 34, 7))
    return Volume(array, np.array([[-1.0, 0, 0, 19], [0, -1, 0, 30], [0, 0, 2.5, -4], [0, 0, 0, 1]]), "brain")


@pytest.mark.parametrize("orientation", ORIENTATIONS[::5], ids=str)
def test_the_same_brain_in_another_orientation_gives_the_same_map(brain, orientation):
    expected = stored_as(detector().detect(brain).map, *orientation)
    found = detector().detect(stored_as(brain, *orientation))
    assert np.array_equal(found.map.affine, stored_as(brain, *orientation).affine)
    assert np.array_equal(found.map.array, expected.array)


@pytest.mark.parametrize("method", ["vand:random", "anomalyclip:random", "adaclip:random", "anovl"])
@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_every_plane_and_method_keeps_the_grid(brain, method, plane):
    found = detector(method, plane=plane).detect(brain)
    assert found.map.shape == found.mask.shape == brain.shape
    assert np.array_equal(found.map.affine, brain.affine)
    assert found.map.array.dtype == np.float32 and found.mask.array.dtype == np.uint8
    assert len(found.slice_scores) == found.stack.shape[0]
    assert json.loads(json.dumps(found.to_dict()))["provenance"]["preprocessing"]["plane"] == plane


@pytest.mark.parametrize("options", [{}, {"background": "zero"}, {"threshold": "0.5"}], ids=str)
def test_mask_and_findings_are_cut_from_the_map_as_it_is_stored(brain, options):
    exact = detector(**options).detect(brain)
    found = detector(map_type="int16", **options).detect(brain)
    assert np.array_equal(found.map.array, as_stored(exact.map.array, "int16"))
    assert len(np.unique(found.map.array)) > 1 and not np.array_equal(found.map.array, exact.map.array)
    reached = reaches(as_stored(found.map.array, "int16"), found.threshold)
    assert np.array_equal(found.mask.array > 0, reached & found.brain) and found.mask.array.any()
    assert all(finding.peak in found.map.array for finding in found.findings)
    assert found.provenance["map_type"] == found.map_type == "int16"
    assert exact.provenance["map_type"] == exact.map_type == "float32"


def test_three_pixels_wide_and_one_slice_work(brain):
    for cut in (np.s_[18:21], np.s_[:, :, 4:5]):
        found = detector().detect(Volume(np.ascontiguousarray(brain.array[cut]), brain.affine))
        assert found.map.shape == brain.array[cut].shape


def test_a_volume_of_very_many_slices_is_refused_before_any_work():
    detector = Detector(backbone(), load_adapter("vand:random", backbone()), image_size=64)
    with pytest.raises(InputError, match="has 4097 axial slices; expected at most 4096"):
        detector.detect(Volume(np.ones((1, 1, 4097), np.uint8), np.eye(4), "thin"))


def test_blank_slices_are_scored_once(brain, monkeypatch):
    d, counted = detector(), []
    features = d.adapter.features
    monkeypatch.setattr(d.adapter, "features", lambda b, images: counted.append(len(images)) or features(b, images))
    found = d.detect(brain)
    assert sum(counted) == 8
    assert found.slice_scores[0] == found.slice_scores[-1]
    assert np.array_equal(found.map.array[:, :, 0], found.map.array[:, :, -1])


def test_batch_sizes_agree(brain):
    one, many = (detector(batch_size=n).detect(brain) for n in (1, 8))
    assert np.abs(one.map.array - many.map.array).max() < 1e-5


def test_out_of_memory_halves_the_batch_and_goes_on(brain, monkeypatch):
    d = detector(batch_size=8)
    features, texts = d.adapter.features, []

    def scarce(b, images):
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return features(b, images)

    monkeypatch.setattr(d.adapter, "features", scarce)
    found = d.detect(brain, progress=lambda f, t, *count: texts.append(t))
    assert d.batch_size == 2 and any("batches of 4" in t for t in texts)
    assert np.abs(found.map.array - detector().detect(brain).map.array).max() < 1e-5


def test_a_map_that_is_not_finite_is_never_a_result(brain, monkeypatch):
    d = detector()
    predict = d.adapter.predict

    def broken(*arguments):
        out = predict(*arguments)
        out.maps[0, 0, 0] = float("nan")
        return out

    monkeypatch.setattr(d.adapter, "predict", broken)
    with pytest.raises(ZSADCLIPError, match="not finite.*float32"):
        d.detect(brain)


def test_thresholds(brain):
    fixed = detector(threshold="1.5").detect(brain)
    assert fixed.threshold == 1.5 and np.array_equal(fixed.mask.array > 0, (fixed.map.array >= 1.5) & fixed.brain)
    quantile = detector(threshold="quantile:0.9").detect(brain)
    assert quantile.mask.array.sum() == pytest.approx(0.1 * quantile.brain.sum(), rel=0.02)
    d = detector()
    assert d.detect(brain).threshold_rule.startswith("quantile:0.995")
    d.adapter.provenance = {"threshold": 2.0}
    assert (d.detect(brain).threshold, d.detect(brain).threshold_rule) == (2.0, "checkpoint")
    for text in ("best", "quantile:2", "fixed:", "nan", "checkpoint:1"):
        with pytest.raises(UsageError, match="expected checkpoint, a number"):
            Threshold.parse(text)


def test_min_size_removes_small_findings(brain):
    everything = detector(threshold="quantile:0.9").detect(brain)
    large = detector(threshold="quantile:0.9", min_size_mm3=200).detect(brain)
    assert 0 < len(large.findings) < len(everything.findings)
    assert all(f.volume_mm3 >= 200 for f in large.findings)


def test_brain_mask_limits_mask_and_findings(brain):
    half = np.zeros(brain.shape, bool)
    half[:20] = True
    found = detector(threshold="quantile:0.9").detect(brain, half)
    assert not (found.mask.array.astype(bool) & ~half).any() and found.findings
    with pytest.raises(InputError, match="does not fit"):
        detector().detect(brain, half[:10])


def test_background_zero_only_changes_the_outside(brain):
    keep, zero = detector().detect(brain), detector(background="zero").detect(brain)
    assert np.array_equal(keep.map.array[keep.brain], zero.map.array[zero.brain])
    assert len(np.unique(zero.map.array[~zero.brain])) == 1


def test_few_shot_scores_are_scaled_over_the_volume(brain):
    d = detector()
    _, image, fit = d.prepare(brain)
    d.adapter.remember(d.backbone, d.backbone.preprocess(torch.from_numpy(fit.apply(image)[2:4])))
    found = d.detect(brain)
    assert found.map.array.max() <= d.adapter.display_range(d.backbone)[1]
    assert not np.allclose(found.slice_scores, detector().detect(brain).slice_scores)


def test_cancelling_stops_within_a_batch(brain):
    calls = itertools.count()

    def progress(fraction, text, *count):
        if next(calls) == 2:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        detector(batch_size=1).detect(brain, progress=progress)
    assert next(calls) == 3


@pytest.mark.parametrize(
    "options",
    [{"background": "mean"}, {"batch_size": 0}, {"min_size_mm3": -1}, {"image_size": 8}, {"plane": "oblique"}],
)
def test_bad_options_are_named(brain, options):
    with pytest.raises(UsageError, match=str(next(iter(options.values())))):
        detector(**options).detect(brain)


def test_device_and_precision_choices():
    assert choose_device("cpu") == "cpu" and choose_dtype("auto", "cpu") == "float32"
    with pytest.raises(UsageError, match="tpu"):
        choose_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(WeightsError, match="not available"):
            choose_device("cuda")
    with pytest.raises(UsageError, match="needs a GPU"):
        choose_dtype("float16", "cpu")
