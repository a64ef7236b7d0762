"""Our loop over the blocks equals the libraries' own forward passes; weights of every layout load or say why not."""

import json

import open_clip
import pytest
import torch
from small_models import VIT, backbone, bert, config, vocabulary

from ZSADCLIPLib.backbones import load_backbone
from ZSADCLIPLib.errors import UsageError, WeightsError


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def theirs(shape):
    """The library's own model with the weights of `backbone(shape)`."""
    if shape != "vit":
        return backbone(shape).model
    model = open_clip.CLIP(**VIT).eval()
    model.load_state_dict(backbone(shape).model.state_dict())
    return model


@torch.no_grad()
def test_vit_equals_open_clip(images):
    b, model = backbone("vit"), theirs("vit")
    features = b.encode_image(images, taps=(2, 4), joint=(4,))
    torch.testing.assert_close(features.embedding, model.encode_image(images), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(features.joint[4][:, 0], features.embedding, atol=1e-5, rtol=1e-5)
    intermediate = model.visual.forward_intermediates(
        images, indices=[1, 3], stop_early=False, normalize_intermediates=False, output_fmt="NLC"
    )["image_intermediates"]
    for layer, expected in zip((2, 4), intermediate, strict=True):
        torch.testing.assert_close(features.taps[layer][:, 1:], expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_economical_last_block_changes_nothing(images):
    b = backbone("vit")
    torch.testing.assert_close(b.encode_image(images).embedding, b.encode_image(images, taps=(4,)).embedding)


@torch.no_grad()
@pytest.mark.parametrize("shape", ["vit", "biomed"])
def test_text_equals_open_clip(shape):
    b = backbone(shape)
    sentences = ["a photo of a brain.", "x", "a damaged brain without flaw , with defect"]
    tokens = b.text.tokenize(sentences)
    torch.testing.assert_close(b.encode_text(tokens), theirs(shape).encode_text(tokens), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_timm_vit_equals_open_clip():
    b = backbone("biomed")
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(b.encode_image(images).embedding, b.model.encode_image(images), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_resnet_equals_open_clip(images):
    b = backbone("pmc")
    torch.testing.assert_close(b.encode_image(images).embedding, b.model.visual(images), atol=1e-5, rtol=1e-5)
    dense = b.encode_image(images, joint=(4,)).joint[4]
    assert dense.shape == (2, b.vision.grid(64) ** 2, 32)


@torch.no_grad()
def test_many_sentences_keep_their_order():
    b = backbone("vit")
    sentences = [" ".join(["brain"] * (1 + i * 7 % 30)) for i in range(150)]
    tokens = b.text.tokenize(sentences)
    torch.testing.assert_close(b.encode_text(tokens)[77], b.encode_text(tokens[77:78])[0], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_activation_changes_the_numbers(images):
    state = backbone("vit").model.state_dict()
    gelu, quick = (load_backbone(VIT, state, activation=a) for a in ("gelu", "quick_gelu"))
    assert (gelu.activation, quick.activation) == ("gelu", "quick_gelu")
    assert gelu.fingerprint == quick.fingerprint
    assert not torch.allclose(gelu.encode_image(images).embedding, quick.encode_image(images).embedding, atol=1e-4)


@pytest.mark.parametrize("name", ["bfloat16", "float32"])
@pytest.mark.parametrize("kind", ["vit", "biomed"])
def test_working_precision(kind, name, images):
    b = backbone(kind, dtype=name)
    with torch.no_grad():
        features = b.encode_image(images, taps=(4,))
    assert features.embedding.dtype == torch.float32 and b.describe()["dtype"] == name
    exact = backbone(kind).encode_image(images).embedding
    assert torch.nn.functional.cosine_similarity(features.embedding, exact).min() > 0.999


def test_positions_come_from_the_originals(images):
    b = load_backbone(VIT, backbone("vit").model.state_dict())
    first = b.encode_image(images).embedding
    b.encode_image(torch.randn(1, 3, 96, 96))
    assert torch.equal(first, b.encode_image(images).embedding)


def test_wrong_weights_name_their_keys():
    state = dict(backbone("vit").model.state_dict())
    state["extra"] = torch.zeros(1)
    del state["visual.proj"]
    state["visual.class_embedding"] = torch.zeros(3)
    with pytest.raises(WeightsError, match=r"missing: visual.proj.*unknown: extra.*visual.class_embedding is \(3,\)"):
        load_backbone(VIT, state)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"name": "ViT-Z"}, UsageError, "no backbone is called 'ViT-Z'"),
        ({"name": VIT}, WeightsError, "needs weights"),
        ({"name": VIT, "weights": "random:x"}, UsageError, "random:SEED"),
        ({"name": VIT, "weights": "/nowhere.pt"}, WeightsError, "does not exist"),
        ({"name": VIT, "weights": "random", "activation": "relu"}, UsageError, "activation 'relu'"),
        ({"name": VIT, "weights": "random", "dtype": "int8"}, UsageError, "dtype 'int8'"),
        ({"name": "ViT-B-32", "weights": None}, WeightsError, "tags"),
    ],
)
def test_bad_requests(arguments, error, words):
    with pytest.raises(error, match=words):
        load_backbone(**arguments)


def test_missing_weights_say_which_file_where(tmp_path):
    with pytest.raises(WeightsError, match="ViT-L-14-336px.pt  sha256 3035c92b") as caught:
        load_backbone("ViT-L-14-336", weights_dir=tmp_path)
    assert str(tmp_path) in str(caught.value) and "zsadclip models get" in str(caught.value)


def test_config_from_a_file(tmp_path):
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(VIT))
    assert load_backbone(str(path), "random").name == "tiny"
    path.write_text("{}")
    with pytest.raises(UsageError, match="lacks embed_dim"):
        load_backbone(str(path), "random")


