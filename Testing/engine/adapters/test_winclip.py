"""WinCLIP: harmonic means over windows, the memory bank, and what a user may set."""

import numpy as np
import pytest
import torch
from small_models import backbone

from ZSADCLIPLib.adapters.checkpoint import load_adapter
from ZSADCLIPLib.adapters.prompts import load_prompts
from ZSADCLIPLib.adapters.winclip import distances, over_windows
from ZSADCLIPLib.detection.detector import Detector
from ZSADCLIPLib.errors import UsageError
from ZSADCLIPLib.volume import Volume

SIZE = 96


def slices(count, seed=1):
    """Grey slices (count, 96, 96) with a black margin."""
    out = torch.zeros(count, SIZE, SIZE, dtype=torch.uint8)
    generator = torch.Generator().manual_seed(seed)
    out[:, 30:70, 40:90] = torch.randint(1, 255, (count, 40, 50), dtype=torch.uint8, generator=generator)
    return out


def black_windows(image):
    """How many of the 5 x 5 windows of 2 x 2 patches are black."""
    return sum(
        not image[16 * top : 16 * top + 32, 16 * left : 16 * left + 32].any() for top in range(5) for left in range(5)
    )


def adapter_for(shape="vit", **settings):
    return load_adapter("winclip", backbone(shape), settings)


@torch.no_grad()
def few_shot(shape="vit", count=2, **settings):
    adapter, model = adapter_for(shape, **settings), backbone(shape)
    adapter.remember(model, model.preprocess(slices(count, seed=9)))
    return adapter


@pytest.mark.parametrize(("grid", "scale"), [(3, 2), (5, 3), (4, 4), (4, 1)])
def test_a_patch_is_the_harmonic_mean_of_the_windows_that_hold_it(grid, scale):
    places = grid - scale + 1
    values = 0.1 + torch.rand(2, places * places, generator=torch.Generator().manual_seed(0))
    found = over_windows(values, scale)
    assert found.shape == (2, grid, grid)
    for row in range(grid):
        for column in range(grid):
            holding = [
                top * places + left
                for top in range(places)
                for left in range(places)
                if top <= row < top + scale and left <= column < left + scale
            ]
            expected = len(holding) / (1 / values[:, holding]).sum(dim=1)
            torch.testing.assert_close(found[:, row, column], expected)


def test_a_window_of_value_0_makes_its_patches_0_and_no_others():
    values = torch.full((1, 4), 0.5)
    values[0, 0] = 0
    assert over_windows(values, 2)[0].tolist() == [[0, 0, 0.5], [0, 0, 0.5], [0.5, 0.5, 0.5]]


def test_distances_are_those_of_the_nearest_and_never_below_0():
    bank = torch.eye(3)[:2]
    vectors = torch.tensor([[[2.0, 0, 0], [0, -3, 0], [0, 0, 1], [1, 1, 0]]])
    expected = torch.tensor([[0, 0.5, 0.5, (1 - 0.5**0.5) / 2]])
    torch.testing.assert_close(distances(vectors, bank), expected)
    many = torch.nn.functional.normalize(torch.randn(500, 64, generator=torch.Generator().manual_seed(1)), dim=-1)
    same = distances(3 * many[None], many)
    assert same.min() == 0 and same.max() < 1e-6 and not same.signbit().any()


def test_the_prompts_are_231_sentences_and_one_template_counts_twice():
    normal, abnormal = load_prompts("winclip").sentences("brain")
    assert (len(normal), len(abnormal)) == (147, 84)
    assert normal.count("a jpeg corrupted photo of the brain.") == 2 and len(set(normal)) == 140
    assert not any("broken" in sentence for sentence in abnormal) and all(s.endswith(".") for s in normal + abnormal)


@pytest.mark.parametrize("shape", ["vit", "biomed"])
def test_what_it_remembers_is_at_distance_0_and_other_images_are_not(shape):
    model, adapter = backbone(shape), few_shot(shape)
    images = model.preprocess(torch.cat([slices(2, seed=9), slices(1, seed=2)]))
    with torch.no_grad():
        features = adapter.features(model, images)
        grids = adapter.few_shot_grid(features)
        result = adapter.predict(model, features, SIZE)
    assert grids[:2].max() < 1e-3 < grids[2].max() <= 1
    zero = adapter.probability(model, features["embedding"])
    torch.testing.assert_close(result.images, (zero + grids.flatten(1).amax(dim=1)) / 2)
    low, high = adapter.score_range(model)
    assert low <= result.maps.min() and result.maps.max() <= high


