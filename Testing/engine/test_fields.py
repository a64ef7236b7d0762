"""The one reader of settings: what fits a field's type, and errors that name the field, the value and what is expected."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest

from ZSADCLIPLib.errors import UsageError
from ZSADCLIPLib.fields import Between, Count, OneOf, Positive, Share, check, from_dict


@dataclass(frozen=True)
class Part:
    size: Positive = 1
    share: Share = 0.5


@dataclass(frozen=True)
class Whole:
    name: str
    colour: Annotated[str, OneOf(("red", "blue"))] = "red"
    mode: Literal["fast", "slow"] | None = None
    limit: Annotated[float, Between(0)] | None = None
    batch: int | str = "auto"
    on: bool = False
    window: tuple[float, float] | None = None
    seeds: tuple[Count, ...] = ()
    part: Part = field(default_factory=Part)
    parts: dict[Annotated[str, OneOf(("a", "b"))], Part] = field(default_factory=dict)
    free: dict = field(default_factory=dict)


def test_json_values_become_the_types_of_the_fields():
    values = {
        "name": "n",
        "mode": "slow",
        "limit": 2,
        "batch": 3,
        "window": [0, 1],
        "seeds": [4, 5],
        "part": {"size": 7},
    }
    values |= {"parts": {"b": {"share": 0.25}}, "free": {"any": [1]}, "on": True}
    made = from_dict(Whole, values)
    assert made == Whole(
        "n", "red", "slow", 2.0, 3, True, (0.0, 1.0), (4, 5), Part(7), {"b": Part(1, 0.25)}, {"any": [1]}
    )
    assert isinstance(made.limit, float) and isinstance(made.window[0], float)
    check(made)


def test_a_base_keeps_what_is_not_named():
    base = Whole("n", part=Part(7, 0.1), parts={"a": Part(2), "b": Part(3)}, free={"x": 1})
    made = from_dict(Whole, {"part": {"share": 0.9}, "parts": {"b": {"share": 0.2}}, "free": {"y": 2}}, "", base)
    assert made == Whole("n", part=Part(7, 0.9), parts={"a": Part(2), "b": Part(3, 0.2)}, free={"y": 2})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"size": 3}, "the thing has no field 'size'; known are name, colour"),
        ({"part": {"sise": 3}}, "the thing: part has no field 'sise'; known are size, share"),
        ({"part": 3}, "the thing: part is 3; expected an object"),
        ({"part": {"size": 0}}, "the thing: part.size is 0; expected 1 or more"),
        ({"part": {"share": 1}}, "the thing: part.share is 1.0; expected a number between 0 and 1"),
        ({"parts": {"c": {}}}, "the thing: parts has no field 'c'; known are a, b"),
        ({"parts": {"a": {"size": -1}}}, "the thing: parts.a.size is -1; expected 1 or more"),
        ({"colour": "green"}, "the thing: colour is 'green'; choose one of red, blue"),
        ({"colour": 3}, "the thing: colour is 3; expected one of red, blue"),
        ({"mode": "still"}, "the thing: mode is 'still'; choose one of fast, slow"),
        ({"mode": 1}, "the thing: mode is 1; expected one of fast, slow or null"),
        ({"limit": 0}, "the thing: limit is 0.0; expected more than 0"),
        ({"limit": float("nan")}, "the thing: limit is nan; expected a number or null"),
        ({"limit": 10**400}, "expected a number or null"),
        ({"limit": True}, "the thing: limit is True; expected a number or null"),
        ({"batch": None}, "the thing: batch is None; expected a whole number or a text"),
        ({"on": 1}, "the thing: on is 1; expected true or false"),
        ({"window": [1]}, "the thing: window is [1]; expected 2 values"),
        ({"seeds": [1, -1]}, "the thing: seeds[1] is -1; expected 0 or more"),
        ({"seeds": 4}, "the thing: seeds is 4; expected a list"),
        ({"free": [1]}, "the thing: free is [1]; expected an object"),
        ({"name": ["x" * 99]}, "x; expected a text"),
    ],
)
def test_errors_name_field_value_and_expectation(change, words):
    with pytest.raises(UsageError) as caught:
        from_dict(Whole, {"name": "n", **change}, "the thing:")
    assert words in str(caught.value) and len(str(caught.value)) < 160


def test_what_was_made_in_python_is_checked_too():
    with pytest.raises(UsageError, match=r"^parts\.a\.size is 0; expected 1 or more$"):
        check(Whole("n", parts={"a": Part(0)}))
    with pytest.raises(UsageError, match="^the thing: name is missing; give it$"):
        from_dict(Whole, {}, "the thing:")
    with pytest.raises(UsageError, match=r"^the thing is \[\]; expected an object$"):
        from_dict(Whole, [], "the thing:")


def test_a_path_is_a_text_too():
    check(Whole(Path("a")))
    assert from_dict(Whole, {"name": Path("a") / "b"}).name == str(Path("a") / "b")
