"""Arrays and facts in one safetensors file: complete or absent, the same bytes for the same content, damage noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from ..errors import InputError
from ..files.atomic import atomic_path
from ..files.text import parse_json


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], facts: Mapping) -> None:
    """Write arrays with JSON-able facts and a digest of both."""
    text = json.dumps(dict(facts), sort_keys=True)
    # One entry: the library writes several in a random order.
    meta = {"zsadclip": json.dumps({"facts": text, "seal": _seal(arrays, text)}, sort_keys=True)}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save({name: np.ascontiguousarray(each) for name, each in arrays.items()}, meta))


def read_facts(path: Path) -> dict:
    """The facts of a file, without its arrays; raises InputError when it cannot be read."""
    return _read(path, ())[1]


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict]:
    """Arrays and facts of a file; raises InputError when it cannot be read or is damaged."""
    return _read(path, None)


def read_array(path: Path, name: str) -> np.ndarray:
    """One array of a file that was found whole before; raises InputError when it cannot be read."""
    return _read(path, (name,))[0][name]


def seal_of(path: Path) -> str:
    """The digest of what a file holds, as it was written; raises InputError when it cannot be read."""
    return _meta(path)["seal"]


def is_whole(path: Path, key: str) -> bool:
    """True for a file without damage whose fact "key" is `key`."""
    try:
        return path.is_file() and read_facts(path).get("key") == key and bool(read_arrays(path))
    except InputError:
        return False


def _read(path: Path, names: tuple[str, ...] | None) -> tuple[dict[str, np.ndarray], dict]:
    meta = _meta(path)
    try:
        with safe_open(path, framework="numpy") as stored:
            arrays = {name: stored.get_tensor(name) for name in (stored.keys() if names is None else names)}
        if names is None and meta["seal"] != _seal(arrays, meta["facts"]):
            raise ValueError("its content is not what was written")
        return arrays, dict(parse_json(meta["facts"]))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, error) from error


def _meta(path: Path) -> dict:
    try:
        with safe_open(path, framework="numpy") as stored:
            meta = parse_json((stored.metadata() or {})["zsadclip"])
        return {"facts": str(meta["facts"]), "seal": str(meta["seal"])}
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(f"{path.name} is no file of tokens that can be read ({error}); make it again")


def _seal(arrays: Mapping[str, np.ndarray], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
