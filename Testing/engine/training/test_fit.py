"""Training: caching, resuming and batching change nothing but the time it takes."""

import numpy as np
import pytest
import torch
from small_models import VIT, backbone

from ZSADCLIPLib.adapters.base import sentence_embeddings
from ZSADCLIPLib.adapters.checkpoint import load_adapter
from ZSADCLIPLib.backbones import load_backbone
from ZSADCLIPLib.errors import InputError, UsageError, ZSADCLIPError
from ZSADCLIPLib.progress import Cancelled, silent
from ZSADCLIPLib.training.features import FeatureCache
from ZSADCLIPLib.training.fit import SliceSet, fit
from ZSADCLIPLib.training.schedule import Schedule, selected_epoch

METHODS = ("vand", "anomalyclip", "adaclip", "linear-probe")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (6, 64, 64)).astype(np.uint8)
    masks = np.zeros((6, 64, 64), bool)
    masks[:4, 20:40, 10:30] = True
    return SliceSet(images, masks)


def trained(method, data, **options):
    adapter = load_adapter(f"{method}:random", backbone(), {"clusters": 3} if method == "adaclip" else {})
    folder, stop = options.pop("folder", None), options.pop("progress", None)
    arguments = {"progress": stop} if stop else {}
    rows = fit(adapter, backbone(), data, Schedule(batch_size=3, **{"epochs": 2, **options}), folder, **arguments)
    return adapter, rows


def assert_same(first, second, exact=False):
    for (name, a), b in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b) if exact else torch.allclose(a, b, atol=1e-5), name


@pytest.mark.parametrize("method", METHODS)
def test_loss_falls(method, data):
    _, rows = trained(method, data, epochs=6)
    assert rows[-1]["total"] < rows[0]["total"]


@pytest.mark.parametrize("cache", ["memory", "disk"])
@pytest.mark.parametrize("method", METHODS)
def test_cached_training_equals_uncached(method, cache, data, tmp_path):
    plain, _ = trained(method, data, cache="none")
    cached, _ = trained(method, data, cache=cache, folder=tmp_path)
    assert_same(plain, cached)


def test_half_precision_cache_is_close_and_half_the_size(data):
    adapter = load_adapter("vand:random", backbone())
    full, half = (FeatureCache(adapter, backbone(), data.images, half=h) for h in (False, True))
    assert full.size_bytes == 2 * half.size_bytes
    half.fill(3)
    rows = np.array([4, 1])
    for key, value in adapter.features(backbone(), half.images(rows)).items():
        torch.testing.assert_close(half(rows)[key], value, atol=2e-2, rtol=2e-3)


