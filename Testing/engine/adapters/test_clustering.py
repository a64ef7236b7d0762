"""k-means in batches gives the labels of scikit-learn's, whatever else is in the batch."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from ZSADCLIPLib.adapters.adaclip_fusion import labels_of
from ZSADCLIPLib.adapters.clustering import TOLERANCE, _lloyd


def unit(points):
    return torch.from_numpy((points / np.linalg.norm(points, axis=-1, keepdims=True)).astype(np.float32))


@pytest.mark.parametrize("count, dims, clusters", [(100, 3072, 20), (100, 512, 20), (12, 5, 4), (3, 64, 20)])
def test_labels_are_those_of_the_points(count, dims, clusters):
    rng = np.random.default_rng(count + dims)
    for seed in range(12):
        points = unit(rng.normal(size=(2, count, dims)) + 3 * rng.normal(size=(2, 1, dims)))
        direct = [KMeans(min(clusters, count), random_state=seed, n_init=1).fit_predict(one) for one in points.numpy()]
        np.testing.assert_array_equal(labels_of(points, clusters, seed).numpy(), direct)


def test_labels_do_not_depend_on_the_batch_and_those_that_settle_early_wait():
    rng = np.random.default_rng(3)
    groups = rng.normal(size=(4, 1, 64)) + rng.normal(size=(4, 60, 64))
    groups[1] = np.repeat(rng.normal(size=(6, 64)), 10, axis=0) + 1e-3 * rng.normal(size=(60, 64))  # at once
    points = unit(groups)
    together = labels_of(points, 6, 5)
    for one, labels in zip(points, together, strict=True):
        assert torch.equal(labels_of(one[None], 6, 5)[0], labels)
        assert labels.tolist() == KMeans(6, random_state=5, n_init=1).fit_predict(one.numpy()).tolist()


def test_a_cluster_that_loses_its_points_gets_the_farthest():
    points = np.random.default_rng(1).normal(size=(30, 4))
    weights = np.eye(30)[:5]
    weights[3] = 40 * weights[3] - 39 * np.eye(30)[9]  # far outside: nearest to no point
    weights[1] = 40 * weights[1] - 39 * np.eye(30)[8]
    products = torch.from_numpy(points @ points.T)[None]
    tolerance = torch.tensor([TOLERANCE * points.var(axis=0).mean()])
    found = _lloyd(products, products.diagonal(dim1=1, dim2=2), torch.from_numpy(weights)[None], tolerance)
    expected = KMeans(5, init=weights @ points, n_init=1).fit_predict(points)
    assert len(set(expected.tolist())) == 5 and found[0].tolist() == expected.tolist()


def test_equal_points_are_one_cluster_as_for_the_points_themselves_without_a_warning():
    same = torch.ones(1, 10, 16) / 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(np.unique(labels_of(same, 4, 0))) == 1
