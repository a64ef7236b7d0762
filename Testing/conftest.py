"""What every test needs: no network, no display, few threads, and volumes small enough to read as sentences."""

from __future__ import annotations

import os
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" not in os.environ:  # all processes of a run share their text features, and no other run does
    TEXTS = tempfile.TemporaryDirectory(prefix="zsadclip-texts-")
    os.environ["ZSADCLIP_TEXT_CACHE"] = TEXTS.name

import itertools  # noqa: E402
import locale  # noqa: E402

import numpy as np  # noqa: E402
import pytest  # noqa: E402

from ZSADCLIPLib.execution.base import keep_freed_memory  # noqa: E402
from ZSADCLIPLib.volume import Volume  # noqa: E402

keep_freed_memory()  # as the commands do


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Files with long tests first: spread over processes, none of them is left alone at the end."""
    long = {item.path for item in items if item.get_closest_marker("long")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(autouse=True)
def same_locale():
    """No test leaves the process with another locale: text files of the tests after it would be ASCII."""
    before = locale.setlocale(locale.LC_CTYPE)  # Qt sets the other categories, once, when it starts
    yield
    after = locale.setlocale(locale.LC_CTYPE)
    locale.setlocale(locale.LC_CTYPE, before)
    assert after == before


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240917)


@pytest.fixture
def volume(rng) -> Volume:
    """A small RAS volume with an exactly zero margin and anisotropic voxels."""
    array = np.zeros((12, 14, 10), np.float32)
    array[2:-2, 2:-2, 1:-1] = rng.uniform(10, 200, (8, 10, 8)).astype(np.float32)
    return Volume(array, affine((1.0, 1.5, 2.0), (-6.0, 4.0, -9.0)), "small")


@pytest.fixture
def one_figure():
    """Reports get a single figure."""
    from benchmark_cases import figures

    with figures("fig1-dice"):
        yield


@pytest.fixture
def tree(tmp_path):
    """A folder of volumes as people keep them; the files' content does not matter here."""

    def make(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        return tmp_path

    return make


def affine(spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0)) -> np.ndarray:
    """A voxel -> RAS matrix whose axes are right, anterior, superior."""
    out = np.diag([*spacing, 1.0])
    out[:3, 3] = origin
    return out


def stored_as(volume: Volume, permutation, flips) -> Volume:
    """The same brain with its voxels stored along other axes, each possibly backwards."""
    steps = tuple(slice(None, None, -1 if flip else 1) for flip in flips)
    change = np.zeros((4, 4))
    change[3, 3] = 1
    for new, (old, flip) in enumerate(zip(permutation, flips, strict=True)):
        change[old, new] = -1 if flip else 1
        change[old, 3] = volume.shape[old] - 1 if flip else 0
    array = np.ascontiguousarray(volume.array.transpose(permutation)[steps])
    return Volume(array, volume.affine @ change, volume.name)


ORIENTATIONS = list(itertools.product(itertools.permutations(range(3)), itertools.product((False, True), repeat=3)))
