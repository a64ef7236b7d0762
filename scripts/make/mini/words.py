"""What the mini text tower learns to tell apart, and how: captions, a warm start, then the tower is locked.

Free training pushes normal and abnormal prompts apart until adapters with a fixed temperature saturate; real CLIP has a
cosine near 0.95 between the two. So the text side is fitted alone, to anchors with that geometry, and frozen.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F

from ZSADCLIPLib.adapters.prompts import load_prompts, prompt_sets
from ZSADCLIPLib.backbones.words import SEQUENCES, TISSUES, VIEWS
from ZSADCLIPLib.synthetic.industrial import KINDS

NOUNS = (*KINDS, "brain")
ALIASES = {"brain": ("brain", "brain", "head", "brain mri", "brain slice", "object")}
SETS = [load_prompts(name) for name in ("vand", "adaclip", "anovl", "anovl-textures")]
GROUPS = (TISSUES, SEQUENCES, VIEWS)

_ENDS = [2 * len(NOUNS)]
for _group in GROUPS:
    _ENDS.append(_ENDS[-1] + len(_group))
PAIRS, DENSE, TAKEN, SHOWN = (slice(a, b) for a, b in zip([0, *_ENDS[:-1]], _ENDS, strict=True))
"""Where `captions` has nouns and states, tissues, sequences and views."""


def caption(rng, noun: str, abnormal: bool) -> str:
    prompts = SETS[rng.integers(len(SETS))]
    states = prompts.abnormal if abnormal else prompts.normal
    noun = ALIASES.get(noun, (noun, noun, noun, "object"))[rng.integers(len(ALIASES.get(noun, (0,) * 4)))]
    template = prompts.templates[rng.integers(len(prompts.templates))]
    return template.replace("{}", states[rng.integers(len(states))].replace("{}", noun))


def worded(rng, words: tuple[str, ...]) -> str:
    templates = SETS[0].templates
    return templates[rng.integers(len(templates))].replace("{}", words[rng.integers(len(words))])


def captions(rng) -> list[str]:
    """One caption for each noun and state (noun outer, normal first), then one for each tissue, sequence and view."""
    both = [caption(rng, noun, abnormal) for noun in NOUNS for abnormal in (False, True)]
    return both + [worded(rng, words) for group in GROUPS for words in group.values()]


def used_tokens(tokenizer) -> torch.Tensor:
    """Every token id that captions and the embedded prompt sets can contain, sorted."""
    nouns = {*KINDS, "brain", "head", "brain mri", "brain slice", "object", "x", "X X"}
    words = {w for group in GROUPS for synonyms in group.values() for w in synonyms}
    sentences = [SETS[0].templates[0].replace("{}", word) for word in words]
    for name in prompt_sets():
        prompts = load_prompts(name)
        for noun in nouns:
            sentences += [t.replace("{}", "x") for t in prompts.templates]
            sentences += [s.replace("{}", noun) for s in (*prompts.normal, *prompts.abnormal)]
    return torch.unique(tokenizer(sentences))


def known(tokenizer, rows: torch.Tensor) -> tuple[int, ...]:
    """The places of the captions of nouns, and of those whose every word has its tokens among `rows`."""
    groups = [words for group in GROUPS for words in group.values()]
    rows = torch.cat([rows, torch.zeros(1, dtype=rows.dtype)])  # the padding
    places = (n for n, words in enumerate(groups, PAIRS.stop) if torch.isin(tokenizer(list(words)), rows).all())
    return (*range(PAIRS.stop), *places)


def fit_text(model, tokenizer, rng, steps: int = 800, kept: tuple[int, ...] = ()) -> dict[str, float]:
    """Warm start of the text tower: captions to free anchors at scale 100, state pairs at cosine 0.95, all above 0.6.

    The captions at the places `kept` stay where the model has them, so that an image tower taught by it can go on.
    """
    pairs = PAIRS.stop
    before = copy.deepcopy(model).requires_grad_(False) if kept else None
    anchors = torch.nn.Parameter(torch.randn(_ENDS[-1], model.text_projection.shape[1]))
    text = [p for n, p in model.named_parameters() if not n.startswith(("visual.", "logit_scale"))]
    optimizer = torch.optim.AdamW([*text, anchors], lr=2e-3, weight_decay=0)
    wanted, places = torch.arange(len(anchors)), list(kept)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 2e-3 * min(1, (step + 1) / 20) * (1 - step / steps) + 1e-5
        sentences = tokenizer(captions(rng))
        vectors = F.normalize(model.encode_text(sentences), dim=-1)
        cosine = vectors @ vectors.T
        state = cosine[wanted[:pairs:2], wanted[1:pairs:2]]
        classes = F.cross_entropy(100 * vectors @ F.normalize(anchors, dim=-1).T, wanted)
        loss = classes + 20 * (F.relu((state - 0.95).abs() - 0.02).mean() + F.relu(0.6 - cosine).mean())
        drift = torch.zeros(())
        if before is not None:
            old = F.normalize(before.encode_text(sentences[places]), dim=-1)
            drift = 1 - (vectors[places] * old).sum(-1).mean()
            loss = loss + 100 * drift
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    accuracy = ((vectors @ F.normalize(anchors, dim=-1).T).argmax(1) == wanted).float().mean()
    figures = {"loss": loss, "accuracy": accuracy, "state_cosine": state.mean(), "drift": drift}
    return {name: value.item() for name, value in figures.items()}
