"""A new backbone family is one tower file and one entry of BACKBONES: it loads by name, and every method runs on it."""

import numpy as np
import pytest
import torch
from toy_backbone import ENTRY, NAME

from ZSADCLIPLib import Detector, load_adapter, load_backbone
from ZSADCLIPLib.adapters import METHODS
from ZSADCLIPLib.backbones import BACKBONES
from ZSADCLIPLib.backbones.weights import status
from ZSADCLIPLib.errors import UsageError


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(BACKBONES, NAME, ENTRY)
    return load_backbone(NAME, "random:1")


def test_it_loads_by_name_with_its_own_tower_and_from_its_file(toy, tmp_path):
    assert (toy.name, toy.kind, toy.native_size, toy.embed_dim) == (NAME, "toy", 32, 8)
    assert load_backbone(NAME, "random:1").fingerprint == toy.fingerprint != load_backbone(NAME, "random:2").fingerprint
    assert {row["name"]: row["state"] for row in status(tmp_path)}[NAME] == "missing"
    torch.save(toy.model.state_dict(), tmp_path / "toy.pt")
    stored = load_backbone(NAME, weights_dir=tmp_path)
    assert (stored.fingerprint, stored.weights) == (toy.fingerprint, "toy.pt")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_scores_on_it(toy, method):
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    adapter = load_adapter(f"{method}:random", toy)
    scores = adapter.score(toy, images)
    assert scores.maps.shape == (2, 64, 64) and scores.maps.isfinite().all() and scores.maps.std() > 0
    assert adapter.adaptations(toy)  # it has no sequence of tokens


def test_a_volume_is_detected_and_fast_mode_refused(toy, volume):
    adapter = load_adapter("vand:random", toy)
    found = Detector(toy, adapter, image_size=64).detect(volume)
    assert found.map.array.shape == volume.shape and np.isfinite(found.map.array).all()
    assert found.provenance["backbone"]["kind"] == "toy"
    with pytest.raises(UsageError, match="fast mode"):
        Detector(toy, adapter, image_size=64, fast=True)
