"""What every method promises on every kind of backbone."""

import json

import pytest
import torch
from small_models import backbone

from ZSADCLIPLib.adapters import METHODS
from ZSADCLIPLib.adapters.checkpoint import load_adapter, save_adapter
from ZSADCLIPLib.backbones import BACKBONES, load_backbone
from ZSADCLIPLib.backbones.base import fingerprint

SIZE = 64
PAIRS = [(method, shape) for method in METHODS for shape in ("vit", "pmc", "biomed")]
every_pair = pytest.mark.parametrize(("method", "shape"), PAIRS)


def adapter_for(method: str, shape: str, **settings):
    return load_adapter(f"{method}:random", backbone(shape), settings)


@pytest.fixture(scope="module")
def images():
    return torch.randn(8, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(5))


@every_pair
def test_scores_have_the_promised_shape(method, shape, images):
    scores = adapter_for(method, shape).score(backbone(shape), images[:3])
    assert scores.maps.shape == (3, SIZE, SIZE) and scores.images.shape == (3,)
    assert scores.maps.dtype == scores.images.dtype == torch.float32
    assert scores.maps.isfinite().all() and ((scores.images > 0) & (scores.images < 1)).all()


@every_pair
def test_batch_of_eight_equals_single_images(method, shape, images):
    adapter = adapter_for(method, shape)
    together = adapter.score(backbone(shape), images)
    for i in range(len(images)):
        alone = adapter.score(backbone(shape), images[i : i + 1])
        torch.testing.assert_close(alone.maps[0], together.maps[i], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.images[0], together.images[i], atol=1e-5, rtol=0)


@every_pair
def test_scoring_is_deterministic_and_leaves_the_backbone_alone(method, shape, images):
    before = fingerprint(backbone(shape).model)
    first = adapter_for(method, shape).score(backbone(shape), images[:2])
    second = adapter_for(method, shape).score(backbone(shape), images[:2])
    assert torch.equal(first.maps, second.maps) and torch.equal(first.images, second.images)
    assert fingerprint(backbone(shape).model) == before


@every_pair
def test_checkpoint_round_trip(method, shape, images, tmp_path):
    adapter = adapter_for(method, shape, object_name="head")
    save_adapter(tmp_path / "a.safetensors", adapter, backbone(shape), {"threshold": 0.25})
    again = load_adapter(tmp_path / "a.safetensors", backbone(shape))
    assert again.config == adapter.config and again.provenance == {"threshold": 0.25}
    assert torch.equal(again.score(backbone(shape), images[:1]).maps, adapter.score(backbone(shape), images[:1]).maps)


@every_pair
def test_description_is_json_and_names_adaptations(method, shape):
    text = json.dumps(adapter_for(method, shape).describe())
    assert json.loads(text)["method"] == method
    assert bool(adapter_for(method, shape).adaptations(backbone(shape))) == (shape == "pmc")


@pytest.mark.parametrize("size", [70, 80, 96])
@every_pair
def test_other_image_sizes(method, shape, size, images):
    other = torch.nn.functional.interpolate(images[:1], size=(size, size))
    assert adapter_for(method, shape).score(backbone(shape), other).maps.shape == (1, size, size)


@pytest.mark.parametrize("method", [m for m in METHODS if METHODS[m].trainable])
@pytest.mark.parametrize("shape", ["vit", "pmc", "biomed"])
def test_training_moves_only_the_adapter(method, shape, images):
    adapter, model = adapter_for(method, shape), backbone(shape)
    before = fingerprint(model.model)
    masks = torch.zeros(2, SIZE, SIZE)
    masks[0, 10:30, 10:30] = 1
    loss = adapter.loss(model, images[:2], masks, torch.tensor([1, 0]))
    loss["total"].backward()
    assert all(p.grad is None for p in model.model.parameters())
    assert sum(float(p.grad.abs().sum()) for p in adapter.parameters() if p.grad is not None) > 0
    adapter.optimizer().step()
    assert fingerprint(model.model) == before


@pytest.mark.parametrize("upsample", ["faithful", "corners", "half-pixel", "centres"])
@pytest.mark.parametrize("method", METHODS)
def test_upsampling_options(method, upsample, images):
    scores = adapter_for(method, "vit", upsample=upsample).score(backbone("vit"), images[:1])
    assert scores.maps.isfinite().all()


def test_every_backbone_entry_is_complete():
    for name, info in BACKBONES.items():
        assert info.label and info.licence and info.source, name
        assert info.embedded or info.files and info.size_bytes, name
        for url, sha in info.files.values():
            assert url.startswith("https://") and all(c in "0123456789abcdef" for c in sha)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_encodes_images_and_texts(name):
    """Real sizes with random weights, one 240-pixel image; the embedded ones with their own."""
    model = load_backbone(name, None if BACKBONES[name].embedded else "random")
    depth = model.vision.depth
    with torch.no_grad():
        features = model.encode_image(torch.randn(1, 3, 240, 240), taps=(1, depth), joint=(depth,))
        text = model.encode_text(torch.arange(1, 1 + model.text.context)[None])
    assert features.embedding.shape == text.shape == (1, model.embed_dim)
    assert features.taps[1].shape[-1] == model.vision.tap_width(1)
    assert features.joint[depth].shape == (1, model.vision.prefix + model.vision.grid(240) ** 2, model.embed_dim)
    assert features.embedding.isfinite().all() and text.isfinite().all()
    assert json.loads(json.dumps(model.describe()))["name"] == name
    assert not any(p.requires_grad for p in model.model.parameters())


def test_every_method_entry_loads():
    for name, info in METHODS.items():
        kind = info.load()
        assert kind.method == name and kind.trainable == info.trainable and info.label and info.summary
