"""Settings from files that somebody else may have written."""

from __future__ import annotations

import json


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
