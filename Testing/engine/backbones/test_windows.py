"""Windows: which cells they have, that each is seen alone, what is computed once, and what fast mode leaves out."""

import pytest
import torch
from small_models import backbone

from ZSADCLIPLib.backbones.posembed import resize_positions
from ZSADCLIPLib.backbones.windows import equal_cells, nearest_windows, window_cells, windows_of
from ZSADCLIPLib.errors import UsageError

CPU = torch.device("cpu")


@pytest.fixture
def images():
    return torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(4))


def half_black(model):
    """Two slices of 96 pixels whose right half is black, and a black one."""
    slices = torch.randint(1, 255, (3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    slices[:, :, 48:], slices[2] = 0, 0
    return model.preprocess(slices)


def counted(model, monkeypatch) -> list[int]:
    """How many windows went through the tower, call by call."""
    counts, encode = [], model.vision.encode_windows
    monkeypatch.setattr(
        model.vision,
        "encode_windows",
        lambda images, scale, wanted, pos: counts.append(int(wanted.sum())) or encode(images, scale, wanted, pos),
    )
    return counts


def test_windows_are_in_raster_order_with_their_cells():
    assert window_cells(3, 2, CPU).tolist() == [[0, 1, 3, 4], [1, 2, 4, 5], [3, 4, 6, 7], [4, 5, 7, 8]]
    assert window_cells(15, 2, CPU).shape == (196, 4) and window_cells(15, 3, CPU).shape == (169, 9)
    for scale in (0, 4):
        with pytest.raises(UsageError, match=f"windows of {scale} x {scale} patches do not fit into 3 x 3 patches"):
            window_cells(3, scale, CPU)


def test_cells_are_equal_pixel_by_pixel_and_windows_when_all_of_them_are():
    image = torch.zeros(1, 3, 10, 10)  # 3 x 3 cells of 3 pixels, one pixel is left over
    image[0, 2, 4, 8] = image[0, :, 9, 0] = 1
    cells = equal_cells(image, torch.zeros(1, 3, 10, 10), 3, 3)
    assert cells.tolist() == [[[True] * 3, [True, True, False], [True] * 3]]
    assert windows_of(cells, 2).tolist() == [[True, False, True, False]]


def test_the_nearest_window_of_a_box():
    assert nearest_windows((1, 4, 2, 4), 5, 2, CPU).view(4, 4).tolist() == [[6] * 4, [6] * 4, [10] * 4, [10] * 4]
    assert nearest_windows((4, 5, 0, 1), 5, 3, CPU).tolist() == [6] * 9
    assert nearest_windows((0, 5, 0, 5), 5, 2, CPU).tolist() == list(range(16))


@pytest.mark.parametrize("scale", [1, 2, 3])
@torch.no_grad()
def test_a_window_is_what_open_clips_own_blocks_make_of_its_tokens_alone(images, scale):
    """In particular tokens attend to tokens: attention across the windows would depend on the others."""
    from open_clip.transformer import Transformer

    model = backbone("vit")
    visual = model.model.visual
    width = visual.class_embedding.shape[0]
    blocks = Transformer(width, len(visual.transformer.resblocks), heads=width // 64)
    blocks.load_state_dict(visual.transformer.state_dict())
    found = model.encode_windows(images, scale)
    patches = visual.conv1(images).flatten(2).transpose(1, 2)
    positions = resize_positions(visual.positional_embedding, 6)
    for window in (0, 3, (6 - scale + 1) ** 2 - 1):
        cells = window_cells(6, scale, CPU)[window]
        tokens = torch.cat([visual.class_embedding.expand(2, 1, -1), patches[:, cells]], dim=1)
        tokens = visual.ln_pre(tokens + positions[torch.cat([torch.zeros(1, dtype=int), 1 + cells])])
        for i in range(2):
            alone = visual.ln_post(blocks(tokens[i : i + 1]))[0, 0] @ visual.proj
            torch.testing.assert_close(found[i, window], alone, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("shape", ["vit", "biomed"])
@torch.no_grad()
def test_a_window_of_patches_sees_nothing_else(shape, images):
    model, changed = backbone(shape), images.clone()
    changed[:, :, :16, :16] = 3.0
    before, after = (model.encode_windows(each, 2).view(2, 5, 5, -1) for each in (images, changed))
    torch.testing.assert_close(before.flatten(1, 2)[:, 1:], after.flatten(1, 2)[:, 1:], atol=1e-5, rtol=1e-5)
    assert (before[:, 0, 0] - after[:, 0, 0]).abs().amax() > 1e-2


@torch.no_grad()
def test_windows_of_a_resnet_pool_their_own_cells(images):
    model, grid = backbone("pmc"), backbone("pmc").vision.grid(96)
    found = model.encode_windows(images, 2)
    assert found.shape == (2, (grid - 1) ** 2, 32) and found.std(dim=1).amin() > 0
    # One window of all cells is the pool over the finer stage 4.
    tower = model.vision
    x = tower.visual.stem(images)
    for stage in tower.stages[:3]:
        x = stage(x)
    whole = tower._pool_mean(tower._stage4_fine(x), "bicubic-antialias")
    torch.testing.assert_close(model.encode_windows(images, grid)[:, 0], whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("limit", [1, 13, 8192])
@torch.no_grad()
def test_chunks_change_nothing(images, limit, monkeypatch):
    model = backbone("vit")
    expected = model.encode_windows(images, 3)
    monkeypatch.setattr("ZSADCLIPLib.backbones.vit.WINDOW_TOKENS", limit)
    torch.testing.assert_close(model.encode_windows(images, 3), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", ["vit", "biomed"])
@torch.no_grad()
def test_black_windows_are_computed_once_and_are_the_same(shape, monkeypatch):
    model = backbone(shape, seed=7)
    images = half_black(model)
    counts = counted(model, monkeypatch)
    first = model.encode_windows(images, 2)
    assert counts == [25, 2 * 15]  # a black image, then the windows that reach into the left half
    again = model.encode_windows(images, 2)
    assert counts[2:] == [2 * 15] and torch.equal(first, again)
    everything = torch.ones(3, 25, dtype=torch.bool)
    plain = model.vision.encode_windows(images, 2, everything, "bicubic-antialias").unflatten(0, (3, 25))
    torch.testing.assert_close(first, plain, atol=1e-5, rtol=1e-5)
    model.encode_windows(images[2:], 2)
    assert len(counts) == 4  # the plain pass was the last one


@torch.no_grad()
def test_a_whole_box_changes_nothing_and_others_leave_windows_out(images, monkeypatch):
    model = backbone("vit", seed=8)
    exact = model.encode_windows(images, 2)
    torch.testing.assert_close(model.focused((0, 6, 0, 6)).encode_windows(images, 2), exact, atol=1e-5, rtol=1e-5)
    counts = counted(model, monkeypatch)
    boxed = model.focused((1, 4, 2, 4)).encode_windows(images, 2)
    assert counts == [2 * 2]
    torch.testing.assert_close(boxed, exact[:, nearest_windows((1, 4, 2, 4), 6, 2, CPU)], atol=1e-5, rtol=1e-5)
