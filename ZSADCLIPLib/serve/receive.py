"""The body of an upload into the files of a job: bounded at every step, whatever the sender claims."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError
from ..remote.bare import LENGTH, bare_header

BLOCK = 1 << 18
LOST = "the connection ended in the middle of the volume"


def receive(body: BinaryIO, length: int, files: Mapping[Path, int], heard: Callable[[], None]) -> None:
    """Unpack `length` bytes of gzip into files of exactly these sizes, one behind the other.

    `heard()` is called between blocks and may raise. Raises InputError for other sizes, damage, headers that hold more than
    geometry, and an early end; OSError where the disk is full.
    """
    unpacked = _unpacked(body, length, heard)
    rest = b""
    for path, size in files.items():
        left = size
        with open(path, "wb") as file:
            while left:
                block = rest or next(unpacked, b"")
                if not block:
                    raise InputError("the volume is shorter than was said; send it again")
                block, rest = block[:left], block[left:]
                file.write(block)
                left -= len(block)
        _check(path, size)
    if rest or next(unpacked, b""):
        raise InputError("the volume is longer than was said; send it again")


def _unpacked(body: BinaryIO, length: int, heard: Callable[[], None]):
    """The unpacked bytes, in blocks of at most BLOCK."""
    unpacker, left = zlib.decompressobj(wbits=31), length
    try:
        while left and not unpacker.eof:
            heard()
            packed = body.read(min(left, BLOCK))
            if not packed:
                raise InputError(LOST)
            left -= len(packed)
            while packed and not unpacker.eof:
                block, packed = unpacker.decompress(packed, BLOCK), unpacker.unconsumed_tail
                if block:
                    yield block
        while not unpacker.eof and (block := unpacker.decompress(b"", BLOCK)):
            yield block
    except zlib.error as error:
        raise InputError("the volume arrived damaged (gzip); send it again") from error
    if left or unpacker.unused_data or not unpacker.eof:
        raise InputError("the volume arrived damaged (gzip ends elsewhere); send it again")


def _check(path: Path, size: int) -> None:
    with open(path, "rb") as file:
        start = file.read(LENGTH)
    if bare_header(start, size) != start:
        raise InputError("the volume's header holds more than geometry; send voxels and geometry alone, no texts")