@pytest.mark.parametrize("method", METHODS)
def test_a_resumed_training_equals_an_uninterrupted_one(method, data, tmp_path):
    whole, rows = trained(method, data, epochs=4, folder=tmp_path / "whole")

    def stop_after_two(fraction, text, *count):
        if "epoch 2 of" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(method, data, epochs=4, folder=tmp_path / "cut", progress=stop_after_two)
    resumed, again = trained(method, data, epochs=4, folder=tmp_path / "cut")
    assert_same(whole, resumed, exact=True)
    assert [r["total"] for r in rows] == [r["total"] for r in again]
    assert (tmp_path / "cut" / "training.csv").read_text("utf-8").count("\n") == 5


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[: len(b) // 2], lambda b: b"\x80\x02" + b[2:]])
def test_a_damaged_checkpoint_begins_again_and_says_so(damage, data, tmp_path):
    whole, _ = trained("vand", data, folder=tmp_path)
    last, said = tmp_path / "last.pt", []
    last.write_bytes(damage(last.read_bytes()))
    again, rows = trained("vand", data, folder=tmp_path, progress=lambda f, text, *count: said.append(text))
    assert_same(whole, again, exact=True)
    assert len(rows) == 2 and "last.pt is damaged: the training begins again" in said


def test_a_diverged_training_is_named_and_not_saved(data, tmp_path):
    adapter = load_adapter("vand:random", backbone())
    next(adapter.parameters()).data.fill_(np.nan)
    with pytest.raises(
        ZSADCLIPError, match="vand diverged in epoch 1: loss nan; give a lower learning_rate than 0.001"
    ):
        fit(adapter, backbone(), data, Schedule(2, 3), tmp_path)
    assert not list(tmp_path.glob("*"))


@pytest.mark.parametrize("augment", ["flips", "mosaic"])
def test_augmented_training_resumes_bit_for_bit_and_differs_from_plain(augment, data, tmp_path):
    plain, _ = trained("vand", data, epochs=3)
    whole, _ = trained("vand", data, epochs=3, augment=augment, seed=112)
    assert any(not torch.equal(a, b) for a, b in zip(plain.parameters(), whole.parameters(), strict=True))

    def stop_after_one(fraction, text, *count):
        if "epoch 1 of" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained("vand", data, epochs=3, augment=augment, seed=112, folder=tmp_path, progress=stop_after_one)
    resumed, _ = trained("vand", data, epochs=3, augment=augment, seed=112, folder=tmp_path)
    assert_same(whole, resumed, exact=True)


def test_a_feature_folder_is_shared_and_announced(data, tmp_path):
    said = []
    adapter = load_adapter("vand:random", backbone())
    schedule = Schedule(1, 3, cache="disk")
    fit(adapter, backbone(), data, schedule, tmp_path / "a", lambda f, t, *count: said.append(t), tmp_path / "features")
    assert said[0].startswith("features of 6 slices: ") and said[0].endswith("MB")
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "features").rglob("*")}
    again = load_adapter("vand:random", backbone())
    fit(again, backbone(), data, schedule, tmp_path / "b", features=tmp_path / "features")
    assert len(stamps) > 2 and stamps == {p: p.stat().st_mtime_ns for p in (tmp_path / "features").rglob("*")}
    assert_same(adapter, again, exact=True)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_other_slices_do_not_get_the_features_of_the_first_ones(data, tmp_path):
    schedule, turned = Schedule(1, 3, cache="disk"), SliceSet(data.images[:, ::-1].copy(), data.masks)
    first, other, alone = (load_adapter("vand:random", backbone()) for _ in range(3))
    for adapter, some, name in ((first, data, "a"), (other, turned, "b")):
        fit(adapter, backbone(), some, schedule, tmp_path / name, features=tmp_path / "features")
    fit(alone, backbone(), turned, Schedule(1, 3, cache="none"))
    assert len(list((tmp_path / "features").glob("*/complete.json"))) == 2
    assert_same(other, alone)


def test_a_start_of_another_config_does_not_get_the_features_of_the_first(data, tmp_path):
    first, other, alone = (
        load_adapter("vand:random", backbone(), {"layers": layers}) for layers in ((1, 2), (2,), (2,))
    )
    schedule = Schedule(1, 3, cache="disk")
    for adapter, name in ((first, "a"), (other, "b")):
        fit(adapter, backbone(), data, schedule, tmp_path / name, features=tmp_path / "features")
    fit(alone, backbone(), data, Schedule(1, 3, cache="none"))
    assert len(list((tmp_path / "features").glob("*/complete.json"))) == 2
    assert_same(other, alone)


def test_features_of_another_shape_are_computed_anew(data, tmp_path):
    adapter = load_adapter("vand:random", backbone())
    FeatureCache(adapter, backbone(), data.images, tmp_path / "f").fill(3)
    (name, *_) = sorted((tmp_path / "f").glob("*.npy"))
    good = np.load(name)
    np.save(name, good[:, :1])
    FeatureCache(adapter, backbone(), data.images, tmp_path / "f").fill(3)
    np.testing.assert_array_equal(np.load(name), good)


