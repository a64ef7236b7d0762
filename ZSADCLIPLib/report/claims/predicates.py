"""One function per claim of the paper: does this run show it, by which numbers, and does the interval agree?

Where the paper says "about", values may be off by TOLERANCE. A function returns a `Outcome` or raises `NotTestable`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from ...evaluation.metrics import METRICS
from ...evaluation.statistics import kendall
from .evidence import SETUPS, Evidence, NotTestable, label

TOLERANCE = 0.1
TRAINED = ("adaclip", "anomalyclip", "vand")


@dataclass(frozen=True)
class Outcome:
    """`holds`: the predicate is true; `numbers` behind it; `clear`: the 95 % interval agrees (None: none applies)."""

    holds: bool
    numbers: dict[str, object]
    clear: bool | None = None


def _about(value: float, target: float) -> bool:
    return abs(value - target) <= TOLERANCE + 1e-12


def _best_of(evidence: Evidence, method: str, wanted: tuple[str, ...]) -> Outcome:
    """Whether the setup with the highest mean Dice is a wanted one; clear when its lead over the others is."""
    means = evidence.means([f"{method}-{setup}" for setup in SETUPS])
    best = max(means, key=means.get)
    inside = [f"{method}-{setup}" for setup in wanted]
    rivals = [row for row in means if (row in inside) != (best in inside)]
    second = max(rivals, key=means.get)
    lead = evidence.difference(best, second)
    numbers = {f"mean Dice {label(row)}": value for row, value in means.items()}
    numbers |= {"best": label(best), "lead": lead.difference, "lead CI": [lead.ci_low, lead.ci_high]}
    return Outcome(best in inside, numbers, lead.ci_low > 0)


def every_mean_below_half(evidence: Evidence) -> Outcome:
    """A1."""
    rows = evidence.present()
    if not rows:
        raise NotTestable("none of the paper's rows is in this run")
    means = evidence.means(rows)
    top = max(means, key=means.get)
    summary, holds = evidence.summary(top), means[top] < 0.5
    if holds and evidence.missing():
        raise NotTestable(f"{len(evidence.missing())} of 13 rows are missing, among them {evidence.missing()[0]}")
    numbers = {
        "highest": label(top),
        "mean Dice": summary.mean,
        "CI": [summary.ci_low, summary.ci_high],
        "rows": len(rows),
    }
    return Outcome(holds, numbers, summary.ci_high < 0.5 if holds else summary.ci_low >= 0.5)


def adaclip_varies_most(evidence: Evidence) -> Outcome:
    """A2."""
    ranges = {method: np.quantile(evidence.pooled(method), (0.05, 0.95)) for method in TRAINED}
    widths = {method: float(high - low) for method, (low, high) in ranges.items()}
    low, high = map(float, ranges["adaclip"])
    numbers = {f"5-95 % range {method}": width for method, width in widths.items()}
    numbers |= {"5 % AdaCLIP": low, "95 % AdaCLIP": high}
    return Outcome(max(widths, key=widths.get) == "adaclip" and _about(low, 0.1) and _about(high, 0.7), numbers)


def adaclip_best_on_brats(evidence: Evidence) -> Outcome:
    """A3."""
    return _best_of(evidence, "adaclip", ("brats", "finetune"))


def vand_best_with_pmc(evidence: Evidence) -> Outcome:
    """A4."""
    best = _best_of(evidence, "vand", ("pmc",))
    low, high = np.quantile(evidence.pooled("vand"), (0.05, 0.95)).tolist()
    return Outcome(best.holds, {**best.numbers, "5 % Dice": low, "95 % Dice": high}, best.clear)


def anomalyclip_lowest(evidence: Evidence) -> Outcome:
    """A5."""
    means = {method: float(evidence.pooled(method).mean()) for method in TRAINED}
    pair = {setup: evidence.summary(f"anomalyclip-{setup}") for setup in ("industrial", "finetune")}
    numbers = {f"mean Dice {method}, all setups": value for method, value in means.items()}
    numbers |= {f"mean Dice AnomalyCLIP {setup}": s.mean for setup, s in pair.items()}
    low = all(s.mean < 0.1 for s in pair.values())
    lowest = min(means, key=means.get) == "anomalyclip"
    clear = all(s.ci_high < 0.1 for s in pair.values()) if low else any(s.ci_low >= 0.1 for s in pair.values())
    return Outcome(low and lowest, numbers, None if low and not lowest else clear)


def anovl_weakest(evidence: Evidence) -> Outcome:
    """A6."""
    values = evidence.dice("anovl-industrial")
    top, mean = float(np.quantile(values, 0.9)), float(values.mean())
    lower = sum(evidence.summary(row).mean < mean for row in evidence.present() if row != "anovl-industrial")
    return Outcome(top < 0.1, {"90 % Dice": top, "mean Dice": mean, "rows with a lower mean": lower})


def auroc_and_dice_disagree(evidence: Evidence) -> Outcome:
    """A7."""
    rows = evidence.present()
    if len(rows) < 8:
        raise NotTestable(f"an order of {len(rows)} rows says little; at least 8 are needed")
    tau = kendall([evidence.summary(r, "auroc").mean for r in rows], [evidence.summary(r).mean for r in rows])
    if np.isnan(tau):
        raise NotTestable("Kendall's tau is undefined, because all rows tie")
    return Outcome(tau < 0.3, {"Kendall's tau": tau, "rows": len(rows)})


def auroc_below_literature(evidence: Evidence) -> Outcome:
    """A8."""
    rows = evidence.present()
    if len(rows) < 8:
        raise NotTestable(f"{len(rows)} rows are no general picture; at least 8 are needed")
    means = {row: evidence.summary(row, "auroc").mean for row in rows}
    top = max(means, key=means.get)
    numbers = {"mean AUROC over rows": float(np.mean(list(means.values()))), "highest": label(top), "AUROC": means[top]}
    return Outcome(numbers["mean AUROC over rows"] < 0.9, {**numbers, "rows": len(rows)})


def vand_slices_good_volumes_less(evidence: Evidence) -> Outcome:
    """B1."""
    numbers, holds = {}, True
    for row in ("vand-brats", "vand-pmc"):
        slices, volumes = evidence.slices(row), evidence.dice(row)
        flat, solid = _share(slices, 0.4, 0.8), _share(volumes, 0.2, 0.5)
        numbers |= {f"slices in 0.4-0.8, {label(row)}": flat, f"volumes in 0.2-0.5, {label(row)}": solid}
        holds &= flat > 0.5 and solid > 0.5
    return Outcome(holds, numbers)


def vand_pmc_higher_in_3d(evidence: Evidence) -> Outcome:
    """B2."""
    widths = {
        row: float(np.subtract(*np.quantile(evidence.slices(row), (0.75, 0.25)))) for row in ("vand-pmc", "vand-brats")
    }
    lead = evidence.difference("vand-pmc", "vand-brats")
    numbers = {f"IQR of 2D Dice, {label(row)}": width for row, width in widths.items()}
    numbers |= {"3D Dice PMC - Brats": lead.difference, "CI": [lead.ci_low, lead.ci_high]}
    holds = _about(widths["vand-pmc"], widths["vand-brats"]) and lead.difference > 0
    clear = None if lead.difference > 0 and not holds else lead.ci_low > 0 or lead.ci_high < 0
    return Outcome(holds, numbers, clear)


def adaclip_brats_in_2d_and_3d(evidence: Evidence) -> Outcome:
    """B3."""
    top = float(np.quantile(evidence.slices("adaclip-brats"), 0.95))
    share = _share(evidence.dice("adaclip-brats"), 0.2, 0.4)
    return Outcome(_about(top, 0.8) and share >= 1 / 3, {"95 % 2D Dice": top, "volumes in 0.2-0.4": share})


def anomalyclip_low_but_best_with_pmc(evidence: Evidence) -> Outcome:
    """B4."""
    slices = np.concatenate([evidence.slices(f"anomalyclip-{setup}") for setup in SETUPS])
    flat, solid = float((slices < 0.3).mean()), float((evidence.pooled("anomalyclip") <= 0.1).mean())
    best = _best_of(evidence, "anomalyclip", ("pmc",))
    numbers = {"slices below 0.3": flat, "volumes up to 0.1": solid, **best.numbers}
    most = flat > 0.5 and solid > 0.5
    return Outcome(most and best.holds, numbers, best.clear if most else None)


def volumes_below_slices(evidence: Evidence) -> Outcome:
    """B5."""
    shares = {}
    for method in TRAINED:
        below = []
        for setup in SETUPS:
            result = evidence.result(f"{method}-{setup}")
            flat, solid = result.values("slice_dice", evidence.choice), result.values("dice", evidence.choice)
            both = ~np.isnan(flat + solid)
            below += (solid[both] < flat[both]).tolist()
        if not below:
            raise NotTestable(f"{method} has no volume with both 2D and 3D Dice")
        shares[method] = float(np.mean(below))
    return Outcome(
        min(shares.values()) > 0.5, {f"share of volumes, {method}": share for method, share in shares.items()}
    )


def peak_in_the_upper_brain(evidence: Evidence) -> Outcome:
    """C1."""
    numbers, holds = {}, True
    for method in ("vand", "adaclip"):
        peak = _peak(evidence, method)
        numbers |= {f"{key}, {method}": value for key, value in peak.items()}
        holds &= 0 <= peak["peak at"] <= 0.5
    return Outcome(holds, numbers)


def peak_where_lesions_are(evidence: Evidence) -> Outcome:
    """C2."""
    numbers = {}
    for method in ("vand", "adaclip"):
        bins = evidence.bins(method)
        defined = ~np.isnan(bins["dice"])
        dice, slices = bins["dice"][defined], bins["slices"][defined]
        rho = float(stats.spearmanr(dice, slices).statistic) if _varies(bins) else np.nan
        if np.isnan(rho):
            raise NotTestable(f"all bins of {method} tie, so they have no order")
        numbers[f"Spearman's rho, {method}"] = rho
    return Outcome(min(numbers.values()) >= 0.5, numbers)


def anomalyclip_low_along_the_brain(evidence: Evidence) -> Outcome:
    """C3."""
    peak = _peak(evidence, "anomalyclip")
    return Outcome(peak["highest"] < 0.3 and 0 <= peak["peak at"] <= 0.5, peak)


def auroc_flattered_by_background(evidence: Evidence) -> Outcome:
    """D1."""
    rows = evidence.present()
    if not rows:
        raise NotTestable("none of the paper's rows is in this run")
    lift = {}
    for metric in ("auroc", "average_precision", "dice"):
        lift[metric] = [
            evidence.summary(r, metric, "all").mean - evidence.summary(r, metric, "brain").mean for r in rows
        ]
    case = evidence.result(rows[0]).files.cases
    share = {region: float(np.mean([c["regions"][region]["prevalence"] for c in case])) for region in ("all", "brain")}
    numbers = {f"{METRICS[m].label} over all voxels - over the brain": float(np.mean(v)) for m, v in lift.items()}
    numbers |= {f"share of lesion, {region} voxels": value for region, value in share.items()}
    holds = np.mean(lift["auroc"]) > max(abs(np.mean(lift["average_precision"])), abs(np.mean(lift["dice"])))
    return Outcome(bool(holds), {**numbers, "rows": len(rows)})


def adaclip_trains_slowest(evidence: Evidence) -> Outcome:
    """D2."""
    costs = {}
    for method in TRAINED:
        files = evidence.result(f"{method}-brats").files
        seconds, seen = files.runtime.get("train_seconds"), (files.manifest.get("training") or {}).get("slices_seen")
        if not seconds or not seen:
            raise NotTestable(f"{method}-brats recorded no training time")
        costs[method] = 1000 * seconds / seen
    numbers = {f"ms per training slice, {method}": cost for method, cost in costs.items()}
    return Outcome(max(costs, key=costs.get) == "adaclip", numbers)


def _share(values: np.ndarray, low: float, high: float) -> float:
    return float(((values >= low) & (values <= high)).mean())


def _varies(bins: dict[str, np.ndarray]) -> bool:
    return all(np.nanmax(bins[key]) > np.nanmin(bins[key]) for key in ("dice", "slices"))


def _peak(evidence: Evidence, method: str) -> dict[str, float]:
    bins = evidence.bins(method)
    defined = np.flatnonzero(~np.isnan(bins["dice"]))
    top = int(np.nanargmax(bins["dice"]))
    return {
        "peak at": round(float(bins["distance"][top]), 6),
        "highest": float(bins["dice"][top]),
        "lowest bin": float(bins["dice"][defined[0]]),
        "highest bin": float(bins["dice"][defined[-1]]),
    }
