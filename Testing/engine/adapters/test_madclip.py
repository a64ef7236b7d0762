"""MadCLIP: its two branches and heads, its support in sixteen versions, and the authors' files."""

import numpy as np
import pytest
import torch
from small_models import backbone

from ZSADCLIPLib.adapters.checkpoint import load_adapter, save_adapter
from ZSADCLIPLib.adapters.support import in_other_light, sixteen_versions_of, versions_of
from ZSADCLIPLib.errors import WeightsError
from ZSADCLIPLib.training.augment import in_versions
from ZSADCLIPLib.training.fit import SliceSet, fit
from ZSADCLIPLib.training.schedule import VERSIONS, Schedule

SIZE = 64


def adapter_for(shape="vit", seed=3, **settings):
    return load_adapter(f"madclip:random:{seed}", backbone(shape), settings)


def images(count=2):
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(4))


def authors(adapter):
    """The adapter as the authors' code stores it: beside the learned words a copy of the text tower for each group."""
    state, file = adapter.state_dict(), {}
    for name in ("normal", "abnormal"):
        file[f"{name}_det_adapters"] = getattr(adapter, f"{name}_det_adapters").state_dict()
        own = {f"prompt_learner.{key}": value for key, value in state.items() if key.startswith(f"ctx.{name}_")}
        file[f"prompt_maker_{name}"] = {**own, "text_encoder.ln_final.weight": torch.ones(2)}
    return file


def test_each_branch_speaks_for_its_own_words():
    model, adapter = backbone(), adapter_for()
    with torch.no_grad():
        features = adapter.features(model, images())
        before = adapter.evidence(model, features, ["det", "seg"])
        for branch in adapter.abnormal_det_adapters:
            branch.fc3[0].weight.neg_()
        after = adapter.evidence(model, features, ["det", "seg"])
    for layer in range(len(adapter.config.layers)):
        assert torch.equal(before["det"][layer], after["det"][layer])
        assert torch.equal(before["seg"][layer][..., 0], after["seg"][layer][..., 0])
        assert not torch.allclose(before["seg"][layer][..., 1], after["seg"][layer][..., 1])


def test_branches_and_words_exchanged_turn_the_map_over():
    model, adapter = backbone(), adapter_for()
    maps, text = adapter.score(model, images()).maps, adapter.text(model).detach()
    exchanged = adapter.abnormal_det_adapters, adapter.normal_det_adapters
    adapter.normal_det_adapters, adapter.abnormal_det_adapters = exchanged
    adapter.text = lambda _: text.flip(1)
    turned = adapter.score(model, images()).maps
    torch.testing.assert_close(turned, 4 - maps, atol=1e-5, rtol=0)
    assert (turned - maps).abs().max() > 1e-3


def test_maps_lie_in_what_the_texts_reach_and_give_the_score():
    for shape, count in (("vit", 4), ("pmc", 4), ("biomed", 4)):
        model, adapter = backbone(shape), adapter_for(shape)
        scores, (low, high) = adapter.score(model, images()), adapter.score_range(model)
        assert 0 < low <= scores.maps.min() <= scores.maps.max() <= high < count == adapter.summed_layers
        torch.testing.assert_close(scores.images, scores.maps.flatten(1).amax(1) / count)