@pytest.mark.parametrize("method", ["vand", "anomalyclip", "adaclip"])
def test_autocast_trains_close_to_float32_and_float16_needs_a_gpu(data, method):
    plain, rows = trained(method, data, epochs=1)
    half, low = trained(method, data, epochs=1, precision="bfloat16")
    assert low[0]["total"] == pytest.approx(rows[0]["total"], rel=0.05) and low[0]["total"] != rows[0]["total"]
    assert all(p.dtype == torch.float32 for p in half.parameters())
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="float16 needs a GPU"):
            trained(method, data, precision="float16")


def test_autocast_leaves_full_sentences_in_the_cache(monkeypatch):
    monkeypatch.setenv("ZSADCLIP_TEXT_CACHE", "off")
    plain, cast = (load_backbone(VIT, "random:3") for _ in range(2))
    prompts = load_adapter("vand:random", plain).prompts
    wanted = sentence_embeddings(plain, prompts, "brain")
    with torch.autocast("cpu", torch.bfloat16):
        found = sentence_embeddings(cast, prompts, "brain")
    assert all(torch.equal(a, b) for a, b in zip(wanted, found, strict=True))


def test_schedules_are_checked():
    for wrong in ({"cache": "tape"}, {"augment": "cutmix"}, {"precision": "int8"}, {"epochs": 0}, {"batch_size": -1}):
        with pytest.raises(UsageError):
            Schedule(**wrong)


def test_another_schedule_is_refused(data, tmp_path):
    trained("vand", data, folder=tmp_path)
    with pytest.raises(UsageError, match="belongs to another"):
        trained("vand", data, folder=tmp_path, seed=5)
    with pytest.raises(UsageError, match="belongs to another"):
        trained("vand", SliceSet(data.images, np.roll(data.masks, 1, axis=1)), folder=tmp_path)
    with pytest.raises(UsageError, match="belongs to another"):
        fit(load_adapter("vand:random:7", backbone()), backbone(), data, Schedule(2, 3), tmp_path)


def test_adaclip_batch_is_the_mean_of_single_losses_and_gradients(data):
    model = backbone()
    adapter = load_adapter("adaclip:random", model, {"clusters": 3, "dice": "rows"})
    images = model.preprocess(torch.from_numpy(data.images[2:6]))
    masks, labels = torch.from_numpy(data.masks[2:6]).float(), torch.from_numpy(data.labels[2:6])
    losses = []
    adapter.zero_grad()
    for i in range(4):
        loss = adapter.loss(model, images[i : i + 1], masks[i : i + 1], labels[i : i + 1])["total"] / 4
        loss.backward()
        losses.append(loss.detach() * 4)
    singles = {k: p.grad.clone() for k, p in adapter.named_parameters() if p.grad is not None}
    assert singles
    adapter.zero_grad()
    together = adapter.loss(model, images, masks, labels)["total"]
    together.backward()
    torch.testing.assert_close(together.detach(), torch.stack(losses).mean(), atol=1e-5, rtol=1e-5)
    for name, parameter in adapter.named_parameters():
        if name in singles:
            torch.testing.assert_close(parameter.grad, singles[name], atol=1e-5, rtol=1e-4)


def test_training_works_after_scoring(data):
    """What scoring cached must not be bound to inference mode."""
    from ZSADCLIPLib.detection.slice_maps import slice_maps

    masks, labels = torch.from_numpy(data.masks[:2]).float(), torch.from_numpy(data.labels[:2])
    for method in METHODS:
        gradients = []
        for scored in (True, False):
            model = backbone()
            adapter = load_adapter(f"{method}:random", model)
            if scored:
                slice_maps(model, [adapter], data.images[:2], 2)
            adapter.train()
            adapter.loss(model, model.preprocess(torch.from_numpy(data.images[:2])), masks, labels)["total"].backward()
            gradients.append({name: p.grad for name, p in adapter.named_parameters() if p.grad is not None})
        assert gradients[0].keys() == gradients[1].keys() != set()
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(gradient, gradients[1][name], atol=1e-6, rtol=1e-5)


