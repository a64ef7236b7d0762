"""FLOPs that the mathematics needs for one slice, counted from shapes: two for every multiply and add of a matrix product.

Every exact saving counts: text only up to its end and shared prefixes once, the last block only where its output is used,
differences of logits, no second path where it is thrown away. Norms, activations and softmax are left out.
"""

from __future__ import annotations

from ZSADCLIPLib.adapters.anovl_views import COUNT as VIEWS
from ZSADCLIPLib.backbones.prefixtree import groups, prefix_tree


def _hidden(parts) -> int:
    return parts.up.weight.shape[0]


def block(parts, tokens: int, rows: int | None = None, vv: bool = False, keys: int | None = None) -> int:
    """One transformer block over `tokens` rows, its ordinary output wanted for the first `rows` only (None: all)."""
    width, hidden = parts.qkv_weight.shape[1], _hidden(parts)
    rows, keys = tokens if rows is None else rows, keys or tokens
    linear = 2 * width * width * (2 * tokens + rows) + 2 * width * width * rows + 4 * width * hidden * rows
    attention = 4 * rows * keys * width
    return linear + attention + (4 * tokens * tokens * width + 2 * tokens * width * width if vv else 0)


def vision(tower, size: int, taps=(), joint=(), vv_from: int | None = None, extra: int = 0, embeddings: int = 2) -> int:
    """One image through a ViT with `extra` prompt rows appended."""
    patches, width = tower.grid(size) ** 2, tower.width
    tokens = 1 + patches + extra
    total = 2 * patches * 3 * tower.patch**2 * width + embeddings * 2 * width * tower.embed_dim
    for layer, parts in enumerate(tower.blocks, start=1):
        dual = vv_from is not None and vv_from <= layer <= max(joint, default=0)
        whole = layer < tower.depth or layer in taps or (layer in joint and not dual)
        total += block(parts, tokens, None if whole else 1, dual)
    return total + len(joint) * 2 * (tokens - extra) * width * tower.embed_dim


def _text(text, rows: int, ends: int, blocks: int) -> int:
    """`blocks` blocks over `rows` positions that see one another, the last for the `ends` rows that are read out."""
    parts = text.blocks[0]
    return (blocks - 1) * block(parts, rows) + block(parts, rows, ends) + 2 * ends * text.width * text.embed_dim


def sentences(text, tokens) -> int:
    """Sentences (n, context) through the causal tower, each distinct beginning once."""
    lengths = text.lengths(tokens)
    trees = [(len(rows), prefix_tree(tokens[rows], lengths[rows])) for rows in groups(tokens, lengths)]
    return sum(_text(text, len(tree.tokens), ends, text.depth) for ends, tree in trees)


def padded_sentences(text, count: int) -> int:
    """The same at full length, position by position, as the authors compute them."""
    blocks = text.depth * count * block(text.blocks[0], text.context)
    return blocks + 2 * count * text.width * text.embed_dim


def _map(cells: int, size: int, sigma: float = 0.0) -> int:
    blurred = 2 * 2 * size**3 if sigma > 0 else 0
    return 2 * size * cells * cells + 2 * size * size * cells + blurred


def of_slice(backbone, adapter, size: int) -> dict[str, int]:
    """{"vision", "text", "heads"} FLOPs of one slice with text features of fixed prompts already there."""
    tower, config = backbone.vision, adapter.config
    grid, dim, width = tower.grid(size), tower.embed_dim, tower.width
    patches = grid * grid
    counts = {"vand": _vand, "anomalyclip": _anomalyclip, "adaclip": _adaclip, "anovl": _anovl, "linear-probe": _probe}
    counts |= {"winclip": _winclip, "mediclip": _mediclip, "mvfa": _mvfa, "madclip": _madclip}
    return counts[adapter.method](backbone, adapter, config, tower, size, patches, grid, dim, width)


def _vand(backbone, adapter, config, tower, size, patches, grid, dim, width):
    layers = len(config.layers)
    heads = layers * (2 * patches * width * dim + 2 * patches * dim + _map(grid, size)) + 4 * dim
    return {"vision": vision(tower, size, taps=config.layers), "text": 0, "heads": heads}


def _mediclip(backbone, adapter, config, tower, size, patches, grid, dim, width):
    """Its text depends on nothing but what was learned."""
    heads = len(config.layers) * (2 * patches * width * dim + 2 * patches * dim) + _map(grid, size)
    return {"vision": vision(tower, size, taps=config.layers), "text": 0, "heads": heads}