def test_without_masks_only_detection_learns_and_is_looked_at():
    model, adapter = backbone(), adapter_for(supervision="labels")
    loss = adapter.loss(model, images(), torch.zeros(2, SIZE, SIZE), torch.tensor([1, 0]))
    loss["total"].backward()
    assert set(loss) == {"total", "detection"}
    moved = {name for name, p in adapter.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {name for name, _ in adapter.named_parameters() if ".fc3." not in name}
    with torch.no_grad():
        before = adapter.score(model, images())
        for branch in (*adapter.normal_det_adapters, *adapter.abnormal_det_adapters):
            branch.fc3[0].weight.zero_()
        after = adapter.score(model, images())
    assert torch.equal(before.maps, after.maps) and torch.equal(before.images, after.images)


def test_sixteen_versions_are_the_eleven_enlarged_ones_and_one_in_other_light():
    image = torch.zeros(1, 1, 40, 40)
    image[..., 18:22, 18:22] = 0.5
    found = sixteen_versions_of(image, 0.5 * image)
    assert found.shape == (VERSIONS["versions-16"], 1, 40, 40)
    assert torch.equal(torch.cat([found[:9], found[14:]]), versions_of(image))
    areas = [float(each.sum() / image.sum()) for each in found[9:13]]
    assert areas == pytest.approx([zoom**2 for zoom in (1.1, 1.15, 1.2, 1.3)], rel=0.12)
    assert torch.equal(found[13], 0.5 * image[0])


def test_light_is_stretched_about_the_mean_of_each_column():
    image = torch.tensor([[0.2, 0.9], [0.4, 0.1]])[None, None]
    torch.testing.assert_close(in_other_light(image, 1.0, 1.0), image)
    lit = in_other_light(image, 1.1, 0.5)[0, 0]
    torch.testing.assert_close(lit, torch.tensor([[0.275, 0.77], [0.385, 0.33]]))
    assert in_other_light(image, 1.2, 1.2).max() == 1


def test_slices_come_in_sixteen_versions_with_their_masks_and_a_seeded_light():
    grey = np.full((2, 40, 40), 100, np.uint8)
    grey[:, 15:25, 15:25] = 180
    masks = grey > 150
    found, truth = in_versions(grey, masks, "versions-16", seed=5)
    assert found.shape == truth.shape == (32, 40, 40) and truth.any(axis=(1, 2)).all()
    assert np.array_equal(found[:2], grey) and np.array_equal(truth[26:28], masks)
    lit = found[26:28].reshape(2, -1).mean(axis=1) / grey[0].mean()
    assert ((lit > 0.79) & (lit < 1.21)).all() and lit[0] != lit[1]
    assert np.array_equal(found, in_versions(grey, masks, "versions-16", seed=5)[0])
    assert not np.array_equal(found, in_versions(grey, masks, "versions-16", seed=6)[0])


def test_a_support_trains_branches_and_words():
    model, adapter, seen = backbone(), adapter_for(dice="batch"), []
    data = SliceSet(
        np.random.default_rng(1).integers(1, 255, (2, SIZE, SIZE)).astype(np.uint8), np.zeros((2, SIZE, SIZE), bool)
    )
    data.masks[0, 20:30, 20:30] = True
    features = type(adapter).features
    adapter.features = lambda *args: seen.append(len(args[1])) or features(adapter, *args)
    before = {name: value.clone() for name, value in adapter.state_dict().items()}
    rows = fit(adapter, model, data, Schedule(2, batch_size=16, augment="versions-16"))
    assert len(rows) == 2 and sum(seen) == 1 + 32  # one to see the shapes; both towers stay as they are
    assert rows[1]["total"] < rows[0]["total"]
    assert all(not torch.equal(value, before[name]) for name, value in adapter.state_dict().items())


def test_a_published_file_loads_without_its_text_tower(tmp_path):
    model, own = backbone(), adapter_for(positions=("end", "front"), context=5)
    torch.save(authors(own), tmp_path / "Brain.pth")
    loaded = load_adapter(tmp_path / "Brain.pth", model, {"object_name": "Brain"})
    assert loaded.method == "madclip" and not loaded.normalised
    assert loaded.config.positions == ("end", "front") and loaded.config.context == 5
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in own.state_dict().items())
    save_adapter(tmp_path / "own.safetensors", loaded, model)
    assert load_adapter(tmp_path / "own.safetensors", model).config == loaded.config
    with pytest.raises(WeightsError, match="Brain.pth"):
        load_adapter(tmp_path / "Brain.pth", model, {"layers": [1, 2]})


def test_files_of_the_authors_other_settings_are_refused(tmp_path):
    model, file = backbone(), authors(adapter_for())
    fixed = {key: value for key, value in file.items() if "prompt" not in key}
    torch.save({**fixed, "text_features_fix": torch.zeros(4, 2)}, tmp_path / "fixed.pth")
    with pytest.raises(WeightsError, match="fixed.pth lacks prompt_maker_normal and prompt_maker_abnormal"):
        load_adapter(tmp_path / "fixed.pth", model)
    torch.save({**file, "prompt_maker_normal": {"other": torch.zeros(1)}}, tmp_path / "wordless.pth")
    with pytest.raises(WeightsError, match="it has no learned words at end, middle, front"):
        load_adapter(tmp_path / "wordless.pth", model)
