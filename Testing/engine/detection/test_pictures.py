"""Pictures show the slices that matter, on a scale that can be compared."""

from __future__ import annotations

import subprocess
import sys
from html.parser import HTMLParser
from types import SimpleNamespace
from urllib.parse import unquote

import numpy as np
import pytest
from conftest import affine
from PIL import Image
from work import calls

from ZSADCLIPLib.detection.pictures import display, montage, montage_of, top_slices
from ZSADCLIPLib.errors import InputError, UsageError
from ZSADCLIPLib.report.page import write_page
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.slicing import slice_volume


@pytest.fixture
def case(rng):
    """A grey stack with a hot spot in slice 9 and a smaller one in slice 3."""
    image = rng.integers(80, 120, (14, 40, 30), dtype=np.uint8)
    map = np.full(image.shape, 0.1, np.float32)
    map[9, 10:20, 10:20] = 0.9
    map[3, 10:13, 10:13] = 0.8
    return image, map


def colours(path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_display_is_linear_between_the_ends_and_clipped_outside():
    assert display(np.array([-5, 1, 2, 3, 9]), 1, 3).tolist() == [0, 0, 0.5, 1, 1]
    scores = np.sort(np.random.default_rng(0).normal(size=100))
    assert (np.diff(display(scores, -1, 1)) >= 0).all()
    with pytest.raises(UsageError, match="low < high"):
        display(scores, 1, 1)


def test_top_slices_are_the_hottest_and_lie_apart(case):
    _, map = case
    assert top_slices(map, count=2) == [9, 3]
    assert top_slices(map, map > 0.85, count=2) == [9, 3]
    wide = np.zeros((40, 8, 8), np.float32)
    wide[20:24] = 5
    wide[10, :2] = 3
    chosen = top_slices(wide, wide > 1, count=3, gap=4)
    assert chosen[:2] == [20, 10]
    assert np.diff(sorted(chosen)).min() >= 4


def test_the_mask_comes_before_single_hot_pixels(case):
    _, map = case
    map = map.copy()
    map[0, 0, 0] = 50
    mask = np.zeros(map.shape, bool)
    mask[3, 10:13, 10:13] = True
    assert top_slices(map, mask, count=1) == [3]


@pytest.mark.parametrize("seed", range(6))
def test_slices_are_ordered_by_mask_area_and_percentile_whatever_is_looked_at_first(seed):
    rng = np.random.default_rng(seed)
    map = rng.integers(0, 9, (24, 10, 9)).astype(np.float32)
    brain = rng.random(map.shape) < 0.7
    mask = (map > 7) & brain & (np.arange(24) % 4 == seed % 3)[:, None, None] & (rng.random(map.shape) < 0.1 * seed)
    seen = np.where(brain, map, map.min())
    score, area = np.percentile(seen.reshape(24, -1), 99.9, axis=1), mask.sum(axis=(1, 2))
    inside = np.where(mask, seen - seen[mask].min(), 0).sum(axis=(1, 2)) if mask.any() else area
    expected = np.lexsort((-score, -area, -inside)).tolist()
    assert top_slices(map, mask, 24, 1, brain) == top_slices(seen, mask, 24, 1) == expected
    assert top_slices(map, mask, 2, 1, brain) == expected[:2]


def test_all_slices_when_there_are_few():
    assert sorted(top_slices(np.zeros((2, 4, 4)), count=4)) == [0, 1]


def test_the_montage_shows_image_map_and_outlines(tmp_path, case):
    image, map = case
    plain, full = tmp_path / "plain.png", tmp_path / "full.png"
    montage(plain, image, map * 0, slices=[9, 3])
    montage(full, image, map, map > 0.5, map > 0.85, slices=[9, 3], title="a case")
    before, after = colours(plain), colours(full)
    assert before.shape == after.shape
    third = after.shape[1] // 3
    changed = (before != after).any(2)
    rows = slice(after.shape[0] // 10, None)
    assert not changed[rows, : third - 40].any()
    cyan = (after[..., 0] < 60) & (after[..., 1] > 180) & (after[..., 2] > 200)
    green = (after[..., 0] > 90) & (after[..., 1] > 220) & (after[..., 2] < 60)
    assert cyan.sum() > 50 < green.sum()
    assert np.argwhere(cyan)[:, 1].min() > third


def test_opacity_follows_the_score(tmp_path, case):
    image, map = case
    montage(tmp_path / "off.png", image, map, slices=[9], display_range=(1, 2))
    montage(tmp_path / "none.png", image, map * 0, slices=[9], display_range=(1, 2))
    assert np.array_equal(colours(tmp_path / "off.png"), colours(tmp_path / "none.png"))


def test_the_map_is_drawn_inside_the_brain_only(tmp_path, case):
    image, map = case
    nowhere = np.zeros(map.shape, bool)
    montage(tmp_path / "out.png", image, map, brain=nowhere, slices=[9])
    montage(tmp_path / "none.png", image, map * 0, slices=[9])
    assert np.array_equal(colours(tmp_path / "out.png"), colours(tmp_path / "none.png"))
    half = nowhere.copy()
    half[3] = True
    montage(tmp_path / "half.png", image, map, brain=half)
    montage(tmp_path / "named.png", image, map, brain=half, slices=top_slices(np.where(half, map, 0.1)))
    assert np.array_equal(colours(tmp_path / "half.png"), colours(tmp_path / "named.png"))


@pytest.mark.parametrize("shape", [(1, 30, 30), (5, 3, 50), (5, 50, 3), (4, 1, 30), (4, 1, 1)])
def test_odd_shapes(tmp_path, shape, rng):
    image = rng.integers(0, 256, shape, dtype=np.uint8)
    map = rng.random(shape).astype(np.float32)
    montage(tmp_path / "x.png", image, map, map > 0.5, map > 2, spacing=(1, 4))
    assert min(colours(tmp_path / "x.png").shape[:2]) > 100


def test_the_aspect_follows_the_spacing(tmp_path):
    image = np.zeros((1, 20, 40), np.uint8)
    image[0, 5:15, 10:30] = 200  # 10 rows of 2 mm and 20 columns of 1 mm: a square
    montage(tmp_path / "x.png", image, image * 0.0, spacing=(2.0, 1.0))
    picture = colours(tmp_path / "x.png")
    square = (picture[:, : picture.shape[1] // 4] == 200).all(2)
    assert square.any(0).sum() == pytest.approx(square.any(1).sum(), rel=0.03)
    assert square.sum() > 1000


def test_different_shapes_are_refused(tmp_path, case):
    image, map = case
    with pytest.raises(InputError, match="truth"):
        montage(tmp_path / "x.png", image, map, truth=map[1:] > 0)
    assert not list(tmp_path.iterdir())


def test_a_detection_is_drawn_in_its_own_plane(tmp_path, rng):
    volume = Volume(rng.random((20, 24, 16)).astype(np.float32), affine())
    stack = slice_volume(volume, "coronal")
    detection = SimpleNamespace(
        stack=stack,
        image=(stack.array * 255).astype(np.uint8),
        map=volume,
        mask=volume.with_array((volume.array > 0.99).astype(np.uint8)),
        brain=np.ones(volume.shape, bool),
        notes=(),
        display={"lo": 0.0, "hi": 1.0},
    )
    montage_of(tmp_path / "x.png", detection, volume.array > 0.9, "coronal")
    assert Image.open(tmp_path / "x.png").format == "PNG"


def test_more_slices_are_no_more_work_to_draw(tmp_path, rng):
    counts = []
    for slices in (20, 80):
        image = rng.integers(0, 256, (slices, 48, 48), dtype=np.uint8)
        map = rng.random(image.shape).astype(np.float32)
        montage(tmp_path / "x.png", image, map, map > 0.999)  # what is imported late is there
        counts.append(calls(lambda: montage(tmp_path / "x.png", image, map, map > 0.999)))  # noqa: B023
    assert counts[1] < 1.5 * counts[0]


def test_a_page_escapes_what_comes_from_files(tmp_path):
    evil = "<img src=x onerror=alert(1)>'\"&"
    finding = {
        "rank": 1,
        "volume_mm3": 5,
        "peak": 1,
        "mean": 1,
        "side": evil,
        "slices": [1, 2],
        "centroid_ras": [0, 0, 0],
    }
    case = {"id": evil, "summary": {"dice": 0.5}, "volume_score": 1.0, "threshold": 0.5, "threshold_rule": evil}
    case |= {"findings": [finding], "provenance": {evil: {"image": [evil]}}}
    (tmp_path / f"{evil}.png").write_bytes(b"")
    write_page(tmp_path / "index.html", [case], evil)
    page = (tmp_path / "index.html").read_text("utf-8")
    tags = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag, attributes):
            tags.append((tag, dict(attributes)))

    Tags().feed(page)
    images = [attributes for tag, attributes in tags if tag == "img"]
    assert [set(image) for image in images] == [{"src", "alt"}] and evil in images[0]["alt"]
    assert unquote(images[0]["src"]) == f"{evil}.png"
    assert page.count("&lt;img") >= 5 and not [a for _, a in tags for name in a if name.startswith("on")]


def test_pictures_findings_and_inputs_import_no_torch():
    modules = "findings inputs outputs pictures summary"
    code = f"import sys\nfor m in {modules.split()}: __import__('ZSADCLIPLib.detection.' + m)\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)