def _madclip(backbone, adapter, config, tower, size, patches, grid, dim, width):
    """Two branches of a shared layer and the head for maps; its text depends on nothing but what was learned."""
    branch = 2 * patches * width * (width + dim) + 2 * patches * dim
    heads = len(config.layers) * (2 * branch + _map(grid, size))
    return {"vision": vision(tower, size, taps=config.layers), "text": 0, "heads": heads}


def _mvfa(backbone, adapter, config, tower, size, patches, grid, dim, width):
    """Blocks up to the last bottlenecks, whose way back to the stream nobody looks at."""
    tokens, layers = 1 + patches, len(config.layers)
    blocks = sum(block(parts, tokens) for parts in tower.blocks[: config.layers[-1]])
    bottlenecks = 2 * 2 * tokens * width * dim * (2 * layers - 1)
    heads = layers * (2 * 2 * patches * dim + _map(grid, size))
    return {"vision": 2 * patches * 3 * tower.patch**2 * width + blocks, "text": 0, "heads": bottlenecks + heads}


def _probe(backbone, adapter, config, tower, size, patches, grid, dim, width):
    heads = len(config.layers) * 2 * patches * width + _map(grid, size)
    return {"vision": vision(tower, size, taps=config.layers), "text": 0, "heads": heads}


def _anomalyclip(backbone, adapter, config, tower, size, patches, grid, dim, width):
    start = tower.depth - config.vv_blocks + 1 if config.vv_blocks else None
    heads = len(config.layers) * 2 * patches * dim + _map(grid, size) + 4 * dim
    return {"vision": vision(tower, size, joint=config.layers, vv_from=start), "text": 0, "heads": heads}


def _adaclip(backbone, adapter, config, tower, size, patches, grid, dim, width):
    plain = vision(tower, size) if "D" in config.kind else 0
    extra = config.length if "V" in config.branch else 0
    prompted = vision(tower, size, taps=config.layers, extra=extra)
    heads = len(config.layers) * (2 * patches * width * dim + 2 * patches * dim) + 2 * dim * dim + 4 * dim
    if "D" in config.kind:
        generators = (width if "V" in config.branch else 0) + (backbone.text.width if "L" in config.branch else 0)
        heads += config.length * 2 * dim * generators
    return {
        "vision": plain + prompted,
        "text": adaclip_text(backbone, adapter),
        "heads": heads + _map(grid, size, config.sigma),
    }


def adaclip_text(backbone, adapter) -> int:
    """Text of one image from the second block on; the first is the same for every image."""
    config, text = adapter.config, backbone.text
    groups = adapter.prompts.sentences(config.object_name.replace("-", " "))
    tokens = text.tokenize([s for group in groups for s in group])
    nodes, _, ends = prefix_tree(tokens, text.lengths(tokens)).behind(config.length)
    return _text(text, 1 + config.length + len(nodes), len(ends), text.depth - 1) if "L" in config.branch else 0


def _anovl(backbone, adapter, config, tower, size, patches, grid, dim, width):
    start = tower.depth - config.vv_blocks + 1 if config.vv_blocks else None
    total = vision(tower, size, joint=(tower.depth,), vv_from=start)
    if config.score_views == "all":
        total += (VIEWS - 1) * vision(tower, size)
    heads = 2 * patches * dim + _map(grid, size)
    if config.steps:
        sentences = sum(map(len, adapter.prompts.sentences(config.object_name)))
        forward = 2 * 2 * patches * dim * sentences + 2 * patches * dim
        # A step runs clean and noisy tokens forward, and back to the layer's weight and the hidden units.
        backward = 2 * (2 * 2 * patches * dim * sentences + 2 * patches * dim)
        heads += config.steps * (2 * forward + backward) + forward
    return {"vision": total, "text": 0, "heads": heads}


def _winclip(backbone, adapter, config, tower, size, patches, grid, dim, width):
    """A slice without a black window, zero-shot; patches are embedded anew for each scale, which is next to nothing."""
    total, windows = vision(tower, size), 0
    for scale in config.scales:
        count, tokens = (grid - scale + 1) ** 2, 1 + scale * scale
        blocks = sum(block(parts, tokens, 1 if n == tower.depth else None) for n, parts in enumerate(tower.blocks, 1))
        total += 2 * patches * 3 * tower.patch**2 * width + count * (blocks + 2 * width * dim)
        windows += count
    return {"vision": total, "text": 0, "heads": 2 * (1 + windows) * dim + _map(grid, size)}
