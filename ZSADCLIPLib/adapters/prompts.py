"""Prompts are data: the states and templates of a method, from the package or a JSON file of the user's own."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import UsageError
from ..files.packaged import PROMPTS
from ..files.text import parse_json

ORDERS = ("states", "templates")


@dataclass(frozen=True)
class PromptSet:
    """Two groups of states and the templates they are put into; every entry holds `{}` once.

    `order` names the outer loop of the sentences: "states" (VAND, AdaCLIP) or "templates" (AnoVL); it changes the group
    mean by float rounding only.
    """

    label: str
    normal: tuple[str, ...]
    abnormal: tuple[str, ...]
    templates: tuple[str, ...]
    order: str = "states"

    def sentences(self, name: str) -> tuple[list[str], list[str]]:
        """The normal and the abnormal sentences about `name`."""

        def group(states: tuple[str, ...]) -> list[str]:
            named = [state.replace("{}", name) for state in states]
            if self.order == "states":
                return [template.replace("{}", state) for state in named for template in self.templates]
            return [template.replace("{}", state) for template in self.templates for state in named]

        return group(self.normal), group(self.abnormal)

    def to_dict(self) -> dict:
        return asdict(self)


def prompt_sets() -> dict[str, str]:
    """The embedded prompt sets: name -> label."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8"))["label"] for path in sorted(PROMPTS.glob("*.json"))}


def load_prompts(source: str | Path | dict | PromptSet) -> PromptSet:
    """A prompt set by its embedded name, from a JSON file, or from a dictionary.

    Raises UsageError naming the entry that is missing, empty or lacks its `{}`.
    """
    if isinstance(source, PromptSet):
        return source
    if isinstance(source, dict):
        return _checked(source, "the given prompts")
    embedded = PROMPTS / f"{source}.json"
    path = embedded if embedded.is_file() else Path(source)
    if not path.is_file():
        raise UsageError(f"no prompt set {str(source)!r}: give one of {', '.join(prompt_sets())}, or a JSON file")
    try:
        return _checked(parse_json(path.read_text(encoding="utf-8")), str(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"the prompt file {path} is not readable JSON: {error}") from error


def _checked(data: dict, where: str) -> PromptSet:
    if not isinstance(data, dict):
        raise UsageError(f"{where}: expected an object with normal, abnormal and templates, got {type(data).__name__}")
    groups = {}
    for key in ("normal", "abnormal", "templates"):
        entries = data.get(key)
        if not isinstance(entries, (list, tuple)) or not entries:
            raise UsageError(f"{where}: {key!r} must be a list of at least one text with {{}} in it")
        bad = next((e for e in entries if not isinstance(e, str) or e.count("{}") != 1), None)
        if bad is not None:
            raise UsageError(f"{where}: {key!r} holds {bad!r}; every entry is a text with {{}} in it exactly once")
        groups[key] = tuple(entries)
    order = data.get("order", "states")
    if order not in ORDERS:
        raise UsageError(f"{where}: order {order!r} is unknown; choose states or templates")
    return PromptSet(label=str(data.get("label", Path(where).stem)), order=order, **groups)
