"""Cells of millimetres, and tokens averaged over them whatever planes, spacing and patches there are."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import affine, stored_as
from small_models import backbone

from ZSADCLIPLib.errors import InputError, UsageError, ZSADCLIPError
from ZSADCLIPLib.neighbours.cells import CellGrid
from ZSADCLIPLib.neighbours.tokens import TokenSettings, projection, units, volume_tokens
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.slicing import slice_volume

PLAIN = dict(intensity="window", window=(0.0, 255.0), crop="none", projection=0)


class MeanTower:
    """A backbone whose token of a patch is (mean grey level, 1), so that means over cells can be told from tokens."""

    name, device, dtype = "mean", torch.device("cpu"), torch.float32

    def __init__(self, patch):
        self.vision = SimpleNamespace(
            prefix=0, depth=1, patch=patch, tap_width=lambda layer: 2, grid=lambda size, layer=None: size // patch
        )
        self.vision.cell = lambda size, cells: patch

    def preprocess(self, slices):
        return slices.float()[:, None]

    def encode_image(self, images, taps):
        means = torch.nn.functional.avg_pool2d(images, self.vision.patch).flatten(1)
        return SimpleNamespace(taps={layer: torch.stack([means, torch.full_like(means, 255)], -1) for layer in taps})

    def describe(self):
        return {"dtype": "float32"}


@pytest.fixture
def cube(rng):
    """A cube of 32 mm, of random grey levels."""
    return Volume(rng.integers(0, 256, (32, 32, 32)).astype(np.float32), affine(), "cube")


def levels(tokens, column=0):
    """The grey level behind the tokens of MeanTower, of one plane of several."""
    return 255 * tokens.tokens[:, column].astype(float) / tokens.tokens[:, column + 1]


def grid_of(tokens, values):
    out = np.full(tokens.cells.max(axis=0) + 1, np.nan)
    out[tuple(tokens.cells.T)] = values
    return out


def everywhere(volume):
    return np.ones(volume.shape, bool)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_a_token_is_the_mean_over_its_cell_in_every_plane(cube, plane):
    settings = TokenSettings(
        cell_mm=8, planes=("axial", plane) if plane != "axial" else ("axial",), image_size=32, **PLAIN
    )
    found = volume_tokens(MeanTower(4), cube, settings, everywhere(cube))
    means = slice_volume(cube).array.reshape(4, 8, 4, 8, 4, 8).mean(axis=(1, 3, 5))
    assert found.cells.shape == (64, 3) and found.tokens.dtype == np.float16
    for column in range(0, found.tokens.shape[1], 2):
        np.testing.assert_allclose(grid_of(found, levels(found, column)), means, atol=0.4)


def test_cells_are_of_millimetres_whatever_the_spacing(cube):
    thick = Volume(cube.array[:, :, ::2], affine((1, 1, 2.0)), "thick")
    found = volume_tokens(MeanTower(4), thick, TokenSettings(image_size=32, **PLAIN), everywhere(thick))
    means = slice_volume(thick).array.reshape(4, 4, 4, 8, 4, 8).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(grid_of(found, levels(found)), means, atol=0.4)


def test_patches_that_do_not_fit_into_cells_are_shared_by_overlap(cube):
    settings = TokenSettings(cell_mm=6, image_size=32, **PLAIN)
    found = volume_tokens(MeanTower(4), cube, settings, everywhere(cube))
    slices = slice_volume(cube).array
    field = slices.reshape(32, 8, 4, 8, 4).mean(axis=(2, 4)).repeat(4, 1).repeat(4, 2)
    for (n, r, c), level in zip(found.cells * 6, levels(found), strict=True):
        assert level == pytest.approx(field[n : n + 6, r : r + 6, c : c + 6].mean(), abs=0.4)
    assert len(found.cells) == 6**3


def test_only_cells_that_are_brain_to_a_half_have_tokens(cube):
    brain = np.zeros(cube.shape, bool)
    brain[:, 4:, :12] = True
    found = volume_tokens(MeanTower(4), cube, TokenSettings(image_size=32, **PLAIN), brain)
    stack = slice_volume(cube)
    share = stack.arrange(brain).reshape(4, 8, 4, 8, 4, 8).mean(axis=(1, 3, 5))
    assert np.array_equal(np.argwhere(share >= 0.5), found.cells) and 0 < len(found.cells) < 64
    with pytest.raises(InputError, match="smaller cells"):
        volume_tokens(MeanTower(4), cube, TokenSettings(cell_mm=32, image_size=32, **PLAIN), brain)


@pytest.mark.parametrize("planes", [("axial",), ("coronal", "axial", "sagittal")])
def test_storage_changes_no_bit_and_the_batch_next_to_nothing(volume, planes):
    settings = TokenSettings(cell_mm=4, planes=planes, image_size=64, projection=20)
    model, brain = backbone(), volume.array > 0
    plain = volume_tokens(model, volume, settings, brain)
    for permutation, flips in (((2, 0, 1), (1, 0, 1)), ((1, 2, 0), (0, 1, 0)), ((0, 1, 2), (1, 1, 1))):
        other = stored_as(volume, permutation, flips)
        found = volume_tokens(model, other, settings, other.array > 0)
        assert np.array_equal(found.cells, plain.cells) and np.array_equal(found.tokens, plain.tokens)
    singly = volume_tokens(model, volume, settings, brain, batch_size=1)
    np.testing.assert_allclose(singly.tokens.astype(float), plain.tokens.astype(float), atol=2e-3)
    np.testing.assert_allclose(np.linalg.norm(plain.tokens.astype(float), axis=1), 1, atol=2e-3)
    torch.testing.assert_close(plain.units().norm(dim=1), torch.ones(len(plain.cells)))


def test_fast_mode_sees_the_same_where_the_brain_fills_the_square(cube):
    settings = dict(cell_mm=8, image_size=64, intensity="window", window=(0.0, 255.0))
    model = backbone()
    exact, fast = (
        volume_tokens(model, cube, TokenSettings(fast=fast, **settings), everywhere(cube)) for fast in (False, True)
    )
    np.testing.assert_allclose(fast.tokens.astype(float), exact.tokens.astype(float), atol=2e-3)
    with pytest.raises(UsageError, match="fast mode"):
        volume_tokens(backbone("pmc"), cube, TokenSettings(fast=True, **settings), everywhere(cube))


def test_tokens_that_are_not_finite_are_refused(cube):
    class Broken(MeanTower):
        def encode_image(self, images, taps):
            found = super().encode_image(images, taps)
            found.taps[1][0, 0] = float("nan")
            return found

    with pytest.raises(ZSADCLIPError, match="not finite"):
        volume_tokens(Broken(4), cube, TokenSettings(image_size=32, **PLAIN), everywhere(cube))


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"planes": ()}, "planes none"),
        ({"planes": ("axial", "axial")}, "each once"),
        ({"intensity": "bright"}, "bright"),
        ({"crop": -1}, "crop"),
    ],
)
def test_settings_that_cannot_be_are_named(wrong, words):
    with pytest.raises(UsageError, match=words):
        TokenSettings(**wrong)


def test_a_projection_keeps_angles_and_comes_from_its_seed(rng):
    vectors = rng.standard_normal((50, 512)).astype(np.float32)
    first, again, other = (projection(512, 64, seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)
    before, after = (units(each) @ units(each).T for each in (vectors, vectors @ first))
    assert (before - after).abs().mean() < 0.13
    assert projection(64, 64, 0) is None and projection(512, 0, 0) is None


def test_maps_are_linear_between_the_centres_of_cells(volume):
    stack = slice_volume(volume)
    grid = CellGrid(stack, 4.0)
    assert grid.shape == (5, 6, 3)  # 20 mm of slices, 21 mm of rows, 12 mm of columns
    cells = np.argwhere(np.ones(grid.shape, bool))
    drawn = stack.arrange(grid.draw(cells, cells[:, 1].astype(np.float32)))
    at = np.clip((np.arange(14) + 0.5) * 1.5 / 4 - 0.5, 0, 5)
    np.testing.assert_allclose(drawn, np.broadcast_to(at[None, :, None], drawn.shape), atol=1e-5)
    assert drawn.dtype == np.float32
    one = grid.draw(cells[:1], np.array([0.5], np.float32))
    np.testing.assert_allclose(one, 0.5, atol=1e-6)


def test_cells_have_a_size_and_a_number_that_can_be(volume):
    stack = slice_volume(volume)
    for size in (0, -1, float("inf"), float("nan")):
        with pytest.raises(UsageError, match="more than 0"):
            CellGrid(stack, size)
    with pytest.raises(InputError, match="too small"):
        CellGrid(stack, 0.01)
