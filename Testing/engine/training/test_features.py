"""Frozen features: what they are keyed by, and that what does not fit the disk is refused before it is computed."""

import errno
import os
import shutil
from dataclasses import dataclass, fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_models import backbone

from ZSADCLIPLib.adapters import METHODS
from ZSADCLIPLib.adapters.checkpoint import load_adapter
from ZSADCLIPLib.adapters.vand import VAND, VANDConfig
from ZSADCLIPLib.errors import OutputError
from ZSADCLIPLib.training.features import FeatureCache
from ZSADCLIPLib.training.fit import SliceSet, fit
from ZSADCLIPLib.training.schedule import Schedule

KEYS = {
    "vand": {"layers", "reference_layers", "pos_embed"},
    "anomalyclip": {"layers", "vv_blocks", "pos_embed"},
    "adaclip": {"layers", "kind", "pos_embed"},
    "anovl": {"vv_blocks", "score_views", "pos_embed"},
    "linear-probe": {"layers", "pos_embed"},
    "winclip": {"scales", "reference_norm", "pos_embed"},
    "mediclip": {"layers", "pos_embed"},
    "mvfa": {"layers", "normalise", "pos_embed"},
    "madclip": {"layers", "pos_embed"},
}
PROMPTS = {"label": "other", "normal": ["healthy {}"], "abnormal": ["sick {}"], "templates": ["{}"]}
OTHER = {
    "layers": (1, 2),
    "reference_layers": (1,),
    "scales": (3,),
    "vv_blocks": 1,
    "score_views": "identity",
    "kind": "S",
    "normalise": "clip",
    "supervision": "labels",
    "scaling": "batch",
    "object_name": "liver",
    "prompts": PROMPTS,
    "depth": 2,
    "deep_depth": 2,
    "upsample": "centres",
    "branch": "L",
    "optimizer": "persistent",
    "dice": "rows",
    "positions": ("front",),
    "attention": "causal",
}
"""A value of each field that is not its default; numbers and switches are changed by rule."""


def other_value(field):
    if field.name == "pos_embed":
        return "bilinear" if field.default != "bilinear" else "bicubic"
    if field.name in OTHER:
        return OTHER[field.name]
    if field.default == ():
        return (4.0,)
    return not field.default if isinstance(field.default, bool) else field.default + 1


def config_fields(method):
    return fields(METHODS[method].load().Config)


CHANGES = [(method, field) for method in METHODS for field in config_fields(method)]


def source(method):
    return f"{method}:random" if METHODS[method].trainable else method


@pytest.mark.parametrize("method", METHODS)
def test_what_is_declared_irrelevant_to_features_exists(method):
    names = {field.name for field in config_fields(method)}
    assert METHODS[method].load().not_in_features <= names
    assert set(load_adapter(source(method), backbone()).feature_settings()) == KEYS[method]


@pytest.mark.parametrize(("method", "field"), CHANGES, ids=lambda value: getattr(value, "name", value))
def test_a_changed_setting_has_features_of_its_own_unless_they_are_the_same(method, field):
    model, change = backbone(), {field.name: other_value(field)}
    plain, changed = (load_adapter(source(method), model, settings) for settings in ({}, change))
    assert plain.config != changed.config
    if field.name in KEYS[method]:
        assert plain.feature_settings() != changed.feature_settings()
        return
    assert plain.feature_settings() == changed.feature_settings()
    rng = np.random.default_rng(0)
    images = model.preprocess(torch.from_numpy(rng.integers(0, 255, (2, 64, 64)).astype(np.uint8)))
    expected, found = plain.features(model, images), changed.features(model, images)
    assert expected.keys() == found.keys() and all(torch.equal(expected[key], found[key]) for key in expected)


@dataclass(frozen=True)
class SharpenedConfig(VANDConfig):
    gain: float = 1.0


class Sharpened(VAND):
    """A method whose config has a field that none of the others knows."""

    Config = SharpenedConfig

    def features(self, backbone, images):
        return {key: value * self.config.gain for key, value in super().features(backbone, images).items()}


def test_a_new_field_is_part_of_the_key(tmp_path):
    rng = np.random.default_rng(0)
    data = SliceSet(rng.integers(0, 255, (4, 64, 64)).astype(np.uint8), rng.random((4, 64, 64)) > 0.9)
    first = Sharpened(SharpenedConfig(), backbone())
    again, other = (Sharpened(replace(first.config, **change), backbone()) for change in ({"epochs": 9}, {"gain": 2.0}))
    assert first.feature_settings() == again.feature_settings() != other.feature_settings()
    for count, adapter in ((1, first), (1, again), (2, other)):
        fit(adapter, backbone(), data, Schedule(1, 2, cache="disk"), features=tmp_path / "features")
        assert len(list((tmp_path / "features").glob("*/complete.json"))) == count


def fill(folder):
    images = np.random.default_rng(0).integers(0, 255, (6, 64, 64)).astype(np.uint8)
    FeatureCache(load_adapter("vand:random", backbone()), backbone(), images, folder / "features").fill(3)


@pytest.mark.parametrize("fault", ["free space", "reserving"])
def test_a_cache_that_does_not_fit_the_disk_is_refused_before_it_is_written(fault, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    if fault == "free space":
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    else:
        monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OutputError, match=r"take 0.1 MB and the disk of .* has .* MB left.*disk-half, memory or none"):
        fill(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_file_system_that_cannot_reserve_will_do(tmp_path, monkeypatch):
    def cannot(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", cannot, raising=False)
    fill(tmp_path)
    assert (tmp_path / "features" / "complete.json").is_file()


@pytest.mark.parametrize("limit", [1, 2])
def test_features_are_computed_in_halved_batches_when_memory_runs_out(limit, monkeypatch):
    images = np.random.default_rng(0).integers(0, 255, (7, 64, 64)).astype(np.uint8)
    adapter, told = load_adapter("vand:random", backbone()), []
    plain, short = (FeatureCache(adapter, backbone(), images) for _ in range(2))
    plain.fill(4)
    compute = short._compute

    def scarce(rows):
        if len(rows) > limit:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return compute(rows)

    monkeypatch.setattr(short, "_compute", scarce)
    short.fill(4, lambda fraction, text, *count: told.append(text))
    assert told.count("out of memory: going on with batches of 2") == 1
    rows = np.arange(7)
    for key, value in plain(rows).items():
        torch.testing.assert_close(short(rows)[key], value, atol=1e-5, rtol=1e-4)
    limit = 0
    with pytest.raises(RuntimeError, match="out of memory"):
        short.fill(4)
