"""Text towers: CLIP's causal transformer and BERT (PMC-CLIP, BiomedCLIP), with room for learnable prompts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..errors import UsageError, WeightsError
from .blocks import Edit, forward_block, parts_of
from .prefixtree import groups, prefix_tree

CHUNK = 64
"""Sentences of a BERT encoded at once; sorted by length first, so that short ones are not padded to the longest."""

Prompts = Callable[[int], Tensor]
"""Rows (B, length, W) that overwrite positions 1..length before block i, of B images."""


class TextTower(ABC):
    """What both towers share: tokens in, unnormalised embeddings (n, C) out, sentences batched by length."""

    width: int
    embed_dim: int
    depth: int
    context: int

    def __init__(self, tokenizer: Callable[[Sequence[str]], Tensor] | None):
        self._tokenizer = tokenizer

    def tokenize(self, sentences: Sequence[str]) -> Tensor:
        """Token ids (n, context); raises WeightsError when the model came without its vocabulary."""
        if self._tokenizer is None:
            raise WeightsError("this text tower came without a tokenizer: put vocab.txt beside its weights")
        return self._tokenizer(list(sentences))

    @abstractmethod
    def signature(self, sentences: Sequence[str]) -> bytes:
        """What the features of sentences depend on besides the weights: ids or words, and how they are read out."""

    def with_context(self, words: str, length: int) -> Tensor:
        """Ids (1, context) of `words` behind `length` placeholder rows at positions 1..length (learnable context).

        Raises UsageError when the words no longer fit into the context.
        """
        row, filler = self.tokenize([words])[0], self.tokenize(["x"])[0, 1]
        used = int(self.lengths(row[None])[0])
        if used + length > self.context:
            raise UsageError(
                f"{length} context vectors and the words {words!r} exceed the {self.context} text positions"
            )
        return torch.cat([row[:1], filler.expand(length), row[1 : self.context - length]])[None]

    def encode(
        self, tokens: Tensor, edit: Edit | None = None, embeddings: Tensor | None = None, causal: bool = True
    ) -> Tensor:
        """Text embeddings (n, C), not normalised.

        `embeddings` (n, context, W) replace the looked-up token vectors; `edit(i, x)` is called before block i. Without
        `causal` CLIP's transformer loses its mask: all positions, padding included, see each other. BERT never has one.
        """
        if edit is not None or embeddings is not None or not causal:
            return self._forward(tokens, edit, embeddings, causal)
        return self._encode_plain(tokens)

    def encode_prompted(self, tokens: Tensor, prompts: Prompts, depth: int) -> Tensor:
        """Sentences (n, context) with `prompts(i)` before the blocks 0 < i < `depth`, for B images -> (B, n, C)."""

        def edit(i: int, x: Tensor) -> Tensor:
            # Block 0 is the same for every image; rows split up per image only where prompts enter.
            if not 0 < i < depth:
                return x
            rows = prompts(i).to(x.dtype)
            x = x if len(x) == len(rows) * len(tokens) else x.repeat(len(rows), 1, 1)
            rows = rows.repeat_interleave(len(tokens), dim=0)
            return torch.cat([x[:, :1], rows, x[:, 1 + rows.shape[1] :]], dim=1)

        return self._forward(tokens, edit, None).view(-1, len(tokens), self.embed_dim)

    @abstractmethod
    def lengths(self, tokens: Tensor) -> Tensor:
        """Positions of each sentence (n,) that carry meaning."""

    @abstractmethod
    def token_vectors(self, tokens: Tensor) -> Tensor:
        """Looked-up token vectors (..., W)."""

    @abstractmethod
    def _encode_plain(self, tokens: Tensor) -> Tensor:
        """Embeddings (n, C) of any number of unedited sentences."""

    @abstractmethod
    def _forward(self, tokens: Tensor, edit: Edit | None, embeddings: Tensor | None, causal: bool = True) -> Tensor:
        """Embeddings (n, C) of one chunk."""


class CausalText(TextTower):
    """CLIP's text transformer; positions behind the last end-of-text token cannot influence it and are not computed."""

    def __init__(self, model: nn.Module, tokenizer=None):
        super().__init__(tokenizer)
        text = getattr(model, "text", model)
        pool = getattr(text, "pool_type", None) or getattr(text, "text_pool_type", None)
        if pool != "argmax" or getattr(text, "cls_emb", None) is not None or getattr(text, "attn_mask", None) is None:
            raise WeightsError(f"this text tower (pooling {pool!r}) is not CLIP's causal one; choose a CLIP ViT model")
        if not isinstance(text.text_projection, nn.Parameter):
            raise WeightsError("a text projection with bias is not CLIP's; choose a CLIP ViT model")
        self._text = text
        self.blocks = [parts_of(block) for block in text.transformer.resblocks]
        self.depth, self.context = len(self.blocks), text.positional_embedding.shape[0]
        self.width, self.embed_dim = text.text_projection.shape
        self._planned: tuple = (None, 0, None)

    def signature(self, sentences: Sequence[str]) -> bytes:
        # There is only one vocabulary, so the words stand for their ids and the tokenizer need not be read.
        return "\n".join(["causal", str(self.context), *sentences]).encode()

    def lengths(self, tokens: Tensor) -> Tensor:
        """Tokens up to and including end-of-text, the largest id of a row."""
        return tokens.argmax(dim=-1) + 1

    def token_vectors(self, tokens: Tensor) -> Tensor:
        return self._text.token_embedding(tokens)

    def _encode_plain(self, tokens):
        lengths, parts = self.lengths(tokens), []
        order = groups(tokens, lengths)
        for rows in order:
            tree = prefix_tree(tokens[rows], lengths[rows])
            x = self._placed(self.token_vectors(tree.tokens), tree.positions)[None]
            parts.append(self._through(x, tree.sees, tree.ends)[0])
        return torch.cat(parts)[torch.argsort(torch.cat(order))]

    def encode_prompted(self, tokens, prompts, depth):
        if depth < 2:
            return self._encode_plain(tokens)[None]
        first = prompts(1)
        images, length = first.shape[:2]
        tree, (nodes, sees, ends) = self._plan(tokens, length)
        shared, _ = forward_block(
            self.blocks[0], self._placed(self.token_vectors(tree.tokens), tree.positions)[None], sees=tree.sees
        )
        start, rest = shared[:, :1].expand(images, -1, -1), shared[:, nodes].expand(images, -1, -1)
        x = torch.cat([start, first.to(shared.dtype), rest], dim=1)

        def edit(i: int, x: Tensor) -> Tensor:
            if not 1 < i < depth:
                return x
            return torch.cat([x[:, :1], prompts(i).to(x.dtype), x[:, 1 + length :]], dim=1)

        return self._through(x, sees, ends, edit, first=1)

    def _plan(self, tokens: Tensor, length: int):
        """The tree of sentences and what stands behind their prompts, kept for the same tensor: reading it waits for a GPU."""
        if self._planned[0] is not tokens or self._planned[1] != length:
            with torch.inference_mode(False):  # kept for trainings too, which save indices for their backward pass
                tree = prefix_tree(tokens, self.lengths(tokens))
                self._planned = (tokens, length, (tree, tree.behind(length)))
        return self._planned[2]

    def _placed(self, vectors: Tensor, positions: Tensor | slice) -> Tensor:
        weights = self._text.positional_embedding
        return vectors.to(weights.dtype) + weights[positions]

    def _through(self, x: Tensor, sees: Tensor, ends: Tensor, edit: Edit | None = None, first: int = 0) -> Tensor:
        """Rows (B, N, W) through the blocks from `first` on -> embeddings (B, n, C) of the rows `ends` (n,)."""
        for i, parts in enumerate(self.blocks[first:], start=first):
            x = x if edit is None else edit(i, x)
            x, _ = forward_block(parts, x, rows=ends if i == self.depth - 1 else None, sees=sees)
        return self._text.ln_final(x) @ self._text.text_projection

    def _forward(self, tokens, edit, embeddings, causal=True):
        ends = self.lengths(tokens) - 1
        used = int(ends.max()) + 1 if causal else self.context
        x = self.token_vectors(tokens[:, :used]) if embeddings is None else embeddings[:, :used]
        x = self._placed(x, slice(used))
        for i, parts in enumerate(self.blocks):
            if edit is not None:
                x = edit(i, x)
            x, _ = forward_block(parts, x, causal=causal)
        ends = ends.repeat(len(x) // len(ends))
        x = self._text.ln_final(x[torch.arange(len(x), device=x.device), ends])
        return x @ self._text.text_projection


class BertText(TextTower):
    """A Hugging Face BERT; the class position of the last hidden state is projected into the joint space.

    `masked` hides padding (BiomedCLIP); PMC-CLIP attends to it, so the fixed context length is part of its numbers.
    `pooler` reads the tanh pooler instead (the public notebook's variant). See docs/methods/pmcclip.md, "Text tower".
    """

    def __init__(
        self,
        bert: nn.Module,
        projection: Callable[[Tensor], Tensor],
        embed_dim: int,
        context: int,
        masked: bool,
        pooler: bool = False,
        tokenizer=None,
    ):
        super().__init__(tokenizer)
        if pooler and bert.pooler is None:
            raise WeightsError("the pooler read-out needs pooler.dense weights, and this text tower has none")
        self.bert, self.projection, self.embed_dim, self.context = bert, projection, embed_dim, context
        self.masked, self.pooler = masked, pooler
        self.width, self.depth, self.pad = bert.config.hidden_size, len(bert.encoder.layer), bert.config.pad_token_id

    def signature(self, sentences: Sequence[str]) -> bytes:
        ids = self.tokenize(sentences)
        return f"bert {self.masked} {self.pooler} {tuple(ids.shape)} ".encode() + ids.numpy().tobytes()

    def lengths(self, tokens: Tensor) -> Tensor:
        """Tokens that are not padding."""
        return (tokens != self.pad).sum(dim=-1)

    def token_vectors(self, tokens: Tensor) -> Tensor:
        return self.bert.embeddings.word_embeddings(tokens)

    def _encode_plain(self, tokens):
        order = torch.argsort(self.lengths(tokens), stable=True)
        parts = [self._forward(tokens[rows], None, None) for rows in order.split(CHUNK)]
        return torch.cat(parts)[torch.argsort(order)]

    def _forward(self, tokens, edit, embeddings, causal=True):
        used = int(self.lengths(tokens).max()) if self.masked else tokens.shape[1]
        tokens = tokens[:, :used]
        vectors = self.token_vectors(tokens) if embeddings is None else embeddings[:, :used]
        x = self.bert.embeddings(inputs_embeds=vectors.to(self.bert.embeddings.LayerNorm.weight.dtype))
        mask = None
        if self.masked:
            mask = torch.zeros(len(tokens), 1, 1, used, dtype=x.dtype, device=x.device)
            mask = mask.masked_fill((tokens == self.pad)[:, None, None], torch.finfo(x.dtype).min)
        for i, layer in enumerate(self.bert.encoder.layer):
            if edit is not None:
                x = edit(i, x)
            rows = mask if mask is None else mask.repeat(len(x) // len(mask), 1, 1, 1).expand(-1, 1, used, -1)
            x = layer(x, rows)
            x = x[0] if isinstance(x, tuple) else x
        return self.projection(self.bert.pooler(x) if self.pooler else x[:, 0])
