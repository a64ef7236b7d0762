"""Frozen features on disk: what does not fit is refused before it is computed."""

import errno
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_models import backbone

from ZSADCLIPLib.checkpoint import load_adapter
from ZSADCLIPLib.errors import OutputError
from ZSADCLIPLib.features import FeatureCache


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
    short.fill(4, lambda fraction, text: told.append(text))
    assert told.count("out of memory: going on with batches of 2") == 1
    rows = np.arange(7)
    for key, value in plain(rows).items():
        torch.testing.assert_close(short(rows)[key], value, atol=1e-5, rtol=1e-4)
    limit = 0
    with pytest.raises(RuntimeError, match="out of memory"):
        short.fill(4)
