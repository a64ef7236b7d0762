"""Text files: JSON, CSV and plain text, complete or absent; JSON that somebody else may have written is read with care."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from .atomic import atomic_path


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write UTF-8 text with "\\n" line ends, complete or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | os.PathLike, data: object) -> None:
    """Write indented JSON, complete or not at all; NaN and infinity, which JSON lacks, become null."""
    write_text(path, json.dumps(plain(data), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: str | os.PathLike, rows: Iterable[Mapping], columns: Sequence[str] | None = None) -> None:
    """Write rows as CSV with a header, complete or not at all; columns by first appearance unless given.

    With `columns` the rows are written as they come, however many there are.
    """
    if columns is None:
        rows = list(rows)
        columns = list(dict.fromkeys(key for row in rows for key in row))
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def plain(data: object) -> object:
    """The same data in JSON's own types."""
    if isinstance(data, Mapping):
        return {str(key): plain(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [plain(value) for value in data]
    if isinstance(data, np.ndarray):
        return plain(data.tolist())
    if isinstance(data, np.generic):
        return plain(data.item())
    if isinstance(data, float) and not np.isfinite(data):
        return None
    return str(data) if isinstance(data, os.PathLike) else data


def parse_json(text: str | bytes) -> object:
    """What `json.loads` gives; raises ValueError also where it is nested too deeply or holds half of a character pair."""
    try:
        data = json.loads(text)
        json.dumps(data, ensure_ascii=False).encode()
    except (RecursionError, MemoryError) as error:
        raise ValueError("it is nested too deeply") from error
    return data


def within(data: object, largest: float = 100_000, layers: int = 200, nested: int = 20) -> bool:
    """True when the settings of a model are no deeper, and no number in them larger, than models have.

    Building it stays bounded thus.
    """
    if isinstance(data, (dict, list, tuple)) and not nested:
        return False
    if isinstance(data, dict):
        return all(
            within(value, layers if str(key).endswith(("layers", "depth")) else largest, layers, nested - 1)
            for key, value in data.items()
        )
    if isinstance(data, (list, tuple)):
        return len(data) <= largest and all(within(value, largest, layers, nested - 1) for value in data)
    return not isinstance(data, (int, float)) or -largest <= data <= largest
