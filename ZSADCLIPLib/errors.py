"""The errors a user may see: each message names the value, what was expected and what to do."""

import os
import traceback
from collections.abc import Sequence


class ZSADCLIPError(Exception):
    """Base of every error the engine raises on purpose."""


class InputError(ZSADCLIPError):
    """A volume, mask, table or folder given as data cannot be used."""


class UsageError(ZSADCLIPError):
    """An option or argument has a value that is not allowed."""


class WeightsError(ZSADCLIPError):
    """A model, checkpoint or weight file is missing, damaged or does not fit."""


class DependencyError(ZSADCLIPError):
    """An optional package is needed; the message names the extra that brings it."""


class OutputError(ZSADCLIPError):
    """Results cannot be written: the disk is full, the folder is read-only or gone, or another run is at work there."""


class ServerError(ZSADCLIPError):
    """A server (`zsadclip serve`) cannot be reached, is not the expected one, or refuses."""


def describe(error: Exception) -> str:
    """An error's kind and message for the row that failed; with ZSADCLIP_TRACEBACK=1 the log gets where it came from."""
    if os.environ.get("ZSADCLIP_TRACEBACK") == "1":
        traceback.print_exception(error)
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first names for a message, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def number_of(count: int, what: str) -> str:
    """How many of something whose plural ends with s, such as "1 case" and "2 cases"."""
    return f"{count} {what}{'' if count == 1 else 's'}"
