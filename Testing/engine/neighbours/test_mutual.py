"""Mutual scores: what must hold exactly, and the corners that the golden cases of MuSc do not have."""

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from ZSADCLIPLib.errors import InputError, UsageError
from ZSADCLIPLib.neighbours.lnamd import aggregate
from ZSADCLIPLib.neighbours.mutual import (
    image_scores,
    mutual_distances,
    mutual_scores,
    nearest,
    positions,
    rescored,
    score_maps,
)


def units(seed, *shape, dtype=torch.float64):
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype), dim=-1)


@pytest.fixture
def batch():
    """Six images of different numbers of unit tokens."""
    return [units(n, 40 + 7 * n, 16) for n in range(6)]


def test_nearest_distances_are_those_of_all_pairs_whatever_the_chunk(batch):
    whole = torch.cdist(batch[0], batch[1])
    for chunk in (1, 7, 40, 2048):
        rows, columns = nearest(batch[0], batch[1], chunk=chunk)
        torch.testing.assert_close(rows, whole.amin(1), atol=1e-12, rtol=0)
        torch.testing.assert_close(columns, whole.amin(0), atol=1e-12, rtol=0)


def test_only_references_are_nearest(batch):
    whole = torch.cdist(batch[0], batch[1])
    for chunk in (3, 10, 64):
        rows, columns = nearest(batch[0], batch[1], references=(10, 5), chunk=chunk)
        torch.testing.assert_close(rows, whole[:, :5].amin(1), atol=1e-12, rtol=0)
        torch.testing.assert_close(columns, whole[:10].amin(0), atol=1e-12, rtol=0)
    with pytest.raises(InputError, match="0 references"):
        nearest(batch[0], batch[1], references=(3, 0))


def test_each_pair_is_computed_once_for_both(batch, monkeypatch):
    from ZSADCLIPLib.neighbours import mutual

    pairs, real = [], mutual.nearest
    monkeypatch.setattr(mutual, "nearest", lambda a, b, **how: pairs.append((len(a), len(b))) or real(a, b, **how))
    found = mutual_distances(batch)
    assert len(pairs) == 15 and len(set(pairs)) == 15
    for i, one in enumerate(batch):
        others = [torch.cdist(one, other).amin(1) for j, other in enumerate(batch) if j != i]
        torch.testing.assert_close(found[i], torch.stack(others, 1), atol=1e-12, rtol=0)


def test_the_order_of_images_does_not_matter(batch):
    order = [3, 0, 5, 1, 4, 2]
    scores = [mutual_scores(found) for found in mutual_distances(batch)]
    turned = [mutual_scores(found) for found in mutual_distances([batch[n] for n in order], chunk=13)]
    for n, each in zip(order, turned, strict=True):
        torch.testing.assert_close(each, scores[n], atol=2e-6, rtol=0)
    single = [mutual_scores(found) for found in mutual_distances([each.float() for each in batch], chunk=13)]
    for one, other in zip(single, scores, strict=True):
        torch.testing.assert_close(one.double(), other, atol=2e-6, rtol=0)


def test_a_twin_is_at_distance_zero(batch):
    for tokens in (batch[2], batch[2].float()):
        rows, columns = nearest(tokens, tokens.clone())
        assert max(rows.max(), columns.max()) < 5e-4
    assert nearest(batch[2], batch[2].clone())[0].max() < 1e-7


@pytest.mark.parametrize(
    "others, low, high, expected",
    [
        (7, 0, 0.3, (0, 2)),  # 2.1, rounded down
        (11, 0.1, 0.6, (1, 6)),
        (11, 0.6, 0.1, (1, 6)),
        (3, 0, 0.3, (0, 1)),  # nothing in the authors' code
        (1, 0.5, 0.9, (0, 1)),
        (10, 0, 1, (0, 1)),  # from 1 on it is a count
        (10, 0.5, 10, (5, 10)),
        (10, 0, 99, (0, 10)),
        (10, 99, 99, (9, 10)),
    ],
)
def test_the_interval_is_rounded_down_and_never_empty(others, low, high, expected):
    assert positions(others, low, high) == expected


def test_scores_are_means_of_the_interval():
    distances = torch.tensor([[4.0, 1.0, 3.0, 2.0], [8.0, 7.0, 6.0, 5.0]])
    assert mutual_scores(distances, 0, 2).tolist() == [1.5, 5.5]
    assert mutual_scores(distances, 0.5, 4).tolist() == [3.5, 7.5]
    assert mutual_scores(distances, 0, 4).tolist() == [2.5, 6.5]
    with pytest.raises(UsageError, match="-1"):
        mutual_scores(distances, -1, 2)


def test_few_images_are_scored_with_a_warning():
    three = units(0, 3, 9, 8)
    with pytest.warns(UserWarning, match="3 images"):
        scores = image_scores([three])
    assert scores.shape == (3, 9) and scores.isfinite().all()
    torch.testing.assert_close(scores[0], torch.cdist(three[0], three[1:].flatten(0, 1)).amin(1))
    with pytest.raises(InputError, match="1 images"):
        mutual_distances([three[0]])


def test_aggregation_counts_zeros_beyond_the_border():
    tokens = torch.randn(2, 16, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    flat = tokens.flatten(1)
    plain = (flat - flat.mean(1, keepdim=True)) / (flat.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    grid = np.pad(plain.view(2, 4, 4, 3).numpy(), [(0, 0), (1, 1), (1, 1), (0, 0)])
    mean = sum(grid[:, r : r + 4, c : c + 4] for r in range(3) for c in range(3)) / 9
    expected = mean / np.linalg.norm(mean, axis=-1, keepdims=True)
    np.testing.assert_allclose(aggregate(tokens, 3), expected.reshape(2, 16, 3), atol=1e-12)
    torch.testing.assert_close(aggregate(tokens, 1), normalize(plain.view(2, 16, 3), dim=-1))
    for degree in (0, 2):
        with pytest.raises(UsageError, match="odd number"):
            aggregate(tokens, degree)


def test_maps_keep_the_corners():
    maps = score_maps(torch.arange(9, dtype=torch.float64)[None], 5)
    assert maps.shape == (1, 5, 5) and maps[0, 0, 0] == 0 and maps[0, -1, -1] == 8
    assert maps[0, 0].tolist() == [0, 0.5, 1, 1.5, 2]


def test_rescoring_averages_over_images_that_look_alike():
    scores = torch.tensor([1.0, 3.0, 5.0])
    embeddings = normalize(torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]), dim=1)
    assert rescored(scores, embeddings, [1]).tolist() == pytest.approx([0, 0.5, 1])
    near = float(embeddings[0] @ embeddings[1])
    assert rescored(scores, embeddings, [2])[0] == pytest.approx(0.5 * near / (1 + near))
    assert rescored(scores, embeddings, [9]).isfinite().all()
    assert rescored(scores, embeddings, [0, 2]) is scores
    assert rescored(torch.ones(3), embeddings, [1]).tolist() == [0, 0, 0]
    for windows in ([], [-1]):
        with pytest.raises(UsageError, match="windows"):
            rescored(scores, embeddings, windows)
