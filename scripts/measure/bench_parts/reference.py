"""The authors' way of working, for a ratio in the same run: one slice at a time, everything they compute computed.

An own implementation from their method pages on the same weights: attention that returns its averaged weights, both
channels of logits enlarged, AnoVL's 22 views through the two-path tower and a map pass beside them, AdaCLIP's 48 sentences
at full length for every image, k-means with the library's default threads, scipy's blur, all rows of WinCLIP's windows through
all blocks and a loop over patches. Numerically equal to the engine.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter, map_coordinates
from sklearn.cluster import KMeans
from torch import Tensor

from ZSADCLIPLib.adapters.anovl_adaptation import adapt, seeded_draws
from ZSADCLIPLib.adapters.anovl_views import views
from ZSADCLIPLib.backbones.windows import window_cells


def attention(parts, h: Tensor, mask: Tensor | None = None, weights: bool = True) -> Tensor:
    """Multi-head attention (N, B, W) that also returns its averaged weights, as most authors call it."""
    bias = torch.zeros(0) if parts.qkv_bias is None else parts.qkv_bias
    out, _ = F.multi_head_attention_forward(
        h, h, h, h.shape[-1], parts.heads, parts.qkv_weight, bias, None, None, False, 0.0,
        parts.out.weight, parts.out.bias, training=False, need_weights=weights, attn_mask=mask,
    )  # fmt: skip
    return out


def mlp(parts, x: Tensor) -> Tensor:
    """The hidden layer of a block, each step a new tensor."""
    return parts.down(parts.activation(parts.up(parts.norm2(x))))


def plain_block(parts, x: Tensor, mask: Tensor | None = None, weights: bool = True) -> Tensor:
    x = x + attention(parts, parts.norm1(x), mask, weights)
    return x + mlp(parts, x)


def dual_block(parts, stream: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Ordinary and V-V path by hand (B, N, W): two attention matrices, two projections."""
    h = parts.norm1(stream)
    batch, tokens, width = h.shape
    q, k, v = (
        t.reshape(batch, tokens, parts.heads, -1).transpose(1, 2)
        for t in F.linear(h, parts.qkv_weight, parts.qkv_bias).chunk(3, dim=-1)
    )
    scale = (width // parts.heads) ** -0.5

    def mixed(a: Tensor, b: Tensor) -> Tensor:
        weights = (a @ b.transpose(-1, -2) * scale).softmax(dim=-1)
        return parts.out((weights @ v).transpose(1, 2).reshape(batch, tokens, width))

    ordinary, value = mixed(q, k), mixed(v, v)
    stream = stream + ordinary
    return stream + mlp(parts, stream), x + value


def image_pass(tower, images: Tensor, pos_embed: str, taps=(), prompts=None, length: int = 0):
    """(taps without prompt rows, class embedding) of a plain or prompted pass."""
    x = tower._embed(images, pos_embed).transpose(0, 1)
    found = []
    for i, parts in enumerate(tower.blocks):
        rows = prompts(i) if prompts is not None else None
        if rows is not None:
            x = torch.cat([x if i == 0 else x[:-length], rows.transpose(0, 1)])
        x = plain_block(parts, x)
        if i + 1 in taps:
            found.append((x[:-length] if length else x).transpose(0, 1))
    return found, tower.project(x[0])


def dual_pass(tower, images: Tensor, pos_embed: str, vv_from: int):
    """(V-V stream, ordinary stream) after the last block."""
    x = tower._embed(images, pos_embed)
    for parts in tower.blocks[: vv_from - 1]:
        x = plain_block(parts, x.transpose(0, 1)).transpose(0, 1)
    stream = x
    for parts in tower.blocks[vv_from - 1 :]:
        stream, x = dual_block(parts, stream, x)
    return x, stream


def text_pass(text, tokens: Tensor, prompts=None, vectors: Tensor | None = None) -> Tensor:
    """All 77 positions of every sentence; `prompts(i)` (length, W) overwrite positions 1.. before block i."""
    model = text._text
    x = (text.token_vectors(tokens) if vectors is None else vectors) + model.positional_embedding
    count = tokens.shape[1]
    mask = torch.full((count, count), float("-inf"), device=x.device).triu(1)
    x = x.transpose(0, 1)
    for i, parts in enumerate(text.blocks):
        rows = prompts(i) if prompts is not None else None
        if rows is not None:
            x = torch.cat([x[:1], rows[:, None].expand(-1, x.shape[1], -1), x[1 + len(rows) :]])
        x = plain_block(parts, x, mask)
    x = model.ln_final(x.transpose(0, 1))
    return x[torch.arange(len(tokens)), tokens.argmax(dim=-1)] @ model.text_projection


def fixed_text(backbone, adapter) -> tuple[Tensor, Tensor]:
    """Text directions (C, 2) of VAND, MVFA-AD, AnoVL or WinCLIP and unit sentence vectors (n, C), all positions computed."""
    unit_first, columns, every = adapter.method in ("vand", "mvfa"), [], []
    for group in adapter.prompts.sentences(adapter.config.object_name):
        encoded = text_pass(backbone.text, backbone.text.tokenize(group).to(backbone.device))
        every.append(F.normalize(encoded, dim=-1))
        columns.append(F.normalize((every[-1] if unit_first else encoded).mean(dim=0), dim=-1))
    return torch.stack(columns, dim=1), torch.cat(every)


def _square(tokens: Tensor) -> Tensor:
    """(1, L, 2) -> (1, 2, g, g)."""
    side = int(tokens.shape[1] ** 0.5)
    return tokens.permute(0, 2, 1).reshape(1, 2, side, side)


@torch.no_grad()
def vand(backbone, adapter, image: Tensor, fixed: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """(map (S, S), score) of one image (1, 3, S, S); `fixed` as `text_for` gives it."""
    config, size, text = adapter.config, image.shape[-1], fixed[0]
    taps, embedding = image_pass(backbone.vision, image, config.pos_embed, config.layers)
    score = (100 * F.normalize(embedding, dim=-1) @ text).softmax(dim=-1)[0, 1]
    maps = []
    for tokens, linear in zip(taps, adapter.fc, strict=True):
        logits = 100 * F.normalize(linear(tokens[:, 1:]), dim=-1) @ text
        enlarged = F.interpolate(_square(logits), size=size, mode="bilinear", align_corners=True)
        maps.append(enlarged.softmax(dim=1)[0, 1].cpu().numpy())
    return torch.from_numpy(np.sum(maps, axis=0)), score


@torch.no_grad()
def mediclip(backbone, adapter, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
    """`text` (C, 2) once per run; both columns of cosines enlarged."""
    config, size = adapter.config, image.shape[-1]
    taps, _ = image_pass(backbone.vision, image, config.pos_embed, config.layers)
    cosines = [F.normalize(linear(t[:, 1:]), dim=-1) @ text for t, linear in zip(taps, adapter.fc, strict=True)]
    both = _square(config.temperature * torch.stack(cosines).mean(dim=0))
    found = F.interpolate(both, size=size, mode="bilinear", align_corners=True).softmax(dim=1)[0, 1]
    return found.cpu(), found.max()


@torch.no_grad()
def madclip(backbone, adapter, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
    """`text` (C, 2) once per run; both heads of both branches on all tokens, both channels enlarged."""
    config, size, total = adapter.config, image.shape[-1], 0
    branches = zip(adapter.normal_det_adapters, adapter.abnormal_det_adapters, strict=True)
    taps, _ = image_pass(backbone.vision, image, config.pos_embed, config.layers)
    for tokens, pair in zip(taps, branches, strict=True):
        evidence = []
        for own, (branch, direction) in enumerate(zip(pair, (text[:, 0], text[:, 1]), strict=True)):
            shared = branch.fc1(tokens)
            shared = (shared - shared.mean(-1, keepdim=True)) / (
                shared.var(-1, unbiased=False, keepdim=True) + 1e-5
            ).sqrt()
            _, seg = (F.normalize(head(shared)[:, 1:], dim=-1) for head in (branch.fc2, branch.fc3))
            evidence.append(seg @ direction - seg @ text[:, 1 - own])
        both = _square(config.temperature * torch.stack(evidence, dim=-1))
        total = total + F.interpolate(both, size=size, mode="bilinear", align_corners=True).softmax(dim=1)[0, 1]
    return total.cpu(), total.max() / len(config.layers)


@torch.no_grad()
def mvfa(backbone, adapter, image: Tensor, fixed: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Every block, two bottlenecks after each tap, and both columns of cosines of each enlarged."""
    config, tower, size, text = adapter.config, backbone.vision, image.shape[-1], fixed[0]
    pairs = dict(zip(config.layers, zip(adapter.seg_adapters, adapter.det_adapters, strict=True), strict=True))
    x, total, scores = tower._embed(image, config.pos_embed).transpose(0, 1), 0, []
    for i, parts in enumerate(tower.blocks, start=1):
        x = plain_block(parts, x)
        if i in pairs:
            middles = [pair.fc1(x) for pair in pairs[i]]
            ends = [pair.fc2(middle) for pair, middle in zip(pairs[i], middles, strict=True)]
            x = 0.8 * x + 0.1 * ends[0] + 0.1 * ends[1]
            seg, det = (100 * F.normalize(middle[1:].transpose(0, 1), dim=-1) @ text for middle in middles)
            enlarged = F.interpolate(_square(seg), size=size, mode="bilinear", align_corners=True)
            total = total + enlarged.softmax(dim=1)[0, 1]
            scores.append(det.softmax(dim=-1)[0, :, 1].mean())
    return total, torch.stack(scores).mean()


@torch.no_grad()
def anomalyclip(backbone, adapter, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
    """`text` (2, C) once per run; joint features of the last layer."""
    config, tower, size = adapter.config, backbone.vision, image.shape[-1]
    x, stream = dual_pass(tower, image, config.pos_embed, tower.depth - config.vv_blocks + 1)
    joint, raw = tower.project(x), tower._project(stream[:, 0])
    score = (F.normalize(raw, dim=-1) @ text.T / config.temperature).softmax(dim=-1)[0, 1]
    patches = F.normalize(joint, dim=-1)[:, None].expand(-1, 2, -1, -1)
    similarity = (patches * text[None, :, None]).sum(dim=-1).transpose(1, 2)
    probabilities = (similarity / config.temperature).softmax(dim=-1)[:, 1:]
    enlarged = F.interpolate(_square(probabilities), size=size, mode="bilinear", align_corners=False)[0]
    return torch.from_numpy(gaussian_filter(((enlarged[1] + 1 - enlarged[0]) / 2).cpu().numpy(), config.sigma)), score


@torch.no_grad()
def adaclip(backbone, adapter, image: Tensor, text: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Two passes and 48 sentences of 77 positions for every image."""
    config, size = adapter.config, image.shape[-1]
    features = {"images": image, "plain": image_pass(backbone.vision, image, config.pos_embed)[1]}
    visual, textual = adapter.prompt_rows("visual", features), adapter.prompt_rows("text", features)
    taps, embedding = image_pass(
        backbone.vision, image, config.pos_embed, config.layers,
        lambda i: visual(i) if i < config.depth else None, config.length,
    )  # fmt: skip
    prompts = lambda i: textual(i)[0] if 0 < i < config.depth else None  # noqa: E731
    columns = []
    for group in adapter.prompts.sentences(config.object_name):
        encoded = F.normalize(
            text_pass(backbone.text, backbone.text.tokenize(group).to(backbone.device), prompts), dim=-1
        )
        columns.append(F.normalize(encoded.mean(dim=0), dim=-1))
    text = torch.stack(columns, dim=1)
    heads = zip(taps, adapter.patch_token_layer.head, strict=True)
    units = [F.normalize(head(tokens[:, 1:]), dim=-1) for tokens, head in heads]
    logits = [100 * unit @ text for unit in units]
    chosen = torch.stack(logits).mean(dim=0).softmax(dim=-1)[0, :, 1].topk(min(logits[0].shape[1], 5 * config.clusters))
    picked = torch.stack([unit[0, chosen.indices] for unit in units], dim=1)
    points = picked.flatten(1).cpu().numpy()
    labels = KMeans(n_clusters=config.clusters, random_state=config.seed, n_init=1).fit_predict(points)
    means = torch.stack(
        [picked[torch.from_numpy(labels == k).to(picked.device)].mean(dim=(0, 1)) for k in np.unique(labels)]
    )
    own = F.normalize(adapter.cls_token_layer.head[0](embedding), dim=-1)
    vector = F.normalize(0.2 * F.normalize(means.mean(dim=0), dim=-1) + 0.8 * own, dim=-1)
    score = (100 * vector @ text).softmax(dim=-1)[0, 1]
    enlarged = [F.interpolate(_square(one), size=size, mode="bilinear", align_corners=True) for one in logits]
    both = torch.stack(enlarged).mean(dim=0).softmax(dim=1)[0]
    return torch.from_numpy(gaussian_filter(((both[1] + 1 - both[0]) / 2).cpu().numpy(), config.sigma)), score


def anovl(backbone, adapter, image: Tensor, fixed: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """22 views through both paths, a map pass beside them, eight projected taps, adaptation under anomaly detection."""
    config, tower, size, (text, anchors) = adapter.config, backbone.vision, image.shape[-1], fixed
    start = tower.depth - config.vv_blocks + 1
    with torch.no_grad():
        x, stream = dual_pass(tower, torch.cat(views(image)), config.pos_embed, start)
        embeddings = tower.project(torch.cat([stream[:, :1], x[:, 1:]], dim=1))[:, 0]
        score = (F.normalize(embeddings, dim=-1) @ text).softmax(dim=-1)[:, 1].mean()
        x, _ = dual_pass(tower, image, config.pos_embed, start)
        tokens = [tower.project(x[:, 1:]) for _ in range(8)][6]
    if config.steps:
        draws = seeded_draws(config.seed, config.steps, tokens.shape[1:], len(anchors), tokens.device)
        with torch.autograd.set_detect_anomaly(True):
            tokens, _, _ = adapt(tokens, anchors, text, [draws(0)])
    with torch.no_grad():
        grid = _square((F.normalize(tokens, dim=-1) @ text).softmax(dim=-1))[:, 1:]
        smooth = F.avg_pool2d(F.pad(grid, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        return F.interpolate(smooth, size=size, mode="bilinear", align_corners=True)[0, 0], score


@torch.no_grad()
def linear_probe(backbone, adapter, image: Tensor, fixed: None) -> tuple[Tensor, Tensor]:
    """One product of all taps' normalised tokens; the grid is drawn at the middle of its patches by scipy."""
    config, size = adapter.config, image.shape[-1]
    taps, _ = image_pass(backbone.vision, image, config.pos_embed, config.layers)
    tokens = torch.cat([F.layer_norm(each, each.shape[-1:])[0, 1:] for each in taps], dim=-1)
    logits = F.linear(tokens, torch.cat([weights[0] for weights in adapter.weight])[None], adapter.bias)
    side = int(len(logits) ** 0.5)
    position = (np.arange(size) + 0.5) / backbone.vision.patch - 0.5
    where = np.stack(np.meshgrid(position, position, indexing="ij"))
    grid = map_coordinates(logits.reshape(side, side).cpu().double().numpy(), where, order=1, mode="nearest")
    found = torch.from_numpy(grid).float().sigmoid()
    return found, found.max()


@torch.no_grad()
def winclip(backbone, adapter, image: Tensor, fixed: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Whole image and windows through all blocks, every row; each window gathered, each patch averaged by itself."""
    config, tower, size, text = adapter.config, backbone.vision, image.shape[-1], fixed[0]
    first = tower._embed(image, config.pos_embed)

    def classes(x: Tensor) -> Tensor:
        """Abnormal probabilities (B,) of tokens (B, N, W)."""
        x = x.transpose(0, 1)
        for parts in tower.blocks:
            x = plain_block(parts, x, weights=False)
        embedding = tower._project(tower.norm_post(x.transpose(0, 1))[:, 0])
        return (F.normalize(embedding, dim=-1) @ text / config.temperature).softmax(dim=-1)[:, 1]

    score, grid = classes(first)[0], tower.grid(size)
    inverse = torch.full((grid * grid,), float(1 / score))
    for scale in config.scales:
        cells = window_cells(grid, scale, image.device)
        rows = F.pad(1 + cells, (1, 0))
        p = classes(torch.cat([first.index_select(1, one) for one in rows]))
        holds = [(cells == patch).any(dim=1) for patch in range(grid * grid)]
        inverse += torch.stack([(1 / p[one]).sum() / one.sum() for one in holds]).cpu()
    harmonic = ((1 + len(config.scales)) / inverse).view(1, 1, grid, grid)
    return F.interpolate(harmonic, size=size, mode="bilinear", align_corners=False)[0, 0], score


METHODS = {
    "vand": vand,
    "anomalyclip": anomalyclip,
    "adaclip": adaclip,
    "anovl": anovl,
    "linear-probe": linear_probe,
    "winclip": winclip,
    "mediclip": mediclip,
    "mvfa": mvfa,
    "madclip": madclip,
}


def text_for(backbone, adapter) -> Tensor | tuple[Tensor, Tensor] | None:
    """The text features that the authors compute once per run; None where they do so for every image, or have no words."""
    if adapter.method in ("adaclip", "linear-probe"):
        return None
    with torch.no_grad():
        learned = adapter.method in ("anomalyclip", "mediclip", "madclip")
        return adapter.text(backbone) if learned else fixed_text(backbone, adapter)
