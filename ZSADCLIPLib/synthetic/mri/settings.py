"""What the mri world draws from: shares, ranges and the meaning of labels."""

from __future__ import annotations

from dataclasses import dataclass, field

CHANNELS = ("t2w", "t2f", "t1n", "t1c", "pd", "free")
DISEASES = ("metastases", "glioma", "ms", "small-vessel", "infarct", "old-infarct", "bleed", "cavity")

NECROSIS, OEDEMA, ENHANCING, TUMOUR, PLAQUE, SMALL_VESSEL, INFARCT, OLD_INFARCT, GLIOSIS, BLEED, CAVITY = range(1, 12)
LABELS = {
    NECROSIS: "necrosis",
    OEDEMA: "oedema",
    ENHANCING: "enhancing tumour",
    TUMOUR: "tumour without enhancement",
    PLAQUE: "MS lesion",
    SMALL_VESSEL: "small-vessel lesion of white matter",
    INFARCT: "acute infarct",
    OLD_INFARCT: "old infarct",
    GLIOSIS: "gliosis",
    BLEED: "bleed",
    CAVITY: "resection cavity",
}
"""Label values of `seg`; 1 to 3 are those of BraTS-MET."""

FLUID, GREY, WHITE, BONE, FAT, MUSCLE, EYE, AIR = range(1, 9)
TISSUES = {
    FLUID: "fluid",
    GREY: "grey matter",
    WHITE: "white matter",
    BONE: "bone",
    FAT: "fat",
    MUSCLE: "muscle and skin",
    EYE: "eye",
    AIR: "air inside the head",
}
"""Values of `tissue`; 1 to 3 are inside the skull, 0 is outside the head or stripped."""


@dataclass(frozen=True)
class MriWorld:
    """Shares (0 to 1) and ranges of what a case of the mri world is drawn from; lengths in mm.

    `healthy` is the share of cases without lesions, `heads` that of whole heads, `second` that of the second anatomy,
    `thick` that of stacks of thick slices, `partial` that of stacks which miss the top or the bottom. `stripping` has
    the weights of the brain masks: as it is, too tight, hugging the tissue, too loose. `diseases` has weights in the
    order of DISEASES. `noise` is the standard deviation relative to white matter, `bias` that of the log field.
    """

    healthy: float = 0.2
    heads: float = 0.3
    second: float = 0.25
    thick: float = 0.5
    partial: float = 0.2
    defaced: float = 0.4
    stripping: tuple[float, ...] = (0.4, 0.3, 0.15, 0.15)
    diseases: tuple[float, ...] = (0.16, 0.18, 0.22, 0.16, 0.09, 0.08, 0.06, 0.05)
    thickness: tuple[float, float] = (2.0, 6.0)
    in_plane: tuple[float, float] = (0.4, 1.2)
    noise: tuple[float, float] = (0.006, 0.06)
    bias: tuple[float, float] = (0.01, 0.3)
    size: tuple[float, float] = (0.84, 1.03)
    elastic: tuple[float, float] = (0.6, 1.6)
    units: dict[str, float] = field(
        default_factory=lambda: {"int16": 0.6, "z-score": 0.2, "float": 0.2},
    )


STRIPPINGS = ("as it is", "tight", "tissue", "loose")
