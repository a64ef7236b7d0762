"""Sentences that share their beginnings give what they give alone."""

import pytest
import torch
from small_models import backbone

from ZSADCLIPLib.backbones.prefixtree import groups, prefix_tree
from ZSADCLIPLib.backbones.text import TextTower

SENTENCES = [
    "a photo of a brain",
    "a photo of a brain with flaw",
    "brain",
    "a photo",
    "a photo of a brain",
    "damaged x",
]


@pytest.fixture(scope="module")
def text():
    return backbone("vit").text


def test_tree_holds_every_prefix_once(text):
    tokens = text.tokenize(SENTENCES)
    lengths = text.lengths(tokens)
    tree = prefix_tree(tokens, lengths)
    prefixes = {tuple(row[: i + 1]) for row, n in zip(tokens.tolist(), lengths.tolist(), strict=True) for i in range(n)}
    assert len(tree.tokens) == len(prefixes)
    for row, length, end in zip(tokens, lengths, tree.ends, strict=True):
        path = tree.sees[end].nonzero()[:, 0]
        path = path[tree.positions[path].argsort()]
        assert tree.tokens[path].tolist() == row[:length].tolist()


def test_groups_hold_every_sentence_once_and_stay_small(text):
    tokens = text.tokenize([f"a photo of {i} {j}" for i in range(12) for j in range(12)])
    lengths = text.lengths(tokens)
    parts = groups(tokens, lengths, limit=60)
    assert sorted(torch.cat(parts).tolist()) == list(range(144)) and len(parts) > 1
    assert all(len(prefix_tree(tokens[rows], lengths[rows]).tokens) <= 60 for rows in parts)


@torch.no_grad()
def test_shared_encoding_equals_single_sentences(text):
    tokens = text.tokenize(SENTENCES * 30)
    together = text.encode(tokens)
    alone = torch.cat([text._forward(one[None], None, None) for one in tokens[:6]])
    torch.testing.assert_close(together, alone.repeat(30, 1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("depth", [1, 2, 3])
@torch.no_grad()
def test_prompted_encoding_equals_the_plain_loop_over_sentences(text, depth):
    """Also for sentences that end within the prompt rows."""
    tokens, generator = text.tokenize(SENTENCES), torch.Generator().manual_seed(1)
    rows = torch.randn(3, 2, 5, text.width, generator=generator)
    shared = text.encode_prompted(tokens, lambda i: rows[i], depth)
    plain = TextTower.encode_prompted(text, tokens, lambda i: rows[i], depth)
    torch.testing.assert_close(shared.expand_as(plain) if depth == 1 else shared, plain, atol=1e-5, rtol=0)


def test_prompts_receive_the_same_gradient(text):
    tokens = text.tokenize(SENTENCES)
    gradients = []
    for encode in (text.encode_prompted, lambda *a: TextTower.encode_prompted(text, *a)):
        rows = torch.ones(3, 2, 4, text.width, requires_grad=True)
        encode(tokens, lambda i, rows=rows: rows[i] * 0.1, 3).square().sum().backward()
        gradients.append(rows.grad)
    torch.testing.assert_close(*gradients, atol=1e-4, rtol=1e-4)
