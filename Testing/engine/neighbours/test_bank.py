"""Banks of healthy volumes: what they score, what they store, and whom they refuse."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import affine
from small_models import backbone

from ZSADCLIPLib.detection.threshold import Threshold
from ZSADCLIPLib.errors import InputError, UsageError, WeightsError
from ZSADCLIPLib.neighbours.bank import (
    TokenBank,
    coreset,
    display_range,
    healthy_cut,
    healthy_sketch,
    joined,
    load_bank,
    sample,
)
from ZSADCLIPLib.neighbours.detector import BankDetector
from ZSADCLIPLib.neighbours.mutual import mutual_distances, mutual_scores, share_scores
from ZSADCLIPLib.neighbours.result import Cut
from ZSADCLIPLib.neighbours.storing import read_arrays, write_arrays
from ZSADCLIPLib.neighbours.tokens import TokenSettings, VolumeTokens, units, volume_tokens
from ZSADCLIPLib.volume import Volume

SETTINGS = TokenSettings(cell_mm=4.0, image_size=128, projection=16, window=(0.0, 400.0))


def healthy(seed):
    rng = np.random.default_rng(seed)
    array = np.zeros((24, 26, 20), np.float32)
    array[3:-3, 3:-3, 2:-2] = 100 + 10 * rng.standard_normal((18, 20, 16))
    return Volume(array, affine((1.0, 1.0, 1.5)), f"healthy{seed}")


def sick():
    """Volume 9 with a bright ball, and the ball."""
    volume = healthy(9)
    ball = np.linalg.norm((np.indices(volume.shape).T - (9, 12, 9)).T, axis=0) < 5
    return volume.with_array(np.where(ball, np.float32(400), volume.array)), ball


@pytest.fixture(scope="module")
def parts():
    return [volume_tokens(backbone(), healthy(n), SETTINGS) for n in range(4)]


@pytest.fixture
def bank(parts):
    tokens, origin = joined(parts)
    return TokenBank(tokens, origin, backbone().describe(), SETTINGS, threshold=0.5, seen=len(tokens))


def test_the_batch_as_bank_without_the_own_volume_equals_mutual_scoring(parts):
    tokens = [part.units().double() for part in parts]
    distances = mutual_distances(tokens)
    for interval, bounds in (((0, 0), (0, 1)), ((0, 1), (0, 3)), ((0.5, 1), (1, 3))):
        for n, own in enumerate(tokens):
            rest, origin = joined([part for i, part in enumerate(parts) if i != n])
            bank = TokenBank(rest, origin, {}, SETTINGS, interval)
            torch.testing.assert_close(bank.scores(own), mutual_scores(distances[n], *bounds), atol=2e-6, rtol=0)
            torch.testing.assert_close(share_scores(distances[n], interval), bank.scores(own), atol=2e-6, rtol=0)


def test_a_bank_comes_back_as_it_was_with_the_same_bytes(bank, tmp_path):
    for name in ("a.bank", "b.bank"):
        bank.save(tmp_path / name)
    again = load_bank(tmp_path / "a.bank")
    assert (tmp_path / "a.bank").read_bytes() == (tmp_path / "b.bank").read_bytes()
    assert np.array_equal(again.tokens, bank.tokens) and np.array_equal(again.origin, bank.origin)
    assert (again.settings, again.threshold, again.seen, again.volumes) == (SETTINGS, 0.5, bank.seen, 4)
    assert tuple(again.interval) == (0, 1)


def test_another_backbone_is_refused(bank):
    bank.check_backbone(backbone())
    for other in (backbone(seed=4), backbone("biomed")):
        with pytest.raises(WeightsError, match="fingerprint .* build a bank with this one"):
            BankDetector(other, bank)
    quick = {**bank.backbone, "activation": "quick_gelu"}
    with pytest.raises(WeightsError, match="activation 'gelu' instead of 'quick_gelu'"):
        BankDetector(backbone(), replace(bank, backbone=quick))


def damaged(**changes):
    def change(arrays, facts):
        arrays.update({k: v for k, v in changes.items() if k in arrays})
        facts.update({k: v for k, v in changes.items() if k not in arrays})

    return change


@pytest.mark.parametrize(
    "change",
    [
        damaged(format="another"),
        damaged(tokens=np.zeros((3, 4), np.float32)),
        damaged(tokens=np.full((8, 4), np.nan, np.float16), origin=np.zeros(8, np.int32)),
        damaged(origin=np.array([1] * 5, np.int32)),
        damaged(threshold="much"),
        damaged(display=[1, 1]),
        damaged(interval=[0, 2]),
        damaged(settings={"cell_mm": 0}),
        damaged(further=1),
    ],
)
def test_a_bank_that_does_not_hold_together_is_refused(bank, tmp_path, change):
    bank.save(tmp_path / "a.bank")
    arrays, facts = read_arrays(tmp_path / "a.bank")
    change(arrays, facts)
    write_arrays(tmp_path / "b.bank", arrays, facts)
    with pytest.raises(WeightsError, match="b.bank is no bank"):
        load_bank(tmp_path / "b.bank")


def test_a_byte_that_changed_is_noticed(bank, tmp_path):
    bank.save(tmp_path / "a.bank")
    whole = (tmp_path / "a.bank").read_bytes()
    for content in (whole[:-1] + bytes([whole[-1] ^ 1]), whole[:-10], b"", b"no bank"):
        (tmp_path / "a.bank").write_bytes(content)
        with pytest.raises(WeightsError, match="build it again"):
            load_bank(tmp_path / "a.bank")
    with pytest.raises(WeightsError, match="gone.bank"):
        load_bank(tmp_path / "gone.bank")


def test_a_coreset_takes_the_farthest_again_and_again():
    angles = np.radians([0, 1, 2, 90, 91, 180, 45])
    tokens = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float16)
    assert coreset(tokens, 3).tolist() == [0, 3, 5] and coreset(tokens, 4).tolist() == [0, 3, 5, 6]
    assert coreset(tokens, 7).tolist() == list(range(7))


def test_a_sample_is_drawn_by_its_seed_and_shared(parts):
    counts = [len(part.tokens) for part in parts]
    first, again, other = (sample(counts, 40, seed) for seed in (0, 0, 1))
    assert sum(map(len, first)) <= 40 and min(map(len, first)) >= 9
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    assert all(np.array_equal(at, np.unique(at)) for at in first)
    assert [len(at) for at in sample(counts, 0, 0)] == counts == [len(at) for at in sample(counts, 10**6, 0)]
    with pytest.raises(UsageError, match="keep more"):
        sample(counts, 3, 0)


def test_the_cut_lets_through_a_small_share_of_healthy_voxels(rng):
    scores = rng.random((3, 40000)).astype(np.float32)
    sketch = healthy_sketch(scores[0])
    for each in scores[1:]:
        sketch.merge(healthy_sketch(each))
    threshold, median = healthy_cut(sketch)
    assert 0 < np.mean(scores >= threshold) <= 0.0005 and median == pytest.approx(0.5, abs=0.01)
    low, high = display_range(threshold, median)
    assert low == median and high == pytest.approx(1.5, abs=0.02)
    assert display_range(0.3, 0.3)[0] < display_range(0.3, 0.3)[1] and display_range(None) == (0, 1)


def test_what_is_unlike_healthy_volumes_is_found_on_the_volumes_own_grid(bank):
    volume, ball = sick()
    found = BankDetector(backbone(), bank, Cut(Threshold.parse("quantile:0.97"))).detect(volume)
    assert found.map.array.shape == volume.shape and found.map.array.dtype == np.float32
    array, brain = found.map.array, found.brain
    assert array[ball].mean() > array[brain & ~ball].mean() + array[brain & ~ball].std()
    assert (array[~brain] == array[brain].min()).all() and not found.mask.array[~brain].any()
    peak = np.unravel_index(array.argmax(), array.shape)
    assert np.linalg.norm(np.subtract(peak, (9, 12, 9))) < 8 and found.findings
    assert found.slice_scores.shape == (20,) and found.slice_scores.argmax() == peak[2]
    healthier = BankDetector(backbone(), bank).detect(healthy(8))
    assert healthier.volume_score < found.volume_score
    facts = found.to_dict()["provenance"]
    assert facts["adapter"]["provenance"]["volumes"] == 4 and facts["adapter"]["config"]["cell_mm"] == 4
    assert [note.code for note in found.notes if note.code == "bank"] == ["bank"]


def test_the_stored_threshold_cuts_and_a_single_volume_has_none(bank):
    found = BankDetector(backbone(), bank).detect(sick()[0])
    assert (found.threshold, found.threshold_rule.split()[0]) == (0.5, "fpr:0.0005")
    one = TokenBank(bank.tokens[bank.origin == 0], bank.origin[bank.origin == 0], bank.backbone, SETTINGS)
    found = BankDetector(backbone(), one).detect(sick()[0])
    assert found.threshold_rule.startswith("quantile:0.995")
    assert any("1 healthy volume: no threshold" in note.text for note in found.notes)


def test_a_brain_mask_limits_what_is_found(bank):
    volume, ball = sick()
    brain = (volume.array > 0) & (np.arange(24)[:, None, None] > 14)
    found = BankDetector(backbone(), bank, Cut(Threshold.parse("quantile:0.9"))).detect(volume, brain)
    assert found.mask.array.any() and not (found.mask.array.astype(bool) & ~brain).any()
    for wrong in (brain[1:], np.zeros(volume.shape, bool)):
        with pytest.raises(InputError, match="brain mask"):
            BankDetector(backbone(), bank).detect(volume, wrong)


def test_tokens_round_to_unit_vectors_again(parts):
    part = VolumeTokens(parts[0].cells, (parts[0].tokens * np.float16(0.5)).astype(np.float16))
    torch.testing.assert_close(part.units(), units(parts[0].tokens), atol=1e-6, rtol=0)
