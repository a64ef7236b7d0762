"""What the mini text tower learns to tell apart, and how: captions, a warm start, then the tower is locked.

Free training pushes normal and abnormal prompts apart until adapters with a fixed temperature saturate; real CLIP has a
cosine near 0.95 between the two. So the text side is fitted alone, to anchors with that geometry, and frozen.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ZSADCLIPLib.adapters.prompts import load_prompts
from ZSADCLIPLib.synthetic.industrial import KINDS

NOUNS = (*KINDS, "brain")
ALIASES = {"brain": ("brain", "brain", "head", "brain mri", "brain slice", "object")}
TISSUES = {
    "background": ("black background", "empty background", "background"),
    "fluid": ("cerebrospinal fluid", "ventricle", "csf"),
    "grey": ("gray matter", "grey matter", "cortex"),
    "white": ("white matter",),
    "oedema": ("oedema", "edema", "swelling"),
    "core": ("tumour core", "tumor core", "tumour"),
}
SETS = [load_prompts(name) for name in ("vand", "adaclip", "anovl", "anovl-textures")]


def caption(rng, noun: str, abnormal: bool) -> str:
    prompts = SETS[rng.integers(len(SETS))]
    states = prompts.abnormal if abnormal else prompts.normal
    noun = ALIASES.get(noun, (noun, noun, noun, "object"))[rng.integers(len(ALIASES.get(noun, (0,) * 4)))]
    template = prompts.templates[rng.integers(len(prompts.templates))]
    return template.replace("{}", states[rng.integers(len(states))].replace("{}", noun))


def tissue_caption(rng, tissue: str) -> str:
    words = TISSUES[tissue]
    templates = SETS[0].templates
    return templates[rng.integers(len(templates))].replace("{}", words[rng.integers(len(words))])


def captions(rng) -> list[str]:
    """One caption for each noun and state (noun outer, normal first), then one for each tissue."""
    both = [caption(rng, noun, abnormal) for noun in NOUNS for abnormal in (False, True)]
    return both + [tissue_caption(rng, tissue) for tissue in TISSUES]


def used_tokens(tokenizer) -> torch.Tensor:
    """Every token id that captions and the embedded prompt sets can contain, sorted."""
    from ZSADCLIPLib.adapters.prompts import prompt_sets

    nouns = {*KINDS, "brain", "head", "brain mri", "brain slice", "object", "x", "X X"}
    words = {w for group in TISSUES.values() for w in group}
    sentences = [SETS[0].templates[0].replace("{}", word) for word in words]
    for name in prompt_sets():
        prompts = load_prompts(name)
        for noun in nouns:
            sentences += [t.replace("{}", "x") for t in prompts.templates]
            sentences += [s.replace("{}", noun) for s in (*prompts.normal, *prompts.abnormal)]
    return torch.unique(tokenizer(sentences))


def fit_text(model, tokenizer, rng, steps: int = 800) -> dict[str, float]:
    """Warm start of the text tower: captions to free anchors at scale 100, state pairs at cosine 0.95, all above 0.6."""
    pairs = 2 * len(NOUNS)
    anchors = torch.nn.Parameter(torch.randn(pairs + len(TISSUES), model.text_projection.shape[1]))
    text = [p for n, p in model.named_parameters() if not n.startswith(("visual.", "logit_scale"))]
    optimizer = torch.optim.AdamW([*text, anchors], lr=2e-3, weight_decay=0)
    wanted = torch.arange(len(anchors))
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 2e-3 * min(1, (step + 1) / 20) * (1 - step / steps) + 1e-5
        vectors = F.normalize(model.encode_text(tokenizer(captions(rng))), dim=-1)
        cosine = vectors @ vectors.T
        state = cosine[wanted[:pairs:2], wanted[1:pairs:2]]
        classes = F.cross_entropy(100 * vectors @ F.normalize(anchors, dim=-1).T, wanted)
        loss = classes + 20 * (F.relu((state - 0.95).abs() - 0.02).mean() + F.relu(0.6 - cosine).mean())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    accuracy = ((vectors @ F.normalize(anchors, dim=-1).T).argmax(1) == wanted).float().mean()
    return {"loss": loss.item(), "accuracy": accuracy.item(), "state_cosine": state.mean().item()}
