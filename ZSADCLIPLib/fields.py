"""Settings as frozen dataclasses whose field types say what is allowed, and the one reader that holds values against them.

A type is str, int, float, bool, dict, tuple[T, ...], tuple[T, T], dict[K, T], Literal, another such dataclass, a choice of them
(T | None), or one of them with limits: `Annotated[int, AtLeast(1)]`. Values are those of JSON: a list fits a tuple, a whole
number fits a float, and true is no number. A path is a text, too, for those who call from Python.
"""

from __future__ import annotations

import os
import sys
import types
import typing
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from functools import cache
from typing import Annotated, Literal

from .errors import UsageError


@dataclass(frozen=True)
class OneOf:
    """Limit: one of some names or numbers."""

    choices: tuple[str | int, ...]

    def allows(self, value: str | int) -> bool:
        return value in self.choices

    def __str__(self) -> str:
        return f"choose one of {', '.join(map(str, self.choices))}"


@dataclass(frozen=True)
class AtLeast:
    """Limit: this number or more."""

    lowest: float

    def allows(self, value: float) -> bool:
        return value >= self.lowest

    def __str__(self) -> str:
        return f"expected {self.lowest} or more"


@dataclass(frozen=True)
class AtMost:
    """Limit: this number or less."""

    highest: float

    def allows(self, value: float) -> bool:
        return value <= self.highest

    def __str__(self) -> str:
        return f"expected {self.highest} or less"


@dataclass(frozen=True)
class Between:
    """Limit: a number between two others, neither of which is allowed."""

    low: float
    high: float = float("inf")

    def allows(self, value: float) -> bool:
        return self.low < value < self.high

    def __str__(self) -> str:
        below = self.high == float("inf")
        return f"expected more than {self.low}" if below else f"expected a number between {self.low} and {self.high}"


Count = Annotated[int, AtLeast(0)]
Positive = Annotated[int, AtLeast(1)]
Share = Annotated[float, Between(0, 1)]
_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "null"}
_WORDS |= {tuple: "a list"}


def flag(*names: str, default=MISSING, default_factory=MISSING, help: str | None = None, metavar=None, alone=None):
    """A dataclass field that the command line gives as `names` (none: its own name), with argparse's help and metavar.

    `alone` is the value of a flag that is given without one.
    """
    metadata = {"names": names, "help": help, "metavar": metavar, "alone": alone}
    return field(default=default, default_factory=default_factory, metadata=metadata)


@cache
def field_types(kind: type) -> dict[str, object]:
    """The type of each field of a dataclass, limits included."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {each.name: hints[each.name] for each in fields(kind)}


def alternatives(hint: object) -> tuple:
    """The types of a choice; a type that is none is its own."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def unwrap(hint: object) -> tuple[object, tuple]:
    """A type without its limits, and these."""
    if typing.get_origin(hint) is Literal:
        return str, (OneOf(typing.get_args(hint)),)
    return (hint.__origin__, hint.__metadata__) if typing.get_origin(hint) is Annotated else (hint, ())


def choices_of(hint: object) -> tuple[str, ...]:
    """The names that a type allows, empty when it names none."""
    return next((limit.choices for limit in unwrap(hint)[1] if isinstance(limit, OneOf)), ())


def from_dict(kind: type, values: object, name: str = "", base=None):
    """A dataclass from JSON values: `base`, or else the defaults, with these fields replaced, inner ones likewise.

    Raises UsageError naming the field, with `name` before it, its value and what is expected.
    """
    if not isinstance(values, dict):
        raise UsageError(f"{name.rstrip(':')} is {values!r:.60}; expected an object")
    hints = field_types(kind)
    _check_names(values, hints, name)
    new = {key: read(value, hints[key], _inner(name, key), getattr(base, key, None)) for key, value in values.items()}
    if base is not None:
        return replace(base, **new)
    for each in fields(kind):
        if each.name not in new and each.default is MISSING and each.default_factory is MISSING:
            raise UsageError(f"{_inner(name, each.name)} is missing; give it")
    return kind(**new)


def check(value: object, name: str = "") -> None:
    """Raise UsageError as `from_dict` does when a field of a dataclass has a value that its type does not allow."""
    for key, hint in field_types(type(value)).items():
        read(getattr(value, key), hint, _inner(name, key))


def read(value: object, hint: object, name: str, old: object = None):
    """A JSON value as its type; raises UsageError as `from_dict` does. `old` is what its keys replace."""
    hint_of_value = next((each for each in alternatives(hint) if _fits(value, each)), None)
    if hint_of_value is None:
        raise UsageError(f"{name} is {value!r:.60}; expected {' or '.join(map(_words, alternatives(hint)))}")
    kind, limits = unwrap(hint_of_value)
    value = _converted(value, kind, name, old)
    for limit in limits:
        if not limit.allows(value):
            raise UsageError(f"{name} is {value!r:.60}; {limit}")
    return value


def _fits(value: object, hint: object) -> bool:
    kind = _outer(hint)
    if isinstance(value, bool):
        return kind is bool
    if kind is float:  # a whole number may be larger than any float
        return isinstance(value, (int, float)) and abs(value) <= sys.float_info.max
    also = {str: os.PathLike, tuple: list}.get(kind, dict if is_dataclass(kind) else kind)
    return isinstance(value, (kind, also))


def _outer(hint: object) -> type:
    kind = unwrap(hint)[0]
    return typing.get_origin(kind) or kind


def _words(hint: object) -> str:
    choices = choices_of(hint)
    return f"one of {', '.join(choices)}" if choices else _WORDS.get(_outer(hint), "an object")


def _converted(value, kind: object, name: str, old: object):
    inner = typing.get_args(kind)
    if is_dataclass(kind):
        if not isinstance(value, kind):
            return from_dict(kind, value, name, old)
        check(value, name)
    elif kind is float:
        return float(value)
    elif kind is str:
        return os.fspath(value)
    elif inner and isinstance(value, dict):
        _check_names(value, choices_of(inner[0]) or value, name)
        old = old or {}
        return {**old, **{key: read(each, inner[1], _inner(name, key), old.get(key)) for key, each in value.items()}}
    elif inner:
        inner = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        if len(value) != len(inner):
            raise UsageError(f"{name} is {value!r:.60}; expected {len(inner)} values")
        return tuple(read(each, inner[i], f"{name}[{i}]") for i, each in enumerate(value))
    return value


def _check_names(values: dict, allowed, name: str) -> None:
    for key in values:
        if key not in allowed:
            raise UsageError(f"{name.rstrip(':')} has no field {key!r:.60}; known are {', '.join(allowed)}".lstrip())


def _inner(name: str, key: str) -> str:
    return f"{name}{' ' if name.endswith(':') else '.' if name else ''}{key}"
