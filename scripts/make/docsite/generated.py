"""Parts of pages that are made from the code: the command line from its parser, settings with units from their classes."""

import argparse
import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import get_args, get_origin

from docstrings import items_of

from ZSADCLIPLib.adapters import METHODS
from ZSADCLIPLib.benchmark.settings import Profile
from ZSADCLIPLib.cli import COMMANDS, parser
from ZSADCLIPLib.detection.scoring import Scoring
from ZSADCLIPLib.fields import alternatives, choices_of, field_types, unwrap
from ZSADCLIPLib.jobs.registry import JOBS
from ZSADCLIPLib.node.config import NodeSettings, PeerSettings, Rule
from ZSADCLIPLib.serve.config import ServeSettings

UNITS = {"mm3": "mm³", "mm": "mm", "gb": "GB", "s": "s", "hours": "h"}
"""Of a setting whose name ends so."""
KINDS = {int: "whole number", float: "number", str: "text", bool: "true, false", dict: "object", type(None): "null"}


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A Markdown table without the columns that say nothing; empty without rows."""
    kept = [index for index in range(len(head)) if any(row[index] for row in rows)]
    lines = [[line[index].replace("|", "\\|") for index in kept] for line in (head, ("---",) * len(head), *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) if rows else ""


def code(value: object) -> str:
    """A value as code, a list as its items, and what is empty as nothing."""
    if isinstance(value, (tuple, list)):
        return ", ".join(map(code, value))
    return "" if value in (None, {}, "") else f"`{value}`"


# The command line


def commands() -> str:
    """A section for each command: what it does, its usage, its options by group."""
    top = parser()
    group = next(action for action in top._actions if isinstance(action, argparse._SubParsersAction))
    return "\n\n".join(text for name in COMMANDS for text in _command(group.choices[name], COMMANDS[name][1], name))


def _command(p: argparse.ArgumentParser, text: str, name: str) -> Iterator[str]:
    level = "#" * (len(p.prog.split()))
    yield f"{level} {p.prog}\n\n{text[:1].upper()}{text[1:]}."
    nested = [action for action in p._actions if isinstance(action, argparse._SubParsersAction)]
    for action in nested:
        helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
        for each, below in action.choices.items():
            yield from _command(below, helps.get(each, ""), f"{name} {each}")
    if not nested:
        yield f"```text\n{_usage(p)}\n```"
        defaults = {each.name: each.default for each in fields(BEHIND[name])} if name in BEHIND else {}
        plain = [row for group in p._action_groups[:2] for row in _options(group, defaults)]
        yield table(OPTION_HEAD, plain) or "No options."
        for group in p._action_groups[2:]:
            yield f"{group.title[:1].upper()}{group.title[1:]}:\n\n{table(OPTION_HEAD, _options(group, defaults))}"


BEHIND = JOBS | {"serve": ServeSettings}
"""The class behind a command, whose fields its options are."""
OPTION_HEAD = ("option", "default", "meaning")


def _usage(p: argparse.ArgumentParser) -> str:
    """The arguments without which a command does not run."""
    words = [p.prog]
    for action in p._actions:
        if not action.option_strings:
            words.append(_metavar(action) + (" ..." if action.nargs in ("+", "*") else ""))
        elif action.required:
            words.append(f"{action.option_strings[0]} {_metavar(action)}")
    return " ".join([*words, "[options]"])


def _metavar(action: argparse.Action) -> str:
    return str(action.metavar or action.dest.upper())


def _options(group, defaults: dict[str, object]) -> list[tuple[str, ...]]:
    """A row (option, default, meaning) for each option of a group; `defaults` are those of the job's fields."""
    rows = []
    for action in group._group_actions:
        if "--help" not in action.option_strings:
            default = defaults.get(action.dest, action.default)
            hidden = default in (MISSING, argparse.SUPPRESS) or isinstance(default, bool)
            rows.append((_flag(action), "" if hidden else code(default), " ".join((action.help or "").split())))
    return rows


def _flag(action: argparse.Action) -> str:
    """An option with its values, such as `--plane` auto, axial."""
    name = f"`{', '.join(action.option_strings) or _metavar(action)}`"
    if action.nargs == 0 or not action.option_strings:
        return name
    values = ", ".join(map(str, action.choices)) if action.choices else f"`{_metavar(action)}`"
    return f"{name} {values}" + (" ..." if action.nargs in ("+", "*") else "")


# Settings


