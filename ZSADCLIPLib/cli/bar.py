"""What a command shows while it works: a bar on standard error, a line for each finished item."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing

from ..errors import number_of


class Bar:
    """Progress as a bar on standard error, silent when it is not a terminal."""

    def __init__(self):
        from tqdm import tqdm

        form = "{percentage:3.0f}% |{bar}| {desc} [{elapsed}<{remaining}]"
        self._bar = tqdm(total=1.0, bar_format=form, file=sys.stderr, disable=not sys.stderr.isatty(), leave=False)

    def __call__(self, fraction: float, text: str, done: int | None = None, total: int | None = None) -> None:
        self._bar.set_description_str(text, refresh=False)
        self._bar.update(max(0.0, fraction - self._bar.n))
        self._bar.refresh()

    def close(self) -> None:
        self._bar.close()


def run_with_bar(job, line: Callable[[dict], str]) -> dict:
    """Run a job: its notes go to standard error, a line about each of its items to standard output."""
    from tqdm import tqdm

    def report(event: dict) -> None:
        if event["event"] == "note":
            tqdm.write(f"note: {event['text']}", file=sys.stderr)
        else:
            tqdm.write(line(event), file=sys.stdout)

    with closing(Bar()) as bar:
        return job.run(bar, report)


def case_line(event: dict) -> str:
    """A case of a detection."""
    status, detail = event["status"], ""
    if status in ("failed", "left out"):
        detail = event["error"]
    elif status == "done":
        found = number_of(event["findings"], "finding")
        detail = f"score {event['volume_score']:.3f}, {found}, {event['volume_mm3'] / 1000:.2f} ml"
        if "dice" in event and event["dice"] is not None:
            detail += f", Dice {event['dice']:.2f}"
    notes = (f"\n  {note['severity']}: {note['text']} ({note['code']})" for note in event.get("notes", []))
    return f"{event['id']}: {status}{'  ' + detail if detail else ''}{''.join(notes)}"


def row_line(event: dict) -> str:
    """A row of a benchmark."""
    return f"{event['id']}: {event['status']}" + (f"  {event['error']}" if event["status"] == "failed" else "")


def adapter_line(event: dict) -> str:
    """A trained adapter."""
    cut = "" if event["threshold"] is None else f", threshold {event['threshold']:.4f}"
    return f"{event['id']}: {event['status']}, {event['epochs']} epochs, loss {event['loss']:.4f}{cut}"


def tokens_line(event: dict) -> str:
    """The tokens of a volume."""
    detail = f"{event['cells']} cells" if event["status"] == "done" else event["error"]
    return f"{event['id']}: {event['status']}  {detail}"