def test_pmc_layouts(tmp_path, images):
    """One checkpoint, three split files and a converted file give the same model."""
    model = backbone("pmc").model
    state = model.state_dict()
    extras = {"fusion_module.x": torch.zeros(1), "mlm_projection": torch.zeros(1), "logit_scale": torch.tensor(4.4)}
    pooler = {
        "text_encoder.pooler.dense.weight": torch.zeros(64, 64),
        "text_encoder.pooler.dense.bias": torch.zeros(64),
    }
    whole, split, converted = (tmp_path / name for name in ("whole", "split", "converted"))
    for folder in (whole, split, converted):
        folder.mkdir()
        (folder / "vocab.txt").write_bytes(vocabulary().read_bytes())
    prefixed = {f"module.{k}": v for k, v in {**state, **extras, **pooler}.items()}
    torch.save({"epoch": 1, "state_dict": prefixed}, whole / "checkpoint.pt")

    def part(prefix):
        return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}

    torch.save(part("visual."), split / "image_encoder(resnet50).pth")
    positions = {"embeddings.position_ids": torch.arange(96)[None]}
    torch.save(part("text_encoder.") | positions, split / "text_encoder.pth")
    torch.save(state["text_projection"], split / "text_projection_layer.pth")
    from safetensors.torch import save_file

    save_file({k: v.contiguous() for k, v in state.items()}, converted / "pmc.safetensors")
    plain = config("pmc")
    plain = plain | {"text_cfg": {"bert_config": bert(), "context_length": 77}}
    expected = backbone("pmc").encode_image(images).embedding
    for folder in (whole, split, converted):
        loaded = load_backbone(plain, folder)
        assert torch.equal(loaded.encode_image(images).embedding, expected)
        tokens = loaded.text.tokenize(["a photo of a brain"])
        torch.testing.assert_close(loaded.encode_text(tokens), backbone("pmc").encode_text(tokens))
    (split / "text_encoder.pth").unlink()
    with pytest.raises(WeightsError, match="text_encoder.pth"):
        load_backbone(plain, split)
