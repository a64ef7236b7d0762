"""Checkpoints: ours, the authors' files, and files that must be refused."""

import os
import pickle

import pytest
import torch
from small_models import backbone

from ZSADCLIPLib.adapters.checkpoint import list_adapters, load_adapter, read_info, save_adapter
from ZSADCLIPLib.backbones import load_backbone
from ZSADCLIPLib.errors import UsageError, WeightsError

IMAGES = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))


def maps(adapter):
    return adapter.score(backbone(), IMAGES).maps


def published(adapter, kind):
    state = adapter.state_dict()
    if kind == "vand":
        return {"trainable_linearlayer": state}
    if kind == "adaclip":
        return {f"clip_model.{k}": v for k, v in state.items()}
    tokens = adapter._tokens(backbone())
    unused = {
        "compound_prompt_projections.0.weight": torch.zeros(896, 64),
        "compound_prompt_projections.0.bias": torch.zeros(896),
    }
    buffers = {"tokenized_prompts_pos": tokens[None, :1].int(), "tokenized_prompts_neg": tokens[None, 1:].int()}
    buffers["token_prefix_pos"] = backbone().text.token_vectors(tokens[:1, :1])[None]
    return {"prompt_learner": {**state, **unused, **buffers}}


@pytest.mark.parametrize("kind", ["vand", "anomalyclip", "adaclip"])
def test_the_authors_files_load(kind, tmp_path):
    own = load_adapter(f"{kind}:random:4", backbone(), {"half_prompts": True} if kind == "anomalyclip" else {})
    torch.save(published(own, kind), tmp_path / "theirs.pth")
    loaded = load_adapter(tmp_path / "theirs.pth", backbone())
    assert loaded.method == kind and torch.equal(maps(loaded), maps(own))


@pytest.mark.parametrize("settings", [{"kind": "S"}, {"branch": "V", "kind": "SD"}, {"depth": 2, "length": 3}])
def test_adaclip_shape_is_read_from_the_file(settings, tmp_path):
    own = load_adapter("adaclip:random", backbone(), settings)
    torch.save(published(own, "adaclip"), tmp_path / "theirs.pth")
    loaded = load_adapter(tmp_path / "theirs.pth", backbone())
    assert all(getattr(loaded.config, k) == v for k, v in settings.items())
    assert torch.equal(maps(loaded), maps(own))


def test_wrong_keys_are_named(tmp_path):
    state = load_adapter("vand:random", backbone()).state_dict()
    state["fc.9.weight"] = state.pop("fc.0.weight")
    torch.save({"trainable_linearlayer": state}, tmp_path / "bad.pth")
    with pytest.raises(WeightsError, match="missing: fc.0.weight; unknown: fc.9.weight"):
        load_adapter(tmp_path / "bad.pth", backbone())
    torch.save({"something": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="no adapter.*something"):
        load_adapter(tmp_path / "other.pth", backbone())
    broken = published(load_adapter("anomalyclip:random", backbone()), "anomalyclip")
    broken["prompt_learner"]["token_prefix_pos"] += 1
    torch.save(broken, tmp_path / "anomalyclip.pth")
    with pytest.raises(WeightsError, match="other CLIP token vectors"):
        load_adapter(tmp_path / "anomalyclip.pth", backbone())


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("writer", [torch.save, lambda obj, path: path.write_bytes(pickle.dumps(obj))])
def test_code_in_a_checkpoint_is_never_run(writer, tmp_path):
    trace = tmp_path / "trace"
    writer({"trainable_linearlayer": Payload(trace)}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match="never executed"):
        load_adapter(tmp_path / "evil.pth", backbone())
    assert not trace.exists()


def test_another_backbone_is_refused_unless_allowed(tmp_path):
    save_adapter(tmp_path / "a.safetensors", load_adapter("vand:random", backbone()), backbone())
    other = load_backbone(backbone_config(), "random:9")
    with pytest.raises(WeightsError, match="fingerprint"):
        load_adapter(tmp_path / "a.safetensors", other)
    assert load_adapter(tmp_path / "a.safetensors", other, allow_mismatch=True).method == "vand"
    quick = load_backbone(backbone_config(), backbone().model.state_dict(), activation="quick_gelu")
    with pytest.raises(WeightsError, match="activation 'quick_gelu' instead of 'gelu'"):
        load_adapter(tmp_path / "a.safetensors", quick)


def backbone_config():
    from small_models import VIT

    return VIT


def test_checkpoints_are_readable_like_any_file(tmp_path):
    save_adapter(tmp_path / "a.safetensors", load_adapter("vand:random", backbone()), backbone())
    (tmp_path / "plain").write_text("x")
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_headers_are_read_without_torch_and_damage_is_reported(tmp_path):
    save_adapter(tmp_path / "a.safetensors", load_adapter("vand:random", backbone()), backbone(), {"threshold": 1.5})
    info = read_info(tmp_path / "a.safetensors")
    assert (info.method, info.threshold, info.backbone["activation"]) == ("vand", 1.5, "gelu")
    (tmp_path / "b.safetensors").write_bytes(b"\xff" * 50)
    with pytest.raises(WeightsError, match="not a readable checkpoint"):
        read_info(tmp_path / "b.safetensors")
    assert "a" in [i.name for i in list_adapters(tmp_path)]
    with pytest.raises(WeightsError, match="does not exist"):
        read_info(tmp_path / "none.pth")


def test_untrained_methods_say_what_they_need():
    with pytest.raises(WeightsError, match="needs trained weights"):
        load_adapter("vand", backbone())
    assert load_adapter("anovl", backbone()).method == "anovl"
    with pytest.raises(UsageError, match="expected vand:random"):
        load_adapter("vand:best", backbone())
    with pytest.raises(UsageError, match="has no field 'colour'"):
        load_adapter("vand:random", backbone(), {"colour": 1})


@pytest.mark.parametrize("config", [{"depth": "deep"}, {"branch": "X"}, {"colour": 1}, {"length": 0}, {"sigma": -1.0}])
def test_a_file_with_settings_that_are_not_allowed_is_no_adapter(config, tmp_path):
    adapter = load_adapter("adaclip:random", backbone())
    told = {**adapter.describe(), "config": {**adapter.describe()["config"], **config}}
    adapter.describe = lambda: told
    save_adapter(tmp_path / "a.safetensors", adapter, backbone())
    with pytest.raises(WeightsError, match=f"is no AdaCLIP adapter: its settings.*{next(iter(config))}"):
        load_adapter(tmp_path / "a.safetensors", backbone())
    with pytest.raises(UsageError, match=f"AdaCLIP.*{next(iter(config))}"):
        load_adapter("adaclip:random", backbone(), config)


@pytest.mark.parametrize(
    "state",
    [
        {"prompt_learner": [1]},
        {"prompt_learner": {1: 2}},
        {"prompt_learner": {"ctx_pos": torch.zeros(()), "ctx_neg": torch.zeros(())}},
        {"clip_model.visual_prompter.a": torch.zeros(())},
    ],
)
def test_published_names_with_other_things_behind_them_are_refused(tmp_path, state):
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="get the file again"):
        load_adapter(tmp_path / "a.pth", backbone())
