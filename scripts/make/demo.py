"""Detect lesions in an unseen synthetic brain, or in the user's file, with the embedded model, and show them."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ZSADCLIPLib.adapters import METHODS
from ZSADCLIPLib.cli.bar import Bar
from ZSADCLIPLib.errors import ZSADCLIPError
from ZSADCLIPLib.jobs.registry import Detect

TEST_SEED = 5000
CASES = Path(__file__).with_name("demo_cases.json")


def main() -> int:
    p = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    p.add_argument("--input", type=Path, help="a volume of your own (default: a synthetic case)")
    p.add_argument("--method", choices=list(METHODS), default="vand")
    p.add_argument("--output", type=Path, default=Path("demo-output"))
    p.add_argument("--seed", type=int, default=2, help="which unseen synthetic case (test seeds start at 5000)")
    p.add_argument("--from", dest="start", type=Path, default=Path.cwd(), help=argparse.SUPPRESS)
    a = p.parse_args()
    out, bar = a.start / a.output, Bar()
    try:
        return run(a, out, bar)
    except ZSADCLIPError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    finally:
        bar.close()


def run(a, out: Path, bar) -> int:
    if a.input:
        inputs, what = str(a.start / a.input), f"your volume {a.input.name}"
    else:
        from ZSADCLIPLib.files.text import write_text
        from ZSADCLIPLib.synthetic.brains import write_dataset

        (folder,) = write_dataset(out / "case", cases=1, seed=TEST_SEED + a.seed)
        manifest = out / "case" / "case.csv"
        write_text(
            manifest,
            f"id,image,mask\n{folder.name},{folder.name}/{folder.name}-t2w.nii.gz,{folder.name}/{folder.name}-seg.nii.gz\n",
        )
        inputs, what = str(manifest), f"a synthetic T2w brain nobody trained on (seed {TEST_SEED + a.seed})"
    print(f"Looking for anomalies in {what}: {METHODS[a.method].label} on the embedded mini CLIP ...")
    rows: list[dict] = []
    result = job_of(inputs, str(out), a.method).run(bar, rows.append)
    if result["failed"]:
        print(f"demo: {rows[0]['error']}", file=sys.stderr)
        return 1
    show(out, rows[0], synthetic=not a.input)
    return 0


def job_of(inputs: str, out: str, method: str) -> Detect:
    """The detection of the demo."""
    # AnoVL's 21 further views would move the score of a slice, not its map, and take 20 times longer.
    settings = {"score_views": "identity"} if method == "anovl" else {}
    return Detect(inputs=(inputs,), output=out, method=method, settings=settings)


def models_of(provenance: dict) -> str:
    """What the Dice of a case depends on beside the case."""
    adapter = provenance["adapter"]
    return f"{adapter['method']} {provenance['backbone']['fingerprint'][:12]} {adapter['provenance'].get('threshold')}"


def among(models: str, dice: float) -> str:
    """Where a Dice lies among those of the 20 measured cases; empty where they were measured with other models."""
    measured = json.loads(CASES.read_text("utf-8")) if CASES.is_file() else {}
    if measured.get("models") != models:
        return ""
    others = sorted(measured["dice"].values())
    below, middle = sum(other < dice for other in others), (others[len(others) // 2 - 1] + others[len(others) // 2]) / 2
    return (
        f"Of {len(others)} cases that nobody chose {below} have a lower one: they go from {others[0]:.2f} to {others[-1]:.2f}, "
        f"median {middle:.2f}"
    )


def show(out: Path, row: dict, synthetic: bool) -> None:
    from ZSADCLIPLib.report.page import write_page

    case = json.loads((out / f"{row['id']}.json").read_text("utf-8"))
    print(f"Volume score {row['volume_score']:.3f}, threshold {row['threshold']:.3f} ({row['threshold_rule']})")
    print(f"{row['findings']} findings, {row['volume_mm3'] / 1000:.2f} ml in all")
    for f in case["findings"][:8]:
        r, anterior, s = f["centroid_ras"]
        where = f"slices {f['slices'][0]}-{f['slices'][1]}, {f['side']}, RAS {r:.0f} {anterior:.0f} {s:.0f}"
        print(f"  {f['rank']:2d}  {f['volume_mm3'] / 1000:7.2f} ml  peak {f['peak']:.2f}  {where}")
    if row.get("dice") is not None:
        print(
            f"Dice {row['dice']:.2f} against the true lesions"
            + " (synthetic data; says nothing about patients)" * synthetic
        )
        if synthetic and (where := among(models_of(case["provenance"]), row["dice"])):
            print(where)
    write_page(out / "index.html", [case], title="ZSADCLIP demo")
    print(f"Map, mask, JSON, picture and page: {out / 'index.html'}")
    print("Research use only, not for diagnosis.")


if __name__ == "__main__":
    sys.exit(main())
