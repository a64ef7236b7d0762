"""What the measuring scripts for evidence in 3D share: unseen synthetic volumes, and tables of paired differences."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ZSADCLIPLib.evaluation.curves import curve
from ZSADCLIPLib.evaluation.lesions import match_lesions
from ZSADCLIPLib.evaluation.metrics import confusion, scores
from ZSADCLIPLib.evaluation.thresholds import reaches
from ZSADCLIPLib.files.atomic import atomic_path
from ZSADCLIPLib.files.text import write_json, write_text
from ZSADCLIPLib.synthetic.brains import make_case
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.components import SMALLEST_MM3, components, remove_small

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "methods" / "volumes.md"
HEAD = "| scoring | threshold | Dice | difference | AP | difference | lesions found | false parts, sick / healthy |"
PARTS = {"test": 0, "tune": 20, "bank": 40}
"""By group, how far behind --first its sick seeds begin; the healthy ones begin 50 further on."""


def add_arguments(parser) -> None:
    """--out, the numbers of volumes and their first seed, --threads and --update."""
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--first", type=int, default=5100, metavar="SEED", help="of the test volumes")
    parser.add_argument("--sick", type=int, default=10, help="test volumes with lesions")
    parser.add_argument("--healthy", type=int, default=3, help="test volumes without")
    parser.add_argument(
        "--tune", type=int, default=4, help="volumes with lesions that give thresholds, and one without"
    )
    parser.add_argument("--bank", type=int, default=5, help="healthy volumes of a bank")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--update", metavar="NAME", help="put the table between the markers NAME of docs/methods/volumes.md"
    )


def seeds_of(a, group: str) -> list[tuple[int, bool]]:
    """Seeds of a group, each with whether it is healthy; no group shares one with another."""
    sick, healthy = {"test": (a.sick, a.healthy), "tune": (a.tune, 1), "bank": (0, a.bank)}[group]
    first = a.first + PARTS[group]
    return [(first + n, False) for n in range(sick)] + [(first + 50 + n, True) for n in range(healthy)]


def made(seed: int, healthy: bool, folder: Path) -> tuple[Volume, np.ndarray]:
    """T2 volume of the world met-t2 and its truth bool (I, J, K); kept in `folder`, as making one takes seconds."""
    path = folder / f"{seed}.npz"
    if not path.is_file():
        case = make_case(seed, healthy=healthy, anatomy="mni152" if seed % 4 == 3 else "colin27")
        volume = case.volumes["t2w"]
        with atomic_path(path) as temporary, open(temporary, "wb") as stream:
            np.savez_compressed(stream, array=volume.array, affine=volume.affine, truth=case.seg.array > 0)
    stored = np.load(path)
    return Volume(stored["array"], stored["affine"], str(seed)), stored["truth"]


def figures(
    found: np.ndarray, truth: np.ndarray, brain: np.ndarray, threshold: float, spacing: Sequence[float], deep=(1, 0)
) -> dict[str, float]:
    """Figures of a map (I, J, K) cut at a threshold in the brain; `deep` are slices of support and their axis."""
    mask, lesions = (
        remove_small(reaches(found, threshold) & brain, tuple(spacing), SMALLEST_MM3, *deep),
        components(truth),
    )
    match, sick = match_lesions(mask, lesions), truth.any()
    return {
        "dice": scores(confusion(mask, truth))["dice"] if sick else None,
        "ap": curve(found, truth, brain).average_precision if sick else None,
        "found": int(np.sum(match.detected)),
        "lesions": int(lesions.max()),
        "false": match.false_positives,
    }


def best_threshold(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    """The threshold with the best pooled F1 over the scores and truths of several volumes' brain voxels."""
    return float(curve(*(np.concatenate(each) for each in zip(*pairs, strict=True))).threshold)


class Table:
    """Rows of figures by volume, kept in FILE.json and printed as Markdown; differences are paired against the first row.

    Brackets hold 95 % bootstrap intervals over the volumes.
    """

    def __init__(self, path: Path, key: str, extra: str = ""):
        """`key` says what all rows depend on; rows of another are made anew. `extra` names a further figure, cell_ap."""
        self.path, self.key, self.extra = path, key, extra
        stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        self.rows: dict[str, dict] = stored.get("rows", {}) if stored.get("key") == key else {}
        self.order: list[str] = []

    def add(self, name: str, make: Callable[[], tuple[float, dict[str, dict]]]) -> None:
        """Add a row, made unless it is there: its threshold, and the figures of each volume."""
        if name not in self.rows:
            threshold, volumes = make()
            self.rows[name] = {"threshold": threshold, "volumes": volumes}
            write_json(self.path, {"key": self.key, "rows": self.rows, "load": os.getloadavg()[0]})
            print(self.line(name, self.order[0] if self.order else name), flush=True)
        self.order.append(name)

    def line(self, name: str, before: str) -> str:
        row, first = self.rows[name], self.rows[before]["volumes"]
        volumes = row["volumes"]
        sick = [n for n, each in volumes.items() if each["dice"] is not None]
        cells = [name, f"{row['threshold']:.3f}"]
        for what in ("dice", "ap"):
            cells.append(f"{np.mean([volumes[n][what] for n in sick]):.3f}")
            change = [volumes[n][what] - first[n][what] for n in sick]
            cells.append("" if name == before else interval(np.array(change)))
        cells.append(f"{sum(v['found'] for v in volumes.values())} of {sum(v['lesions'] for v in volumes.values())}")
        false = [[v["false"] for n, v in volumes.items() if (n in sick) == is_sick] for is_sick in (True, False)]
        cells.append(" / ".join(f"{np.mean(each):.1f}" if each else "-" for each in false))
        if self.extra:
            cells.append(f"{np.mean([v[self.extra] for v in volumes.values() if v[self.extra] is not None]):.3f}")
        return f"| {' | '.join(cells)} |"

    def markdown(self) -> str:
        """The whole table."""
        head = HEAD + (f" {self.extra.replace('_', ' ').replace('ap', 'AP')} |" if self.extra else "")
        lines = [self.line(name, self.order[0]) for name in self.order]
        return "\n".join([head, "| --- " * head.count(" | ") + "| --- |", *lines, ""])


def interval(differences: np.ndarray) -> str:
    """The mean of paired differences with its 95 % bootstrap interval."""
    draws = np.random.default_rng(0).choice(differences, (4000, len(differences))).mean(1)
    low, high = np.quantile(draws, (0.025, 0.975))
    return f"{differences.mean():+.3f} [{low:+.3f}, {high:+.3f}]"


def update(name: str, text: str) -> None:
    """Put a text between the markers of a name in the document."""
    page, begin, end = DOCUMENT.read_text(encoding="utf-8"), f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, _, rest = page.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{DOCUMENT.name} has no markers {name}")
    write_text(DOCUMENT, before + begin + text + end + after)
