"""What every synthetic world gives back for a head."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..volume import Volume


@dataclass(frozen=True)
class PhantomCase:
    """One synthetic head.

    `volumes` maps a channel to an int16 Volume (background exactly 0); `seg` is uint8 with 1 NETC (necrosis), 2 SNFH
    (oedema), 3 ET (enhancing tumour); `tissue` is uint8 with 1 fluid, 2 grey, 3 white matter as they were before the
    lesions; `lesions` has one dict a metastasis: volume_mm3 (all labels), core_mm3, radius_mm, oedema_mm, has_necrosis,
    centre_ras. The mri world has other labels and says in `record` what it drew (mri.scans.make_scan).
    """

    name: str
    volumes: dict[str, Volume]
    seg: Volume
    tissue: Volume
    lesions: list[dict] = field(default_factory=list)
    record: dict = field(default_factory=dict)
