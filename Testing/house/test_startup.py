"""What makes a run start fast: bare CLIP modules without open_clip's package, and text features kept on disk."""

import subprocess
import sys
from pathlib import Path

import open_clip
import pytest
import torch
from small_models import VIT, backbone
from torch.utils._python_dispatch import TorchDispatchMode

from ZSADCLIPLib.adapters.base import sentence_embeddings
from ZSADCLIPLib.adapters.prompts import load_prompts
from ZSADCLIPLib.backbones import load_backbone
from ZSADCLIPLib.backbones.plainclip import PlainCLIP, is_plain, packaged_config, tokenize

ROOT = Path(__file__).resolve().parents[2]
PROMPTS = load_prompts("vand")


@pytest.fixture
def texts(tmp_path, monkeypatch):
    monkeypatch.setenv("ZSADCLIP_TEXT_CACHE", str(tmp_path))
    return tmp_path


def same_weights():
    return load_backbone(VIT, backbone("vit").model.state_dict())


@pytest.mark.parametrize("name", ["ViT-L-14-336", "ViT-B-16-plus-240", "ViT-B-32", "ViT-H-14"])
def test_bare_modules_have_open_clip_s_tensors(name):
    config = packaged_config(name)
    assert is_plain(config) and config == open_clip.get_model_config(name)
    with torch.device("meta"):
        ours, theirs = PlainCLIP(config, "gelu"), open_clip.CLIP(**config)
    shapes = [{k: tuple(v.shape) for k, v in model.state_dict().items()} for model in (ours, theirs)]
    assert shapes[0] == shapes[1]
    heads = [model.visual.transformer.resblocks[0].attn.num_heads for model in (ours, theirs)]
    assert heads[0] == heads[1]


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
@torch.no_grad()
def test_bare_modules_compute_what_open_clip_computes(activation):
    theirs = open_clip.CLIP(**VIT, quick_gelu=activation == "quick_gelu").eval()
    ours = load_backbone(VIT, theirs.state_dict(), activation=activation)
    assert isinstance(ours.model, PlainCLIP)
    images, tokens = torch.randn(2, 3, 64, 64), tokenize(["a photo of a brain", "x"])
    torch.testing.assert_close(ours.encode_image(images).embedding, theirs.encode_image(images), atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.encode_text(tokens), theirs.encode_text(tokens), atol=1e-5, rtol=0)


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_random_weights_are_those_that_open_clip_draws(activation):
    torch.manual_seed(5)
    theirs = open_clip.CLIP(**VIT, quick_gelu=activation == "quick_gelu").state_dict()
    after = torch.rand(3)
    ours = load_backbone(VIT, "random:5", activation=activation).model
    assert isinstance(ours, PlainCLIP) and torch.equal(torch.rand(3), after)
    assert [*ours.state_dict()] == [*theirs]
    assert [name for name, value in ours.state_dict().items() if not torch.equal(value, theirs[name])] == []


def test_models_with_options_stay_open_clip_s():
    assert not is_plain(open_clip.get_model_config("coca_ViT-B-32"))
    assert not is_plain(open_clip.get_model_config("RN50"))
    assert not is_plain({**VIT, "vision_cfg": {**VIT["vision_cfg"], "pool_type": "avg"}})


def test_weights_of_a_model_that_goes_on_training_are_copied():
    state = {k: v.clone() for k, v in backbone("vit").model.state_dict().items()}
    model = load_backbone(VIT, state)
    before = model.encode_image(torch.ones(1, 3, 64, 64)).embedding.clone()
    for value in state.values():
        value.add_(1)
    assert torch.equal(model.encode_image(torch.ones(1, 3, 64, 64)).embedding, before)


def test_loading_a_plain_model_imports_no_heavy_package():
    code = "import sys; from ZSADCLIPLib import load_backbone, load_adapter; b = load_backbone('mini'); import torch\n"
    code += f"load_adapter('vand', b).text(b)\nload_backbone({VIT}, 'random')\n"
    code += "heavy = {'open_clip', 'torchvision', 'timm', 'transformers', 'torch._dynamo', 'sklearn', 'matplotlib'}\n"
    code += "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


class Counted(TorchDispatchMode):
    products = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        Counted.products += "mm" in str(func)
        return func(*args, **(kwargs or {}))


def test_text_features_come_back_from_disk_without_computing(texts):
    first = sentence_embeddings(same_weights(), PROMPTS, "brain")
    again = same_weights()
    Counted.products = 0
    with Counted():
        found = sentence_embeddings(again, PROMPTS, "brain")
    assert Counted.products == 0 and [len(g) for g in found] == [245, 175]
    assert all(torch.equal(a, b) for a, b in zip(first, found, strict=True))


def test_every_input_of_the_features_has_its_own_file(texts):
    sentence_embeddings(same_weights(), PROMPTS, "brain")
    sentence_embeddings(same_weights(), PROMPTS, "head")
    state = backbone("vit").model.state_dict()
    sentence_embeddings(load_backbone(VIT, state, activation="quick_gelu"), PROMPTS, "brain")
    sentence_embeddings(load_backbone(VIT, state, dtype="bfloat16"), PROMPTS, "brain")
    sentence_embeddings(load_backbone(VIT, {k: v * 1.01 for k, v in state.items()}), PROMPTS, "brain")
    assert len(list(texts.iterdir())) == 5


@pytest.mark.parametrize("damage", [lambda b: b[:-4] + b"\0\0\0\1", lambda b: b[:100], lambda b: b""])
def test_a_damaged_file_is_computed_anew(texts, damage):
    first = sentence_embeddings(same_weights(), PROMPTS, "brain")
    (path,) = texts.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert torch.equal(sentence_embeddings(same_weights(), PROMPTS, "brain")[0], first[0])
    assert torch.equal(sentence_embeddings(same_weights(), PROMPTS, "brain")[1], first[1])


def test_another_file_under_the_name_is_not_trusted(texts):
    brain = sentence_embeddings(same_weights(), PROMPTS, "brain")
    (path,) = texts.iterdir()
    sentence_embeddings(same_weights(), PROMPTS, "head")
    other = next(p for p in texts.iterdir() if p != path)
    path.write_bytes(other.read_bytes())
    assert torch.equal(sentence_embeddings(same_weights(), PROMPTS, "brain")[0], brain[0])


def test_the_cache_can_be_off_or_unwritable(tmp_path, monkeypatch):
    monkeypatch.setenv("ZSADCLIP_TEXT_CACHE", "off")
    monkeypatch.setenv("ZSADCLIP_CACHE", str(tmp_path / "cache"))
    sentence_embeddings(same_weights(), PROMPTS, "brain")
    assert not (tmp_path / "cache").exists()
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("ZSADCLIP_TEXT_CACHE", str(tmp_path / "file" / "texts"))
    assert len(sentence_embeddings(same_weights(), PROMPTS, "brain")[0]) == 245
    monkeypatch.delenv("ZSADCLIP_TEXT_CACHE")
    sentence_embeddings(same_weights(), PROMPTS, "brain")
    assert len(list((tmp_path / "cache" / "texts").iterdir())) == 1