def _kind(hint: object) -> str:
    """What a type allows, in words."""
    found = []
    for each in alternatives(hint):
        inner, limits = unwrap(each)
        names = choices_of(each)
        if names:
            found.append(", ".join(f"`{name}`" for name in names))
        elif is_dataclass(inner):
            found.append(inner.__name__)
        elif get_origin(inner) in (tuple, list):
            of = [_kind(item) for item in get_args(inner) if item is not Ellipsis]
            found.append(f"list of {of[0]}" if len(set(of)) == 1 else f"list ({'; '.join(of)})")
        else:
            word, *said = KINDS.get(get_origin(inner) or inner, "text"), *(str(limit) for limit in limits)
            said = [each.replace("expected ", "").replace("a number ", "") for each in said]
            found.append(" ".join([word, *said]))
    return " or ".join(dict.fromkeys(found))


def _default(each: Field) -> object:
    value = each.default if each.default_factory is MISSING else each.default_factory()
    return "required" if value is MISSING else value


def unit(name: str) -> str:
    """The unit in a setting's name, empty where it has none."""
    return UNITS.get(name.rpartition("_")[2], "") if "_" in name else ""


def settings_of(kind: type, prefix: str = "", more: dict[str, str] | None = None) -> list[tuple[str, ...]]:
    """A row (name, type, unit, default, meaning) for each field; meanings are of the docstring, else of `more`."""
    said = items_of(kind.__doc__ or "")
    rows = []
    for each in fields(kind):
        value = _default(each)
        shown = "required" if value == "required" else code(value)
        hint = field_types(kind)[each.name]
        meaning = said.get(each.name) or (more or {}).get(each.name, "")
        rows.append((f"`{prefix}{each.name}`", _kind(hint), unit(each.name), shown, meaning))
    return rows


HEAD = ("setting", "type", "unit", "default", "meaning")


def lead(kind: type) -> str:
    """The prose of a class's docstring, without its list of fields."""
    return re.sub(r"\s+", " ", items_of(kind.__doc__ or "")[""])


def profile_settings() -> str:
    """A table for each object of a benchmark's profile: what its keys take."""
    parts = []
    for each in fields(Profile):
        kind, prefix = _inner(each)
        if kind is not None:
            rows = [(*row[:3], row[4]) for row in settings_of(kind, prefix)]
            head = tuple(word for word in HEAD if word != "default")
            parts.append(f"### {each.name}\n\n{lead(kind)}\n\n{table(head, rows)}")
    return "\n\n".join(parts)


def _inner(each: Field) -> tuple[type | None, str]:
    """The class of an object of a profile and how its keys begin; `methods.M.` where there is one for each method."""
    hint = field_types(Profile)[each.name]
    if get_origin(hint) is dict:
        key = {"methods": "M", "backbones": "ROLE"}[each.name]
        return get_args(hint)[1], f"{each.name}.{key}."
    return (hint, f"{each.name}.") if is_dataclass(hint) else (None, "")


def method_settings() -> str:
    """A table for each method: the fields of its config, whose values `--set` takes."""
    parts = []
    for name, info in METHODS.items():
        kind = info.load().Config
        parts.append(
            f"### {info.label}\n\nMore in [its page](../methods/{name}.md).\n\n{table(HEAD, settings_of(kind, more=COMMON))}"
        )
    return "\n\n".join(parts)


COMMON = {
    "object_name": "what the prompts speak of",
    "prompts": "an embedded prompt set, a JSON file, or its content",
    "upsample": "where a patch is drawn in the map ([how](../methods/README.md#5-enlarging-maps))",
    "pos_embed": "how positions are resized ([how](../methods/README.md#4-patches-and-positions))",
    "dice": "what one Dice sample is ([how](../methods/README.md#8-losses))",
    "learning_rate": "of the optimiser",
    "epochs": "of a training",
    "batch_size": "slices in a step of training",
}
"""Settings that several methods share and that their classes do not explain each."""


def scoring_settings() -> str:
    """The fields of Scoring."""
    return table(HEAD, settings_of(Scoring))


def node_settings() -> str:
    """The file of a DICOM node: its own settings, those of a peer and of a rule."""
    parts = (("", NodeSettings), ("peer.", PeerSettings), ("rule.", Rule))
    return "\n\n".join(f"{lead(kind)}\n\n{table(HEAD, settings_of(kind, prefix))}" for prefix, kind in parts)


PARTS = {
    "command line": commands,
    "profile settings": profile_settings,
    "method settings": method_settings,
    "scoring settings": scoring_settings,
    "node settings": node_settings,
}
