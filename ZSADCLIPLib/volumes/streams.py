"""Compressed data, unpacked into nothing: how much they hold, and whether they are whole."""

from __future__ import annotations

import zlib
from pathlib import Path

GZIP_RATIO = 1032  # deflate cannot compress further (zlib, "Maximum Compression Factor")
CHUNK = 2**12  # bytes at once, of which at most 4 MB can come


def unpacked(path: Path, most: int, offset: int = 0) -> tuple[int, str]:
    """Bytes in zlib's or gzip's frames from `offset` on, counted until they exceed `most`, and what is wrong, "" if nothing.

    Streams are read to their checksums. What stands behind a whole stream and is none itself does not count.
    """
    length, engine = 0, zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            while length <= most:
                chunk = engine.unused_data or file.read(CHUNK)
                if engine.eof:
                    chunk += file.read(2) if len(chunk) == 1 else b""
                    if not chunk.startswith(b"\x1f\x8b"):
                        return length, ""
                    engine = zlib.decompressobj(zlib.MAX_WBITS | 32)
                if not chunk:
                    return length, "it ends before its checksum"
                length += len(engine.decompress(chunk))
    except (OSError, zlib.error) as error:
        return length, str(error)
    return length, f"it holds more than {most} bytes"
