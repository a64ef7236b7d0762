"""The paper's claims as data, judged on a run: reproduced, contradicted or not testable, with the numbers behind it.

Marzullo and Ranzini, "Exploring Zero-Shot Anomaly Detection with CLIP in Medical Imaging: Are We There Yet?", CEUR-WS
3880, 2024. Statements are shortened in our words; predicates and their limits are our choice and stand beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite

import yaml

from ..numbers import Numbers, said
from ..sections import Section
from ..typeset import Table
from . import predicates
from .evidence import Evidence, NotTestable
from .predicates import Outcome

REPRODUCED, CONTRADICTED, NOT_TESTABLE = "reproduced", "contradicted", "not testable"
_OVERALL, _SLICES, _PLACE, _DISCUSSION = "Table 1 and Fig. 1", "Fig. 2", "Fig. 3", "discussion"


@dataclass(frozen=True)
class Claim:
    """`source` is the part of the paper, `predicate` says in words what `test` computes."""

    id: str
    source: str
    statement: str
    predicate: str
    test: Callable[[Evidence], Outcome]


@dataclass(frozen=True)
class Verdict:
    """A judged claim; `clear` says whether the 95 % interval agrees with the verdict, None where none applies."""

    claim: Claim
    verdict: str
    clear: bool | None = None
    numbers: dict = field(default_factory=dict)
    reason: str = ""


CLAIMS = (
    Claim("A1", _OVERALL, "No model reaches a mean Dice of 0.5, not with PMC either.",
          "highest mean 3D Dice of the 13 rows < 0.5", predicates.every_mean_below_half),
    Claim("A2", _OVERALL, "AdaCLIP varies most over the experiments, with 3D Dice from about 0.1 to 0.7.",
          "5-95 % range of 3D Dice over its four setups is the widest of three models, and runs from 0.1 to 0.7 (± 0.1)",
          predicates.adaclip_varies_most),
    Claim("A3", _OVERALL, "AdaCLIP is best when its adapters are trained on BraTS.",
          "its setup with the highest mean 3D Dice is Brats or Finetune", predicates.adaclip_best_on_brats),
    Claim("A4", _OVERALL, "VAND is relatively accurate and best with PMC.",
          "its setup with the highest mean 3D Dice is PMC", predicates.vand_best_with_pmc),
    Claim("A5", _OVERALL, "AnomalyCLIP is the lowest of the trained models, near 0 for Industrial and Finetune.",
          "lowest mean 3D Dice over four setups, and mean < 0.1 for Industrial and Finetune",
          predicates.anomalyclip_lowest),
    Claim("A6", _OVERALL, "AnoVL is the weakest and rarely above 0.1.",
          "90th percentile of its 3D Dice < 0.1", predicates.anovl_weakest),
    Claim("A7", _OVERALL, "The order by AUROC contrasts sharply with the order by Dice.",
          "Kendall's tau of mean AUROC and mean 3D Dice over rows < 0.3", predicates.auroc_and_dice_disagree),
    Claim("A8", _OVERALL, "AUROC is generally below what the literature reports.",
          "mean of the rows' mean AUROC < 0.9", predicates.auroc_below_literature),
    Claim("B1", _SLICES, "VAND with Brats and PMC: 2D Dice mostly 0.4 to 0.8, 3D Dice 0.2 to 0.5.",
          "more than half of the slices and of the volumes lie in these ranges, in both rows",
          predicates.vand_slices_good_volumes_less),
    Claim("B2", _SLICES, "VAND with PMC spreads in 2D as with Brats, but is higher in 3D.",
          "interquartile ranges of 2D Dice differ by at most 0.1, and mean 3D Dice is higher", predicates.vand_pmc_higher_in_3d),
    Claim("B3", _SLICES, "AdaCLIP with Brats: 2D Dice up to 0.8, 3D Dice 0.2 to 0.4 for many.",
          "95th percentile of 2D Dice is 0.8 (± 0.1), and at least a third of the volumes lie in 0.2 to 0.4",
          predicates.adaclip_brats_in_2d_and_3d),
    Claim("B4", _SLICES, "AnomalyCLIP: 2D Dice below 0.3 and 3D Dice up to 0.1 for most; best with PMC.",
          "more than half of all slices and volumes, and its setup with the highest mean 3D Dice is PMC",
          predicates.anomalyclip_low_but_best_with_pmc),
    Claim("B5", _SLICES, "3D Dice lies below 2D Dice for most subjects.",
          "3D Dice < mean 2D Dice in more than half of the volumes, for each of the three models",
          predicates.volumes_below_slices),
    Claim("C1", _PLACE, "VAND and AdaCLIP are most accurate in the upper brain, near +0.25.",
          "the bin with the highest mean 2D Dice lies in 0 to 0.5, for both", predicates.peak_in_the_upper_brain),
    Claim("C2", _PLACE, "The peak lies where most slices have lesions.",
          "Spearman's rho of mean 2D Dice and lesion slices over bins >= 0.5, for VAND and AdaCLIP",
          predicates.peak_where_lesions_are),
    Claim("C3", _PLACE, "AnomalyCLIP has the same shape with mean 2D Dice below 0.3.",
          "highest bin < 0.3, and it lies in 0 to 0.5", predicates.anomalyclip_low_along_the_brain),
    Claim("D1", _DISCUSSION, "With lesions this sparse, Dice says more than AUROC.",
          "leaving out the background lowers AUROC by more than it changes AP or Dice",
          predicates.auroc_flattered_by_background),
    Claim("D2", _DISCUSSION, "AdaCLIP is slow to train.",
          "most training time per slice of the three models, Brats setup", predicates.adaclip_trains_slowest),
)  # fmt: skip


def judge(numbers: Numbers) -> list[Verdict]:
    """Every claim with its verdict on this run."""
    evidence = Evidence(numbers)
    verdicts = []
    for claim in CLAIMS:
        try:
            outcome = claim.test(evidence)
        except NotTestable as error:
            verdicts.append(Verdict(claim, NOT_TESTABLE, reason=str(error)))
            continue
        verdict = REPRODUCED if outcome.holds else CONTRADICTED
        verdicts.append(Verdict(claim, verdict, outcome.clear, outcome.numbers))
    return verdicts


def claims_yaml(numbers: Numbers, verdicts: list[Verdict]) -> str:
    """The verdicts as YAML 1.2 text; numbers with six significant digits."""
    run, choice = numbers.run, numbers.run.choices()[0]
    data = {
        "profile": run.info.get("profile"),
        "threshold_rule": choice.rule,
        "region": choice.region,
        "test_subjects": Evidence(numbers).subjects,
        "claims": [
            {
                "id": v.claim.id,
                "source": v.claim.source,
                "statement": v.claim.statement,
                "predicate": v.claim.predicate,
                "verdict": v.verdict,
                "interval_agrees": v.clear,
                "numbers": v.numbers,
                "reason": v.reason,
            }
            for v in verdicts
        ],
    }
    return yaml.safe_dump(_stored(data), sort_keys=False, allow_unicode=True, width=120)


def claims_table(numbers: Numbers, verdicts: list[Verdict]) -> Table:
    """The verdicts for the report: of the claims that could be judged on this run, no line where there is none."""
    rows = [
        (
            v.claim.id,
            v.claim.statement,
            v.verdict,
            {True: "yes", False: "no", None: "–"}[v.clear],
            v.claim.predicate,
            "; ".join(f"{key} {_short(value)}" for key, value in v.numbers.items()),
        )
        for v in verdicts
        if v.verdict != NOT_TESTABLE
    ]
    return Table(
        "claims",
        "The paper's claims on this run",
        ("Claim", "In short", "Verdict", "95 % CI agrees", "Predicate", "Numbers"),
        tuple(rows),
        (
            f"{said(numbers.run.choices()[0])} Up to {Evidence(numbers).subjects} test subjects. "
            "Predicates and limits are our reading of the paper's prose. A verdict speaks of this run's data only. "
            "All claims, and why one cannot be judged: claims.yaml.",
        ),
        section=Section.CLAIMS,
        prose=True,
    )


def _short(value: object) -> str:
    if isinstance(value, list):
        return " to ".join(_short(v) for v in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _stored(value: object) -> object:
    """The value for the file: numbers with six digits, None where there is none."""
    if isinstance(value, dict):
        return {key: _stored(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_stored(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if isfinite(value) else None
    return value
