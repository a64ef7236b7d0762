"""Command-line flags from the fields of jobs, so that a name, a type and a default have one home; needs no torch."""

from __future__ import annotations

import argparse
import json
import typing
from collections.abc import Collection
from dataclasses import MISSING, Field, fields

from ..errors import UsageError
from ..execution.base import EXECUTION_FIELDS, Execution
from ..fields import alternatives, choices_of, field_types, from_dict, unwrap


def add_flags(p: argparse.ArgumentParser, kind: type, without: Collection[str] = ()) -> None:
    """A flag for each field of a job that was made with `fields.flag`; those of `Execution` form a group of their own.

    The fields `without` get none.
    """
    many = p.add_argument_group("many cases") if issubclass(kind, Execution) else p
    for each in sorted(fields(kind), key=lambda each: each.name in EXECUTION_FIELDS):
        if each.metadata and each.name not in without:
            names = each.metadata["names"] or (f"--{each.name.replace('_', '-')}",)
            arguments = _arguments(each, field_types(kind)[each.name], names[0].startswith("-"))
            (many if each.name in EXECUTION_FIELDS else p).add_argument(*names, **arguments)


def job_of(kind: type, chosen: argparse.Namespace):
    """The job that the flags describe; one that was not given leaves the field its default. Raises UsageError."""
    return from_dict(kind, given(kind, chosen))


def given(kind: type, chosen: argparse.Namespace, without: Collection[str] = ()) -> dict:
    """The values of the fields of a job whose flags were given, but for those `without`."""
    names = [each.name for each in fields(kind) if each.name in chosen and each.name not in without]
    return {name: vars(chosen)[name] for name in names}


def _arguments(each: Field, hint: object, is_option: bool) -> dict:
    """What argparse is told about a field."""
    arguments = {"help": each.metadata["help"], "metavar": each.metadata["metavar"], "default": argparse.SUPPRESS}
    if is_option:
        arguments |= {"dest": each.name, "required": each.default is MISSING and each.default_factory is MISSING}
    kinds = [kind for kind in alternatives(hint) if kind is not type(None)]
    kind = unwrap(kinds[0])[0]
    if kind is bool:
        del arguments["metavar"]
        return {**arguments, "action": "store_false" if each.default else "store_true"}
    if kind is dict:
        arguments |= {"nargs": "+", "action": _Settings}
    elif items := typing.get_args(kind):
        arguments |= {"nargs": "+" if items[-1] is Ellipsis else len(items)}
        kinds = items[:1]
    if each.metadata["alone"] is not None:
        arguments |= {"nargs": "?", "const": each.metadata["alone"]}
    if len(kinds) == 1 and unwrap(kinds[0])[0] in (int, float):
        arguments["type"] = unwrap(kinds[0])[0]
    return arguments | {"choices": choices_of(kinds[0]) or None}


class _Settings(argparse.Action):
    """FIELD=VALUE pairs as a dictionary; a value that is no JSON is text."""

    def __call__(self, parser, namespace, values, option_string=None):
        settings = {}
        for pair in values:
            name, equals, text = pair.partition("=")
            if not equals:
                raise UsageError(f"{option_string} {pair!r}: expected FIELD=VALUE")
            try:
                settings[name] = json.loads(text)
            except ValueError:
                settings[name] = text
        setattr(namespace, self.dest, settings)
