"""Cases without lesion that get synthetic anomalies, for the thresholds of the setup healthy."""

from __future__ import annotations

from dataclasses import replace

from ..errors import InputError
from ..synthetic.anomalies.draws import versions
from .slices import CaseSlices, drawn_order, without_lesion
from .specs import HealthySlices


def with_anomalies(case: CaseSlices, spec: HealthySlices) -> CaseSlices:
    """The slices of a case without lesion, every second one with synthetic anomalies as its truth, the others as they are.

    Raises InputError when there is none.
    """
    rows = without_lesion(case)
    if not rows.size:
        raise InputError(f"case {case.record.id} has no slice without lesion")
    kept = {name: getattr(case, name)[rows] for name in ("image", "ignore", "brain", "intensities")}
    heads = kept["brain"] if spec.within == "head" else None
    seed = int(drawn_order(spec.seed, case).integers(1 << 31))
    ((image, truth),) = versions(kept["image"], heads, 1, seed, spec.within)
    image[1::2], truth[1::2] = kept["image"][1::2], False
    return replace(case, **{**kept, "image": image, "truth": truth})
