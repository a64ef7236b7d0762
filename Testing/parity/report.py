"""Run cases and print one line per quantity: case, quantity, largest difference, tolerance, verdict."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from . import adaclip, anomalyclip, anovl, madclip, mediclip, musc, mvfa, pmcclip, vand, winclip
from .case import Case, load_cases

RUNNERS = {
    "vand": vand,
    "anomalyclip": anomalyclip,
    "adaclip": adaclip,
    "anovl": anovl,
    "pmcclip": pmcclip,
    "winclip": winclip,
    "mediclip": mediclip,
    "mvfa": mvfa,
    "madclip": madclip,
    "musc": musc,
}


@dataclass
class Row:
    case: str
    quantity: str
    difference: float
    tolerance: float
    note: str = ""

    @property
    def passed(self) -> bool:
        return self.difference <= self.tolerance

    def __str__(self) -> str:
        verdict = "pass" if self.passed else "FAIL"
        return f"{self.case:42s} {self.quantity:58s} {self.difference:9.2e} {self.tolerance:9.2e} {verdict} {self.note}"


def relative_error(ours: np.ndarray, golden: np.ndarray) -> float:
    return float(np.linalg.norm(ours - golden) / max(np.linalg.norm(golden), 1e-30))


def compare(case: Case, name: str, ours: torch.Tensor, golden: np.ndarray, results: dict) -> Row:
    ours = np.asarray(ours.detach().cpu(), dtype=np.float64)
    golden = golden.astype(np.float64)
    if ours.shape != golden.shape:
        return Row(case.name, name, float("inf"), 0.0, f"shape {ours.shape}, expected {golden.shape}")
    if not np.isfinite(ours).all():
        return Row(case.name, name, float("inf"), 0.0, "not finite")
    suggested = case.info.get("suggested_tolerance", {})
    if "loss_rtol" in suggested:
        if "loss" in name:
            return Row(case.name, name, float(np.abs(ours / golden - 1).max()), suggested["loss_rtol"], "relative")
        if "grad" in name:
            # Prompts that pass through float16 round their gradients too, so single bits of it differ.
            limit = 1e-2 if case.info.get("deep_prompts_through_float16") else 1e-3
            return Row(case.name, name, relative_error(ours, golden), limit, "relative L2")
        start = np.asarray(results["initial"][name.split("/", 1)[1]].cpu(), dtype=np.float64)
        limit = 5e-2 if case.info.get("deep_prompts_through_float16") else 1e-2
        return Row(case.name, name, relative_error(ours - start, golden - start), limit, "relative L2 of the update")
    difference = np.abs(ours - golden)
    atol, rtol = case.tolerance(name)
    share = case.info.get("suggested_share", {}).get(name.rstrip("0123456789_"))
    if share is not None:
        # Other rotations differ in single pixels at the border of a mask.
        return Row(case.name, name, float((difference > 0).mean()), share, "share of pixels")
    if name == "cluster_labels":
        return Row(case.name, name, float(difference.max()), 0.0, "labels")
    excess = difference - rtol * np.abs(golden)
    worst = np.unravel_index(excess.argmax(), excess.shape) if excess.ndim else ()
    return Row(case.name, name, float(difference.max()), float(max(atol + rtol * abs(golden[worst]), atol)))


def check(case: Case) -> list[Row]:
    """Compare every stored array of a case; a quantity that cannot be computed fails."""
    results = RUNNERS[case.info["method"]].run(case)
    rows = []
    for name, golden in case.arrays.items():
        if name in results:
            rows.append(compare(case, name, results[name], golden, results))
        else:
            rows.append(Row(case.name, name, float("inf"), 0.0, "not computed"))
    return rows


def main(folders: list[str]) -> int:
    """Print the table for all folders; 1 if a row fails or a case cannot be run, 2 if there is no case, else 0."""
    count = failed = 0
    for folder in folders:
        for case in load_cases(Path(folder)):
            count += 1
            try:
                rows = check(case)
            except Exception as error:
                traceback.print_exc()
                print(f"{case.name:42s} cannot be run: {type(error).__name__}: {error}")
                failed += 1
                continue
            for row in rows:
                print(row)
            failed += sum(not row.passed for row in rows)
    print(f"{count} cases, {failed} failures")
    return 2 if not count else int(failed > 0)
