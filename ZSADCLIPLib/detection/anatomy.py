"""What the embedded CLIP that was taught the words of anatomy says about a volume: where its brain is, which sequence it is."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..adapters.maps import to_grid, upsample
from ..backbones import load_backbone
from ..backbones.words import BRAIN, SEQUENCES, TEMPLATES, TISSUES
from ..execution.shared import on_device
from ..notes import Note
from ..progress import Progress, silent
from ..volume import Volume
from ..volumes.components import holes_filled, largest_part
from .batches import run_batches
from .preparation import Look, Prepared

TAUGHT = "mini-mri"
SCALE = 100.0
"""Of the cosines before the softmax: that of the training."""
INSIDE = 0.5
STEP_MM = 4.5
"""Between slices that are looked at, where there are that many: half a patch of 8 pixels. On six synthetic heads (five of about 1
mm, one of 5 mm) the Dice of the brain is 0.961 to 0.987, and that of all slices the same within 0.001."""
SHOWN = (0.3, 0.8)  # of the slices that show something: those by which a sequence is told
SLICES = 6
LEAST_ML, MOST_ML = 100.0, 2500.0  # of a brain, or of what a partial scan shows of it


def taught_model(device: str):
    """The embedded backbone that knows these words, on a device; it is asked whatever the scoring backbone is."""
    return on_device(_loaded, device)


@lru_cache(maxsize=4)
def _loaded(device: str):
    return load_backbone(TAUGHT, device=device)


@lru_cache(maxsize=4)
def taught_vectors(device: str, tissues: bool) -> Tensor:
    """The `word_vectors` of that backbone for `words.TISSUES`, or `words.SEQUENCES`: the same for every volume."""
    return word_vectors(taught_model(device), TISSUES if tissues else SEQUENCES)


def _vectors(backbone, tissues: bool) -> Tensor:
    device = str(backbone.device)
    if backbone is taught_model(device):
        return taught_vectors(device, tissues)
    return word_vectors(backbone, TISSUES if tissues else SEQUENCES)


def word_vectors(backbone, groups: dict[str, tuple[str, ...]]) -> Tensor:
    """Unit vectors (len(groups), C): the mean over the synonyms of each group in all of `words.TEMPLATES`."""
    means = []
    for words in groups.values():
        sentences = [template.replace("{}", word) for word in words for template in TEMPLATES]
        means.append(F.normalize(backbone.encode_sentences(sentences), dim=-1).mean(dim=0))
    return F.normalize(torch.stack(means), dim=-1)


def brain_by_words(backbone, prepared: Prepared, batch_size: int, progress: Progress = silent) -> np.ndarray:
    """Where the words of a brain outweigh those of skull, scalp, eyes and air, bool (I, J, K).

    The softmax of each patch of the last layer over `words.TISSUES`, its share of `words.BRAIN` enlarged to pixels and cut at
    one half; what is not head is left out, the largest part is kept, and its holes are filled slice by slice. Slices nearer than
    STEP_MM to one that was looked at lie between two such, and their shares with them.
    """
    vectors = on_device(_vectors, backbone, tissues=True)
    inside = torch.tensor([name in BRAIN for name in TISSUES], device=vectors.device)
    size, depth = prepared.fit.size, backbone.vision.depth
    slices = prepared.fit.apply(prepared.image)
    shares = np.zeros(slices.shape, np.float32)

    def score(images: Tensor) -> tuple[Tensor, ...]:
        tokens = backbone.encode_image(images, joint=(depth,)).joint[depth][:, backbone.vision.prefix :]
        words = (SCALE * F.normalize(tokens, dim=-1) @ vectors.T).softmax(dim=-1)
        grid = to_grid(words[..., inside].sum(dim=-1))
        return (upsample(grid, size, "centres", backbone.vision.cell(size, grid.shape[-1])),)

    def keep(rows: np.ndarray, results: list[np.ndarray]) -> None:
        shares[rows] = results[0]

    shown = np.flatnonzero(slices.any(axis=(1, 2)))
    rows = np.union1d(shown[:: max(1, int(STEP_MM / prepared.stack.spacing[2]))], shown[-1:])
    on_device(run_batches, backbone, slices, rows, batch_size, score, keep, progress)
    for before, after in pairwise(rows):
        for n in range(before + 1, after):
            shares[n] = shares[before] + (shares[after] - shares[before]) * np.float32((n - before) / (after - before))
    head = prepared.stack.arrange(prepared.brain)
    brain = largest_part((prepared.fit.back(shares) > INSIDE) & head)
    return np.ascontiguousarray(prepared.stack.restore(holes_filled(brain)))


def brain_of_head(
    model, look: Look, volume: Volume, batch_size: int, progress: Progress = silent
) -> tuple[np.ndarray | None, Note]:
    """`brain_by_words` of a volume with what to say about it; None where that is none, or the head too small for one.

    Raises what `progress` raises.
    """
    prepared = look.prepare(volume, model.native_size)
    voxel_ml = float(np.prod(prepared.stack.spacing)) / 1000
    if (head := prepared.brain.sum() * voxel_ml) < LEAST_ML:
        text = f"a whole head of {head:.0f} ml, too small to hold a brain: all of it is scored; give --brain-mask"
        return None, Note("brain-unknown", text)
    brain = brain_by_words(model, prepared, batch_size, progress)
    ml = brain.sum() * voxel_ml
    if LEAST_ML <= ml <= MOST_ML:
        text = f"a whole head: {ml:.0f} ml of it are the brain by the model's words of anatomy; look at its outline"
        return brain, Note("brain", text)
    text = f"a whole head: the model's words of anatomy find {ml:.0f} ml of brain, so all of it is scored; give --brain-mask"
    return None, Note("brain-unknown", text)


def sequence_by_words(backbone, prepared: Prepared) -> tuple[str, float]:
    """The name in `words.SEQUENCES` that fits the middle slices best, and its share of the softmax, 0 to 1."""
    shown = np.flatnonzero(prepared.image.any(axis=(1, 2)))
    if not shown.size:
        shown = np.arange(len(prepared.image))
    rows = np.unique(shown[0] + np.rint(np.linspace(*SHOWN, SLICES) * (shown[-1] - shown[0])).astype(int))
    slices = torch.from_numpy(prepared.fit.apply(np.ascontiguousarray(prepared.image[rows])))
    shares = on_device(_sequence_shares, backbone, slices)
    best = int(shares.argmax())
    return list(SEQUENCES)[best], float(shares[best])


@torch.inference_mode()
def _sequence_shares(backbone, slices: Tensor) -> Tensor:
    images = F.normalize(backbone.encode_image(backbone.preprocess(slices)).embedding, dim=-1)
    return (SCALE * images @ _vectors(backbone, tissues=False).T).softmax(dim=-1).mean(dim=0).cpu()
