"""Train mini-rn: a small ModifiedResNet and a small BERT in PMC-CLIP's layout, taught by the mini text tower.

The image tower learns from the same captions as mini does; projections that exist only during training hold its stages to
the dense ones. The BERT is distilled to the mini text vectors.
"""

from __future__ import annotations

import math
import re
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ZSADCLIPLib.adapters.prompts import load_prompts, prompt_sets
from ZSADCLIPLib.backbones.bert_pairs import PmcClip, wordpiece
from ZSADCLIPLib.synthetic.industrial import KINDS

from . import train
from .words import ALIASES, TISSUES, captions

CONTEXT = 77
CONFIG = {
    "embed_dim": 256,
    "vision_cfg": {"image_size": train.SIZE, "layers": [1, 1, 1, 1], "width": 16, "heads": 8},
    "text_cfg": {
        "bert_config": {
            "hidden_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "intermediate_size": 256,
            "max_position_embeddings": CONTEXT,
            "pad_token_id": 0,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        },
        "context_length": CONTEXT,
    },
}
"""Dropout off: the published PMC-CLIP is used in evaluation mode only, and so is this one."""


def write_vocabulary(path: Path) -> int:
    """WordPiece vocabulary in PubMedBERT's order (PAD 0, UNK 1, CLS 2, SEP 3, MASK 4): letters, then all words of the prompts."""
    texts = [*KINDS, *(w for group in (*TISSUES.values(), *ALIASES.values()) for w in group)]
    for name in prompt_sets():
        prompts = load_prompts(name)
        texts += [*prompts.templates, *prompts.normal, *prompts.abnormal]
    letters = [chr(c) for c in range(33, 127) if not chr(c).isupper()]
    words = sorted({w for text in texts for w in re.findall(r"[a-z]+", text.lower()) if len(w) > 1})
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters), *words]
    path.write_text("\n".join(tokens) + "\n")
    return len(tokens)


def build(vocabulary: Path, seed: int = 1) -> PmcClip:
    """The untrained pair; adds the size of the vocabulary to the config."""
    torch.manual_seed(seed)
    CONFIG["text_cfg"]["bert_config"]["vocab_size"] = write_vocabulary(vocabulary)
    return PmcClip(CONFIG, pooler=False)


def distil(model: PmcClip, vocabulary: Path, teacher, teacher_tokens, steps: int) -> float:
    """Fit BERT + projection to the teacher's vectors: nearest of a batch at scale 100, and the vectors themselves."""
    tokens = wordpiece(vocabulary, CONTEXT)
    parameters = [*model.text_encoder.parameters(), model.text_projection]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.01)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = (
            1e-3 * min(1, (step + 1) / 30) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        )
        sentences = captions(np.random.default_rng([3, step]))
        with torch.no_grad():
            wanted = F.normalize(teacher.encode_text(teacher_tokens(sentences)), dim=-1)
        # No mask: PMC-CLIP attends to its padding.
        hidden = model.text_encoder(input_ids=tokens(sentences)).last_hidden_state[:, 0]
        given = F.normalize(hidden @ model.text_projection, dim=-1)
        nearest = F.cross_entropy(100 * given @ wanted.T, (100 * wanted @ wanted.T).softmax(-1))
        loss = nearest + 20 * (1 - (given * wanted).sum(-1)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % 100 == 0:
            print({"text step": step + 1, "loss": round(loss.item(), 4),
                   "cosine": round((given * wanted).sum(-1).mean().item(), 4)}, flush=True)  # fmt: skip
    return (given * wanted).sum(-1).mean().item()


class Student(nn.Module):
    """The ResNet with one training-only projection a stage; stage s answers for block 2s of `train.DEEP`."""

    def __init__(self, visual):
        super().__init__()
        self.visual = visual
        widths = [visual.layer1[-1].conv3.out_channels * 2**s for s in range(4)]
        self.heads = nn.ModuleList(nn.Conv2d(width, CONFIG["embed_dim"], 1) for width in widths)

    def forward(self, images, row: int, column: int):
        x = self.visual.stem(images.contiguous(memory_format=torch.channels_last))
        deep = {}
        for stage, (head, key) in enumerate(zip(self.heads, train.DEEP, strict=True), 1):
            x = getattr(self.visual, f"layer{stage}")(x)
            tokens = F.interpolate(head(x).float(), size=(train.GRID, train.GRID), mode="bilinear")
            deep[key] = tokens.flatten(2).transpose(1, 2)
        return self.visual.attnpool(x.float()), deep


def train_images(model: PmcClip, teacher, teacher_tokens, data, seconds: float, steps: int, seed: int = 2) -> int:
    """Train the image tower for `steps` steps, or until `seconds` have passed; returns the steps made."""
    data = dict(data, sick=np.flatnonzero([(x >= train.FIRST_LESION).sum() > 12 for x in data["label"]]))
    train.BRAINS, train.PLATES = 40, 8  # a full grid takes a quarter of these
    torch.manual_seed(seed)
    student = Student(model.visual).train()
    student.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(student.parameters(), lr=2e-3, weight_decay=0.05)
    started, done = time.monotonic(), 0
    for step in range(steps):
        spent = max(step / steps, (time.monotonic() - started) / seconds)
        if spent >= 1:
            break
        optimizer.param_groups[0]["lr"] = (
            2e-3 * min(1, (step + 1) / 30) * (0.5 + 0.5 * math.cos(math.pi * spent)) + 1e-6
        )
        rng = np.random.default_rng([seed, step])
        with torch.no_grad():
            text = F.normalize(teacher.encode_text(teacher_tokens(captions(rng))), dim=-1)
        parts = train.losses(student, text, train.sample(data, rng, full=True))
        loss = parts["slice"] + 2 * parts["tissue"] + parts["defect"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        done += 1
        if done % 20 == 0:
            print({"step": done, **{k: round(v.item(), 4) for k, v in parts.items()}}, flush=True)
    model.eval()
    return done
