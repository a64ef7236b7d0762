"""AdaCLIP's clustering on inner products gives the labels of the clustering of the points themselves."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from ZSADCLIPLib.adapters.adaclip_fusion import labels_of


@pytest.mark.parametrize("count, dims, clusters", [(100, 3072, 20), (100, 512, 20), (12, 5, 4), (3, 64, 20)])
def test_labels_are_those_of_the_points(count, dims, clusters):
    rng = np.random.default_rng(count + dims)
    for seed in range(12):
        points = rng.normal(size=(2, count, dims)) + 3 * rng.normal(size=(2, 1, dims))
        points = (points / np.linalg.norm(points, axis=-1, keepdims=True)).astype(np.float32)
        ours = labels_of(torch.from_numpy(points), clusters, seed)
        direct = [KMeans(min(clusters, count), random_state=seed, n_init=1).fit_predict(one) for one in points]
        np.testing.assert_array_equal(ours, direct)


def test_equal_points_are_one_cluster_as_for_the_points_themselves_without_a_warning():
    same = torch.ones(1, 10, 16) / 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(np.unique(labels_of(same, 4, 0))) == 1
