"""MediCLIP: what its options do, and the authors' files."""

import pytest
import torch
from small_models import backbone

from ZSADCLIPLib.adapters.checkpoint import load_adapter
from ZSADCLIPLib.adapters.phrases import sentences
from ZSADCLIPLib.errors import UsageError, WeightsError


def text_of(shape="vit", **settings):
    return load_adapter("mediclip:random:3", backbone(shape), settings).text(backbone(shape)).detach()


def authors(adapter):
    """The adapter as the authors' code stores it."""
    layers = {
        key.replace("fc.", "").replace(".", "_adapter.0."): value[:, :, None, None] if value.dim() == 2 else value
        for key, value in adapter.state_dict().items()
        if key.startswith("fc.")
    }
    context = {key: value for key, value in adapter.state_dict().items() if key.startswith("ctx.")}
    return {"adapter_state_dict": layers, "prompt_state_dict": context}


def test_the_text_tower_sees_padding_unless_it_is_causal():
    moved = (text_of() - text_of(attention="causal")).abs().max()
    assert moved > 1e-3
    assert torch.equal(text_of("pmc"), text_of("pmc", attention="causal"))  # BERT has no mask to leave out


@pytest.mark.parametrize("position", ["middle", "front"])
def test_words_stand_where_the_position_says(position):
    adapter = load_adapter("mediclip:random:3", backbone(), {"context": 4})
    ((tokens, orders), _) = sentences(backbone(), adapter.phrases(), 4)
    ahead = {"middle": 2, "front": 0}[position]
    row = tokens[8].gather(0, orders[position][8])  # in good health
    words = backbone().text.tokenize(["in good health."])[0]
    assert torch.equal(row[1 + ahead : 4 + ahead], words[1:4]) and torch.equal(row[8:10], words[4:6])
    assert not torch.allclose(text_of(positions=(position,)), text_of())


def test_the_map_lies_around_one_half_and_its_maximum_is_the_score():
    adapter, images = load_adapter("mediclip:random", backbone()), torch.randn(2, 3, 64, 64)
    scores = adapter.score(backbone(), images)
    low, high = adapter.score_range(backbone())
    assert 0.1 < low <= scores.maps.min() and scores.maps.max() <= high < 0.9
    assert torch.equal(scores.images, scores.maps.flatten(1).amax(1))


def test_changed_words_are_read_anew():
    adapter, images = load_adapter("mediclip:random", backbone()), torch.randn(1, 3, 64, 64)
    before = adapter.score(backbone(), images).maps
    with torch.no_grad():
        adapter.ctx["normal_end"].mul_(-20)
    assert not torch.allclose(adapter.score(backbone(), images).maps, before)


@pytest.mark.parametrize("settings", [{}, {"shared": True, "context": 5, "positions": ("end", "front")}])
def test_the_authors_files_load(settings, tmp_path):
    adapter = load_adapter("mediclip:random:5", backbone(), settings)
    torch.save(authors(adapter), tmp_path / "checkpoints_9.pkl")
    loaded = load_adapter(tmp_path / "checkpoints_9.pkl", backbone())
    assert loaded.config == adapter.config and torch.equal(loaded.text(backbone()), adapter.text(backbone()))


def test_files_and_settings_that_do_not_fit_are_refused(tmp_path):
    state = authors(load_adapter("mediclip:random", backbone()))
    torch.save({**state, "prompt_state_dict": {"ctx.other": torch.zeros(1)}}, tmp_path / "a.pkl")
    with pytest.raises(WeightsError, match=r"a.pkl is no MediCLIP file: its context is \['ctx.other'\]"):
        load_adapter(tmp_path / "a.pkl", backbone())
    del state["adapter_state_dict"]["0_adapter.0.weight"]
    torch.save(state, tmp_path / "b.pkl")
    with pytest.raises(WeightsError, match=r"missing: fc.0.weight"):
        load_adapter(tmp_path / "b.pkl", backbone())
    with pytest.raises(UsageError, match="expected end, middle, front, each once"):
        load_adapter("mediclip:random", backbone(), {"positions": ("end", "end")})
