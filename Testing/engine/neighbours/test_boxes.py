"""Comparing cells in a box only, and which cells a pass drops as references."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ZSADCLIPLib.errors import InputError, UsageError
from ZSADCLIPLib.neighbours.boxes import check_one_grid, nearest_within, reach_of
from ZSADCLIPLib.neighbours.mutual import nearest
from ZSADCLIPLib.neighbours.stages import dropped, gaps


def made(count, seed):
    rng = np.random.default_rng(seed)
    cells = np.unique(rng.integers(0, 6, (count, 3)), axis=0)[rng.permutation(count // 2)]
    return F.normalize(torch.from_numpy(rng.normal(size=(len(cells), 8))).float(), dim=-1), cells


def by_hand(tokens, cells, others, places, reach):
    distances = torch.cdist(tokens.double(), others.double())
    apart = np.abs(cells[:, None] - places[None]).max(2) > reach
    near = torch.where(torch.from_numpy(apart), torch.inf, distances).amin(1)
    return torch.where(torch.isinf(near), distances.amin(1), near).float()


@pytest.mark.parametrize("reach", [0, 1, 2])
@pytest.mark.parametrize("share", [1.0, 0.4])
def test_a_box_holds_the_cells_within_its_reach_and_the_lonely_ones_see_all(reach, share):
    (first, here), (second, there) = made(60, 1), made(80, 2)
    counts = int(share * len(first)), int(share * len(second))
    rows, columns = nearest_within(first, second, (here, there), reach, counts)
    kept = first[: counts[0]], here[: counts[0]], second[: counts[1]], there[: counts[1]]
    torch.testing.assert_close(rows, by_hand(first, here, kept[2], kept[3], reach), atol=1e-5, rtol=0)
    torch.testing.assert_close(columns, by_hand(second, there, kept[0], kept[1], reach), atol=1e-5, rtol=0)


def test_a_box_over_everything_is_no_box():
    (first, here), (second, there) = made(60, 1), made(80, 2)
    for found, expected in zip(nearest_within(first, second, (here, there), 6), nearest(first, second), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_a_box_is_of_mm_and_needs_one_grid():
    assert [reach_of(mm, 8.0) for mm in (1, 15.9, 16, 48)] == [0, 0, 1, 3]
    with pytest.raises(UsageError, match="window_mm 0"):
        reach_of(0, 8.0)
    grid = {"shape": [4, 4, 4], "affine": np.eye(4).tolist()}
    check_one_grid({"a": grid, "b": grid})
    for what, value in (("shape", [4, 4, 5]), ("affine", np.diag([1, 1, 2, 1]).tolist())):
        with pytest.raises(InputError, match=f"c has another {what} than a"):
            check_one_grid({"a": grid, "b": grid, "c": {**grid, what: value}})


def test_a_gap_is_between_the_few_that_share_a_lesion_and_all_others():
    distances = torch.tensor([[0.1, 0.11, 0.9, 1.0, 1.1], [0.5, 0.5, 0.52, 0.55, 0.6], [1.0, 1.1, 1.1, 1.1, 1.2]])
    distances = distances.repeat(4, 1)[:10]
    torch.testing.assert_close(gaps(distances)[:2], torch.tensor([1.0 / 0.11, 0.55 / 0.5]))
    scores = distances.mean(1).numpy()
    assert set(np.flatnonzero(dropped(distances, scores, "score")) % 3) == {2}  # far from all
    assert set(np.flatnonzero(dropped(distances, scores, "gap")) % 3) == {0}  # near two, far from the rest
    assert dropped(distances, scores, "gap").sum() == 1
