"""A small HTML page over finished cases: pictures, findings, provenance; everything that comes from files is escaped."""

from __future__ import annotations

import json
import os
from html import escape
from pathlib import Path
from urllib.parse import quote

from ..files.text import write_text

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem; color: #1b1f24; background: #fff }
img { max-width: 100%; height: auto; display: block; margin: 1rem 0 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums } td, th { padding: .2rem .8rem .2rem 0; text-align: right }
.note { border-left: 4px solid #b8860b; padding-left: .8rem } pre { overflow-x: auto; font-size: .8rem }
@media (prefers-color-scheme: dark) { body { color: #e6e6e6; background: #16181c } }
"""


def _findings(case: dict) -> str:
    head = "".join(f"<th>{h}</th>" for h in ("rank", "volume mm3", "peak", "mean", "side", "slices", "centroid RAS"))
    rows = []
    for f in case["findings"]:
        cells = [f["rank"], f"{f['volume_mm3']:.0f}", f"{f['peak']:.3f}", f"{f['mean']:.3f}", f["side"]]
        cells += [f"{f['slices'][0]}-{f['slices'][1]}", ", ".join(f"{x:.0f}" for x in f["centroid_ras"])]
        rows.append("<tr>" + "".join(f"<td>{escape(str(c))}</td>" for c in cells) + "</tr>")
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>" if rows else "<p>No finding above the threshold.</p>"


def write_page(path: str | os.PathLike, cases: list[dict], title: str) -> None:
    """Write an HTML page beside the cases' pictures (ID.png); `cases` are the dictionaries of their JSON files."""
    parts = []
    for case in cases:
        row = case["summary"]
        dice = f", Dice {row['dice']:.2f} against the given truth" if row.get("dice") is not None else ""
        picture = f'<img src="{quote(case["id"])}.png" alt="Slices of {escape(case["id"])} with anomaly map">'
        if not (Path(path).parent / f"{case['id']}.png").is_file():
            picture = ""
        parts.append(
            f"<h2>{escape(case['id'])}</h2><p>Volume score {case['volume_score']:.3f}, threshold {case['threshold']:.3f} "
            f"({escape(case['threshold_rule'])}){dice}.</p>{picture}{_findings(case)}<details><summary>Provenance</summary>"
            f"<pre>{escape(json.dumps(case['provenance'], indent=1))}</pre></details>"
        )
    write_text(path, document(title, "".join(parts)))


def document(title: str, body: str, style: str = "") -> str:
    """A whole page around a body that is HTML already; the title is escaped, `style` is further CSS."""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style><h1>{escape(title)}</h1>"
        f'<p class="note">Research use only, not for diagnosis.</p>{body}</html>\n'
    )
