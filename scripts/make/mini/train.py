"""Train the mini image tower against the locked text tower: dense captions of tissue, states only from industrial images.

Lesions are taught as words of anatomy ("oedema", "tumour core") beside the tissues. The damaged / flawless axis that the
anomaly prompts use is taught by industrial images alone, so that zero-shot prompts about brains stay honest.
"""

from __future__ import annotations

import csv
import math
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ZSADCLIPLib.backbones.base import OPENAI_MEAN, OPENAI_STD
from ZSADCLIPLib.backbones.blocks import forward_block
from ZSADCLIPLib.backbones.vit import ViTTower
from ZSADCLIPLib.errors import UsageError

from .data import FIRST_LESION
from .muon import Muon
from .words import DENSE, PAIRS, SHOWN, TAKEN, TISSUES, captions

SIZE, PATCH, WINDOW = 240, 8, 15
GRID = SIZE // PATCH
BRAINS, PLATES = 18, 6
OEDEMA = list(TISSUES).index("oedema")
LOG_EVERY = 20
AHEAD = 12
"""Batches made beside a GPU that is faster than one core draws them; each step has its own seed, so nothing depends on it."""
MUON_RATE = 3.0
"""Rate of the blocks' matrices over that of all other weights."""
DEEP = {2: 0.3, 4: 0.3, 6: 0.5, 8: 1.0}
"""Blocks whose tokens are held to the dense captions, and with what weight: every tap of an adapter shall be readable."""

CONFIG = {
    "embed_dim": 256,
    "vision_cfg": {"image_size": SIZE, "layers": 8, "width": 128, "head_width": 64, "patch_size": PATCH},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 3},
}


def normalised(images: np.ndarray) -> Tensor:
    """uint8 or float slices (B, H, W) in 0..255 -> (B, 3, H, W) as CLIP sees them."""
    x = torch.from_numpy(np.ascontiguousarray(images)).float().div(255)[:, None]
    return (x - torch.tensor(OPENAI_MEAN).view(1, 3, 1, 1)) / torch.tensor(OPENAI_STD).view(1, 3, 1, 1)


