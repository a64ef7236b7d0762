"""Training with neighbouring slices: which they are, that caching and resuming change nothing, and what is refused."""

import json

import numpy as np
import pytest
import torch
from benchmark_cases import write_brains
from small_models import VIT, backbone

from ZSADCLIPLib.adapters.base import NEIGHBOURS
from ZSADCLIPLib.adapters.checkpoint import load_adapter, read_info
from ZSADCLIPLib.benchmark.settings import Slices
from ZSADCLIPLib.benchmark.slices import build_slices, chosen_slices, open_slices, read_slices
from ZSADCLIPLib.benchmark.specs import BrainSlices, DataSpec, StackSlices, from_json, slices_key, to_json
from ZSADCLIPLib.cli import main
from ZSADCLIPLib.datasets.records import find_records
from ZSADCLIPLib.errors import InputError, UsageError
from ZSADCLIPLib.evaluation.curves import curve
from ZSADCLIPLib.training.fit import SliceSet, fit
from ZSADCLIPLib.training.schedule import Schedule

OFFSETS = (-2.0, 0.0, 2.0)


@pytest.fixture(scope="module")
def data():
    """Six slices of a stack of nine; the three others are neighbours only."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (9, 64, 64)).astype(np.uint8)
    masks = np.zeros((6, 64, 64), bool)
    masks[:4, 20:40, 10:30] = True
    return SliceSet(images, masks, np.stack([[6, 0, 1, 2, 3, 7], np.arange(6), [1, 2, 3, 4, 7, 8]], axis=1))


def deep(settings=()):
    return load_adapter("vand:random", backbone(), {"context": OFFSETS, **dict(settings)})


def trained(data, folder=None, progress=None, **options):
    adapter = deep()
    more = {"progress": progress} if progress else {}
    return adapter, fit(
        adapter, backbone(), data, Schedule(**{"epochs": 3, "batch_size": 4, **options}), folder, **more
    )


def test_the_loss_of_a_batch_is_that_of_the_slices_with_their_neighbours(data):
    adapter, rows = trained(data, epochs=1, batch_size=None)
    fresh, model = deep(), backbone()
    features = fresh.features(model, model.preprocess(torch.from_numpy(data.images)))
    order = torch.randperm(6, generator=torch.Generator().manual_seed(111)).numpy()
    features[NEIGHBOURS] = torch.from_numpy(data.neighbours[order])
    targets, labels = torch.from_numpy(data.masks[order]).float(), torch.from_numpy(data.labels[order])
    loss = fresh.objective(model, features, targets, labels)["total"]
    assert rows[0]["total"] == pytest.approx(loss.item(), rel=1e-5)
    assert all((kernel[:, 0] != torch.tensor([0.0, 1.0, 0.0])).all() for kernel in adapter.kernel)


def test_what_is_learned_depends_on_the_neighbours(data):
    alone = SliceSet(data.images, data.masks, np.repeat(np.arange(6)[:, None], 3, axis=1))
    (first, rows), (second, other) = trained(data, epochs=6), trained(alone, epochs=6)
    assert rows[-1]["total"] < rows[0]["total"] and rows[-1]["total"] != other[-1]["total"]
    assert not torch.equal(first.kernel[0], second.kernel[0])


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_cached_training_with_neighbours_equals_uncached(data, cache, tmp_path):
    plain, _ = trained(data, cache="none")
    cached, _ = trained(data, tmp_path, cache=cache)
    for (name, a), b in zip(plain.state_dict().items(), cached.state_dict().values(), strict=True):
        assert torch.allclose(a, b, atol=1e-5), name


def test_a_resumed_training_with_neighbours_equals_an_uninterrupted_one(data, tmp_path):
    def stop(fraction, text, *count):
        if "epoch 2 of" in text:
            raise KeyboardInterrupt

    whole, _ = trained(data, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        trained(data, tmp_path / "cut", stop)
    resumed, _ = trained(data, tmp_path / "cut")
    assert all(map(torch.equal, whole.state_dict().values(), resumed.state_dict().values()))
    turned = SliceSet(data.images, data.masks, data.neighbours[:, ::-1].copy())
    with pytest.raises(UsageError, match="belongs to another"):
        trained(turned, tmp_path / "cut")


def test_the_epoch_is_chosen_with_neighbours_too(data):
    adapter = deep()
    rows = fit(adapter, backbone(), data, Schedule(2, 4, select="best-val-f1"), validation=data)
    model = backbone()
    features = adapter.features(model, model.preprocess(torch.from_numpy(data.images)))
    features[NEIGHBOURS] = torch.from_numpy(data.neighbours)
    with torch.no_grad():
        maps = adapter.predict(model, features, 64).maps.numpy()
    assert max(row["val_f1"] for row in rows) == pytest.approx(curve(maps, data.masks).f1_max, abs=1e-4)


def test_neighbours_that_cannot_be_are_refused(data):
    with pytest.raises(InputError, match=r"whole numbers \(6, K\)"):
        SliceSet(data.images, data.masks, data.neighbours[:5])
    with pytest.raises(InputError, match="rows 1 to 9; expected rows of the 9 images"):
        SliceSet(data.images, data.masks, data.neighbours + 1)
    with pytest.raises(InputError, match="equal shapes"):
        SliceSet(data.images[:5], data.masks, data.neighbours)
    plain = SliceSet(data.images[:6], data.masks)
    with pytest.raises(UsageError, match="needs 3 neighbours of each training slice, and there are none"):
        trained(plain)
    with pytest.raises(UsageError, match="augment flips is for slices alone"):
        trained(data, augment="flips")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("stack")
    write_brains(root / "data", 4)
    (root / "tiny.json").write_text(json.dumps(VIT))
    small = {"base": "ci", "slices": {"image_size": 64, "every": 1}, "threshold": {"max_subjects": 2}}
    small |= {"industrial": {"images": 8}, "train": {"slices": "lesion+2"}}
    (root / "profile.json").write_text(json.dumps(small))
    return root


@pytest.mark.parametrize("every", [1, 2])
def test_slices_of_volumes_bring_the_neighbours_that_the_detector_would_see(place, every):
    records = tuple(find_records(place / "data", "t2w", "auto", [])[:2])
    settings, folder = ("", DataSpec(), Slices(64, every=every), "lesion+1", 3), place / f"every-{every}"
    build_slices(BrainSlices(str(folder / "plain"), *settings), records)
    spec = StackSlices(str(folder / "stack"), *settings, context=OFFSETS)
    info = build_slices(spec, records)
    assert build_slices(spec, records) == info and info["context"] == [-2, 0, 2] and info["further"] > 0
    plain, (images, masks, rows) = open_slices(folder / "plain"), open_slices(folder / "stack")
    assert np.array_equal(plain[0], images[: len(masks)]) and np.array_equal(plain[1], masks)
    place_of, done = {-2.0: -2 // every, 0.0: 0, 2.0: 2 // every}, 0
    for record in records:
        case = read_slices(record, DataSpec(), Slices(64, every=every))
        whole = case.fit(64).apply(case.image)
        for own in chosen_slices(case, "lesion+1", 3):
            for k, mm in enumerate(OFFSETS):
                near = np.clip(own + place_of[mm], 0, len(whole) - 1)
                assert np.array_equal(images[rows[done, k]], whole[near])
            done += 1
    assert done == len(masks)
    few, truth, some = open_slices(folder / "stack", 3, seed=4)
    kept = np.sort(np.random.default_rng(4).permutation(len(masks))[:3])
    assert np.array_equal(truth, masks[kept]) and np.array_equal(few[some], images[rows[kept]])
    assert np.array_equal(few[:3], images[kept]) and len(few) < len(images)


def test_slices_with_neighbours_have_a_key_of_their_own_and_come_back_from_json():
    plain = BrainSlices("", "r", DataSpec(), Slices(), "all", 0)
    stack = StackSlices(**vars(plain), context=OFFSETS)
    assert slices_key(plain) != slices_key(stack) != slices_key(StackSlices(**vars(plain), context=(0.0, 4.0)))
    assert from_json(BrainSlices | StackSlices, json.loads(json.dumps(to_json(stack)))) == stack


def train(place, out, *more):
    common = ["--backbone", str(place / "tiny.json"), "--weights", "random:3", "--profile", str(place / "profile.json")]
    return main(["train", "--out", str(out), *common, "--device", "cpu", "--epochs", "1", *map(str, more)])


def test_train_and_detect_take_a_context(place, capsys):
    out = place / "out"
    assert train(place, out, "--data", place / "data", "--set", "context=[-2,2]") == 0
    info = read_info(out / "vand.safetensors")
    assert info.config["context"] == [-2.0, 0.0, 2.0] and 0 < info.threshold < 4
    volume = next((place / "data").rglob("*-t2w.nii.gz"))
    arguments = ["--backbone", place / "tiny.json", "--weights", "random:3", "--checkpoint", out / "vand.safetensors"]
    assert main(["detect", str(volume), "-o", str(out / "found"), *map(str, arguments), "--image-size", "64"]) == 0
    (case,) = (json.loads(path.read_text("utf-8")) for path in (out / "found").glob("*t2w*.json"))
    assert case["threshold"] == pytest.approx(info.threshold)
    assert "mixed with those of the slices at -2, 0, 2 mm" in " ".join(case["provenance"]["adapted"])
    capsys.readouterr()
    start = out / "vand.safetensors"
    assert train(place, place / "other", "--data", place / "data", "--start", start, "--set", "context=[-2,4]") == 2
    assert "has the context -2, 0, 2 and the settings say -2, 0, 4; give both the same" in capsys.readouterr().err
    assert train(place, place / "on", "--data", place / "data", "--start", start, "--set", "context=[-2,2]") == 0
    assert train(place, place / "flat", "--domain", "industrial", "--set", "context=[-2,2]") == 2
    assert "single images, which have no neighbours" in capsys.readouterr().err