@pytest.mark.parametrize("shape", ["vit", "pmc", "biomed"])
def test_few_shot_results_do_not_depend_on_the_batch(shape):
    model, adapter = backbone(shape), few_shot(shape)
    images = model.preprocess(slices(4))
    together = adapter.score(model, images)
    for i in range(4):
        alone = adapter.score(model, images[i : i + 1])
        torch.testing.assert_close(alone.maps[0], together.maps[i], atol=1e-5, rtol=0)


def test_references_may_come_in_several_batches_and_equal_windows_are_kept_once():
    model, images = backbone("vit"), slices(2, seed=9)
    whole, parts = few_shot(), adapter_for()
    for one in images:
        parts.remember(model, model.preprocess(one[None]))
    assert whole.memory["patches"].shape[0] == 2 * 36
    found, expected = (a.score(model, model.preprocess(slices(1))).maps for a in (parts, whole))
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    black = len(parts.memory["windows2"]) - len(whole.memory["windows2"])
    assert len(parts.memory["windows2"]) == 2 * 25 and black == black_windows(images[0])


def test_the_final_norm_of_reference_patches_is_an_option():
    model, images = backbone("vit"), slices(1)
    maps = [few_shot(reference_norm=on).score(model, model.preprocess(images)).maps for on in (True, False)]
    assert (maps[0] - maps[1]).abs().max() > 1e-5


def test_features_with_patches_are_not_taken_for_those_without():
    plain, remembering = adapter_for(), few_shot()
    assert plain.feature_settings() != remembering.feature_settings()
    images = backbone("vit").preprocess(slices(1))
    assert set(remembering.features(backbone("vit"), images)) - set(plain.features(backbone("vit"), images)) == {
        "patches"
    }


@pytest.mark.parametrize("memory", [False, True])
def test_the_colour_scale_lies_inside_what_scores_can_be(memory):
    adapter = few_shot() if memory else adapter_for()
    (low, high), (least, most) = adapter.display_range(backbone("vit")), adapter.score_range(backbone("vit"))
    assert 0 <= least < low < high < most <= 1
    scores = adapter.score(backbone("vit"), backbone("vit").preprocess(slices(3)))
    assert least <= scores.maps.min() and scores.maps.max() <= most


@pytest.mark.parametrize("scales", [[], [2, 2]])
def test_scales_that_make_no_sense_are_refused(scales):
    with pytest.raises(UsageError, match="scales .*: expected sides of windows in patches, each once"):
        adapter_for(scales=scales)


def test_windows_that_do_not_fit_the_image_are_refused():
    with pytest.raises(UsageError, match="windows of 7 x 7 patches do not fit into 6 x 6 patches"):
        adapter_for(scales=[2, 7]).score(backbone("vit"), backbone("vit").preprocess(slices(1)))


def test_a_volume_with_references():
    def brain(seed, lesion=0):
        array = np.zeros((SIZE, SIZE, 3), np.float32)
        array[30:70, 30:70] = 100 + 20 * np.random.default_rng(seed).standard_normal((40, 40, 3))
        array[44:60, 44:60] += lesion
        return Volume(array, np.eye(4), "brain")

    model, adapter = backbone("vit"), adapter_for()
    detector = Detector(model, adapter, image_size=SIZE, crop="none")
    zero_shot = [detector.detect(volume) for volume in (brain(1), brain(3, lesion=150))]
    detector.remember(brain(1))
    detector.remember(brain(2))
    few_shot = [detector.detect(volume) for volume in (brain(1), brain(3, lesion=150))]
    assert adapter.memory["patches"].shape[0] == 6 * 36
    known, other = (2 * b.map.array - a.map.array for a, b in zip(zero_shot, few_shot, strict=True))
    assert 20 * np.abs(known).max() < other.max() <= 1
    assert few_shot[1].threshold_rule == "quantile:0.995 over brain voxels"