def test_bad_training_data_and_methods(data):
    with pytest.raises(InputError, match="equal shapes"):
        SliceSet(data.images, data.masks[:3])
    with pytest.raises(InputError, match="uint8 and bool"):
        SliceSet(data.images, data.images)
    with pytest.raises(UsageError, match="training-free"):
        fit(load_adapter("anovl", backbone()), backbone(), data)


def held_out():
    rng = np.random.default_rng(8)
    images = rng.integers(0, 255, (4, 64, 64)).astype(np.uint8)
    masks = np.zeros((4, 64, 64), bool)
    masks[:, 40:, 40:] = True
    return SliceSet(images, masks)


RATES = {"best-train-loss": 50.0, "best-val-f1": 0.3}


def chosen(data, select, epochs, folder=None, progress=silent):
    # A high rate, so that losses go up and down and the best epoch is not simply the last.
    adapter = load_adapter("vand:random", backbone(), {"learning_rate": RATES[select]})
    validation = held_out() if select == "best-val-f1" else None
    schedule = Schedule(epochs, 3, select=select)
    return adapter, fit(adapter, backbone(), data, schedule, folder, progress, validation=validation)


@pytest.mark.parametrize("select, epochs", [("best-train-loss", 3), ("best-val-f1", 6)])
def test_the_adapter_of_the_chosen_epoch_is_kept(select, epochs, data, tmp_path):
    adapter, rows = chosen(data, select, epochs)
    key = {"best-train-loss": lambda r: r["total"], "best-val-f1": lambda r: -r["val_f1"]}[select]
    best = min(range(epochs), key=lambda i: key(rows[i])) + 1
    assert selected_epoch(rows, select) == best < epochs, (
        "the case must not choose the last epoch, which is kept anyway"
    )
    until = load_adapter("vand:random", backbone(), {"learning_rate": RATES[select]})
    fit(until, backbone(), data, Schedule(best, 3))
    assert_same(adapter, until, exact=True)
    assert all(("val_f1" in row) == (select == "best-val-f1") for row in rows)

    def stop(fraction, text, *count):
        if text.startswith(f"epoch {best + 1} "):
            raise Cancelled()

    with pytest.raises(Cancelled):
        chosen(data, select, epochs, tmp_path, stop)
    resumed, again = chosen(data, select, epochs, tmp_path)
    assert_same(adapter, resumed, exact=True)
    assert [key(row) for row in again] == [key(row) for row in rows]


def test_validation_slices_are_asked_for_and_refused(data):
    adapter = load_adapter("vand:random", backbone())
    with pytest.raises(UsageError, match="needs validation slices"):
        fit(adapter, backbone(), data, Schedule(1, 3, select="best-val-f1"))
    with pytest.raises(UsageError, match="and no other"):
        fit(adapter, backbone(), data, Schedule(1, 3), validation=held_out())
    clear = SliceSet(held_out().images, np.zeros_like(held_out().masks))
    with pytest.raises(InputError, match="hold no lesion, so no epoch is best"):
        fit(adapter, backbone(), data, Schedule(1, 3, select="best-val-f1"), validation=clear)


def test_a_batch_that_does_not_fit_into_memory_is_named_and_finished_epochs_are_kept(data, tmp_path, monkeypatch):
    adapter, calls = load_adapter("vand:random", backbone()), []
    objective = adapter.objective

    def scarce(*arguments):
        calls.append(1)
        if len(calls) == 4:  # in the second epoch of two batches
            raise RuntimeError("CUDA error: out of memory")
        return objective(*arguments)

    monkeypatch.setattr(adapter, "objective", scarce)
    with pytest.raises(ZSADCLIPError, match="out of memory in training with a batch of 3: give a smaller batch_size"):
        fit(adapter, backbone(), data, Schedule(3, 3), tmp_path)
    assert (tmp_path / "training.csv").read_text("utf-8").count("\n") == 2
    resumed = load_adapter("vand:random", backbone())
    fit(resumed, backbone(), data, Schedule(3, 3), tmp_path)
    assert_same(trained("vand", data, epochs=3)[0], resumed, exact=True)