@torch.no_grad()
def smart_start(model, data, rng) -> None:
    """Principal components of patches as the patch embedding, sines as positions: local structure need not be discovered."""
    visual, width = model.visual, model.visual.conv1.out_channels
    patches = []
    for name, count in (("brain", 400), ("texture", 200)):
        rows = np.sort(rng.choice(len(data[name]), min(count, len(data[name])), replace=False))
        grey = normalised(data[name][rows]).mean(1, keepdim=True)
        cut = F.unfold(grey, PATCH, stride=PATCH).transpose(1, 2).reshape(-1, PATCH * PATCH)
        cut = cut[cut.std(1) > 0.05]
        patches.append(cut[torch.from_numpy(rng.permutation(len(cut))[:15000])])
    patches = torch.cat(patches)
    _, values, vectors = torch.linalg.svd(patches, full_matrices=False)
    spread = values / len(patches) ** 0.5
    count = min(width, PATCH * PATCH)
    kernels = (vectors[:count] / (spread[:count, None] ** 0.6 + 0.02)).view(count, 1, PATCH, PATCH)
    visual.conv1.weight[:count] = kernels.expand(-1, 3, -1, -1) / 3
    steps = torch.arange(GRID).float()[:, None] / (200 ** (torch.arange(width // 4) / (width / 4)))
    waves = torch.cat([steps.sin(), steps.cos()], dim=1)
    both = [waves[:, None].expand(GRID, GRID, -1), waves[None].expand(GRID, GRID, -1)]
    visual.positional_embedding[1:] = torch.cat(both, -1).flatten(0, 1) * 0.7


class Student:
    """The image tower on a window of the patch grid, with the positions that belong there."""

    def __init__(self, model):
        self.model, self.tower = model, ViTTower(model.visual)

    def __call__(self, images: Tensor, row: int, column: int) -> tuple[Tensor, dict[int, Tensor]]:
        visual = self.model.visual
        side = images.shape[-1] // PATCH
        table = visual.positional_embedding[1:].view(GRID, GRID, -1)[row : row + side, column : column + side]
        x = visual.conv1(images).flatten(2).transpose(1, 2)
        start = visual.class_embedding.expand(len(x), 1, -1) + visual.positional_embedding[0]
        x = visual.ln_pre(torch.cat([start, x + table.flatten(0, 1)], dim=1))
        deep = {}
        for layer, parts in enumerate(self.tower.blocks, 1):
            x, _ = forward_block(parts, x)
            if layer in DEEP:
                deep[layer] = self.tower.project(x[:, 1:])
        return self.tower.project(x[:, 0]), deep


def sample(data, rng, full: bool):
    """One step's windows: images, tissue shares (brains, L, K), defect shares (plates, L), kinds, sequence, head, position."""
    brains, plates, side = (BRAINS, PLATES, WINDOW) if not full else (BRAINS // 4, PLATES // 4 + 1, GRID)
    sick = rng.choice(data["sick"], brains // 2)
    rows = np.concatenate([sick, rng.integers(0, len(data["brain"]), brains - brains // 2)])
    image, label = data["brain"][rows].astype(np.float32), data["label"][rows]
    columns = rng.integers(0, len(data["texture"]), plates)
    plate, defect = data["texture"][columns].astype(np.float32), data["defect"][columns]
    if rng.random() < 0.5:
        image, label = image[:, :, ::-1], label[:, :, ::-1]
    if rng.random() < 0.5:
        plate, defect = plate.swapaxes(1, 2), defect.swapaxes(1, 2)
    row = column = 0
    if not full:
        # Half of the windows look where a lesion is, so that small ones are seen often.
        ys, xs = np.nonzero(label[int(rng.integers(len(sick)))] >= FIRST_LESION)
        if rng.random() < 0.6 and len(ys):
            at = int(rng.integers(len(ys)))
            jitter = rng.integers(-WINDOW // 2 + 1, WINDOW // 2, 2)
            row, column = ys[at] // PATCH - WINDOW // 2 + jitter[0], xs[at] // PATCH - WINDOW // 2 + jitter[1]
        else:
            row, column = rng.integers(0, GRID - WINDOW + 1, 2)
        row, column = (int(np.clip(v, 0, GRID - WINDOW)) for v in (row, column))
    cut = np.s_[:, row * PATCH : (row + side) * PATCH, column * PATCH : (column + side) * PATCH]
    image, label, plate, defect = image[cut], label[cut], plate[cut], defect[cut]
    shape = (brains, 1, 1)
    gamma, gain = np.exp(rng.uniform(-0.25, 0.25, shape)), rng.uniform(0.85, 1.1, shape)
    image = np.where(image > 0, np.clip((image / 255) ** gamma * 255 * gain, 1, 255), 0)

    def shares(x: np.ndarray) -> Tensor:
        blocks = x.reshape(len(x), side, PATCH, side, PATCH).mean((2, 4), dtype=np.float32)
        return torch.from_numpy(blocks).flatten(1)

    tissue = torch.stack([shares(label == k) for k in range(len(TISSUES))], dim=-1)
    images = torch.cat([normalised(image), normalised(plate)])
    kind, taken = torch.from_numpy(data["kind"][columns]), torch.from_numpy(data["sequence"][rows]).long()
    return images, tissue, shares(defect), kind, taken, torch.from_numpy(data["head"][rows]).long(), (row, column)


def losses(student: Student, text: Tensor, batch, bfloat16: bool = False) -> dict[str, Tensor]:
    """Cross entropies at scale 100: captions of slices, tissues of patches, defects of plates, sequence and view of brains.

    Lesions of one kind and another look alike in one slice, so that most of the weight is on any lesion against the tissues.
    """
    *tensors, (row, column) = batch
    images, tissue, defect, kind, taken, head = (t.to(text.device, non_blocking=True) for t in tensors)
    with torch.autocast(text.device.type, torch.bfloat16, enabled=bfloat16):
        whole, deep = student(images, row, column)
    brains, pairs = len(tissue), text[PAIRS]
    whole = F.normalize(whole.float(), dim=-1)
    # Slice captions: kind and state of a plate; a brain is a brain, whichever state is named.
    state = (defect.mean(1) > 0).long()
    target = torch.zeros(len(images), len(pairs), device=text.device)
    target[:brains, -2:] = 0.5
    target[torch.arange(brains, len(images), device=text.device), kind * 2 + state] = 1
    out = {"slice": -(target * F.log_softmax(100 * whole @ pairs.T, -1)).sum(1).mean()}
    out["sequence"] = F.cross_entropy(100 * whole[:brains] @ text[TAKEN].T, taken, ignore_index=-1, reduction="sum")
    out["sequence"] = out["sequence"] / (taken >= 0).sum().clamp(min=1)
    out["view"] = F.cross_entropy(100 * whole[:brains] @ text[SHOWN].T, head)
    dense = plates = 0
    lesion = tissue[..., FIRST_LESION:].sum(-1)
    weight = 1 + 6 * (lesion > 0.15).float() + 6 * (lesion - tissue[..., OEDEMA] > 0.3).float()
    direction = pairs[2 * kind + 1] - pairs[2 * kind]
    for layer, share in DEEP.items():
        tokens = F.normalize(deep[layer].float(), dim=-1)
        words = F.log_softmax(100 * tokens[:brains] @ text[DENSE].T, -1)
        exact = (tissue * words).sum(-1)
        sick = lesion * torch.logsumexp(words[..., FIRST_LESION:], -1)
        alike = (tissue[..., :FIRST_LESION] * words[..., :FIRST_LESION]).sum(-1) + sick
        dense = dense - share * ((0.3 * exact + 0.7 * alike) * weight).sum() / weight.sum()
        logit = 100 * torch.einsum("blc,bc->bl", tokens[brains:], direction)
        emphasis = torch.where(defect > 0.3, 5.0, 1.0)
        plates = (
            plates + share * (F.binary_cross_entropy_with_logits(logit, defect, reduction="none") * emphasis).mean()
        )
    return out | {"tissue": dense / sum(DEEP.values()), "defect": plates / sum(DEEP.values())}


def drawn(make: Callable, steps: range, beside: bool) -> Iterator:
    """`make(step)` for every step in order, with `beside` some steps ahead on threads."""
    if not beside:
        yield from map(make, steps)
        return
    with ThreadPoolExecutor(AHEAD) as pool:
        coming: deque = deque()
        for step in steps:
            coming.append(pool.submit(make, step))
            if len(coming) > 2 * AHEAD:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def run(
    model,
    tokenizer,
    data,
    steps: int,
    folder: Path,
    seed: int = 0,
    rate: float = 2e-3,
    resume: bool = False,
    bfloat16: bool = False,
    full_from: float = 0.8,
    keep_every: int = 100,
    device: str = "cpu",
):
    """Train for `steps` steps; curve.csv every 20, last.pt every `keep_every`; resumable, deterministic for one thread count.

    After `full_from` of the run every other step sees whole slices instead of windows. Raises UsageError for a last.pt of other
    settings, which would give weights that no call repeats.
    """
    settings = {"steps": steps, "seed": seed, "rate": rate, "bfloat16": bfloat16, "full_from": full_from}
    settings |= {"slices": len(data["brain"]), "textures": len(data["texture"])}
    data = dict(data, sick=np.flatnonzero([(x >= FIRST_LESION).sum() > 12 for x in data["label"]]))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("visual."))
    student = Student(model.to(device))
    optimizers = _optimizers(model.visual, rate)
    starts = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    first, log = 0, []
    if resume and (folder / "last.pt").is_file():
        state = torch.load(folder / "last.pt", map_location="cpu", weights_only=True)
        if state["settings"] != settings:
            raise UsageError(f"{folder / 'last.pt'} was made with {state['settings']}, now asked for is {settings}")
        model.load_state_dict(state["model"])
        for optimizer, stored in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(stored)
        first = state["step"]
        log = state["log"]
    _cut_curve(folder / "curve.csv", first)

    def material(step: int):
        rng = np.random.default_rng([seed, step])
        sentences = tokenizer(captions(rng))
        return step, sentences, sample(data, rng, full=step / steps > full_from and step % 2 == 0)

    for step, sentences, batch in drawn(material, range(first, steps), beside=device != "cpu"):
        done = step / steps
        factor = min(1, (step + 1) / 60) * (0.5 + 0.5 * math.cos(math.pi * done))
        for optimizer, rates in zip(optimizers, starts, strict=True):
            optimizer.zero_grad()
            for group, start in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = start * factor + 1e-6
        with torch.no_grad():
            text = F.normalize(model.encode_text(sentences.to(device)), dim=-1)
        parts = losses(student, text, batch, bfloat16)
        loss = 0.3 * parts["slice"] + 4 * parts["tissue"] + parts["defect"]
        loss = loss + 0.15 * (parts["sequence"] + parts["view"])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.visual.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        log.append({"step": step + 1, **{k: v.item() for k, v in parts.items()}})
        if (step + 1) % LOG_EVERY == 0:
            mean = {k: round(float(np.mean([row[k] for row in log])), 5) for k in log[0]}
            mean["step"] = step + 1
            new = not (folder / "curve.csv").exists()
            with open(folder / "curve.csv", "a", encoding="utf-8", newline="") as stream:
                writer = csv.DictWriter(stream, list(mean))
                if new:
                    writer.writeheader()
                writer.writerow(mean)
            print(mean, flush=True)
            log = []
        if (step + 1) % keep_every == 0 or step + 1 == steps:
            state = {"model": model.state_dict(), "optimizers": [o.state_dict() for o in optimizers]}
            state |= {"step": step + 1, "settings": settings, "log": log}
            torch.save(state, folder / "last.tmp")
            os.replace(folder / "last.tmp", folder / "last.pt")


def _optimizers(visual, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for all else.

    Average precision of the words on 154 validation slices after 300 steps: AdamW alone 0.562; Muon at the same rate 0.594, at
    twice the rate 0.661, at four times 0.700.
    """
    blocks = [p for n, p in visual.named_parameters() if "resblocks" in n and p.dim() == 2]
    rest = [(n, p) for n, p in visual.named_parameters() if not ("resblocks" in n and p.dim() == 2)]
    decayed = [p for n, p in rest if p.dim() > 1 and "embedding" not in n]
    others = [p for n, p in rest if not (p.dim() > 1 and "embedding" not in n)]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    return [Muon(blocks, MUON_RATE * rate, 0.05), torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))]


def _cut_curve(path: Path, step: int) -> None:
    """Drop the rows behind a step: they are written again."""
    if path.is_file():
        with open(path, encoding="utf-8", newline="") as stream:
            head, *rows = csv.reader(stream)
        with open(path, "w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([head, *(row for row in rows if int(row[head.index("step")]) <= step)])
