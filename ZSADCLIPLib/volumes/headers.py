"""NRRD and MetaImage headers, checked before a library that crashes on damaged ones gets to see them.

Only fields that the formats define, in the form they define, with short lines, a data file beside the header, and no more
voxels than the data can hold. NRRD: teem.sourceforge.net/nrrd/format.html; MetaImage: itk.org/Wiki/MetaIO.
"""

from __future__ import annotations

import re
from math import prod
from pathlib import Path

from ..errors import InputError
from ..files.names import split_suffix
from .streams import GZIP_RATIO, unpacked

LONGEST_HEADER = 1 << 20  # bytes
UNCHECKED_BYTES = 1 << 30  # a larger claim of compressed data is checked by unpacking them into nothing
LONGEST_FIELD = 400  # characters; longer ones overflow buffers of the reader
LONGEST_NAME = 255  # bytes, of file systems
LONGEST_NOTE = 1 << 16  # key/value pairs, which segmentations fill with long lists
LARGEST_AXIS = 1 << 31
NUMBER = r"[-+]?(?:\d{1,30}(?:\.\d{0,30})?|\.\d{1,30})(?:[eE][-+]?\d{1,3})?"
NUMBERS = rf"(?:{NUMBER}|nan)(?:\s+(?:{NUMBER}|nan))*"
VECTORS = rf"(?:none|\(\s*{NUMBER}(?:\s*,\s*{NUMBER})*\s*\))"
COUNTS = r"\d{1,10}(?:\s+\d{1,10})*"
WORD = r"[A-Za-z0-9?-]{1,40}"  # words must be apart: a pattern that could split one in many ways would try them all
TEXT = r"[^\x00-\x08\x0e-\x1f]*"
INTEGERS = {8: "signed char|int8|int8_t|uchar|unsigned char|uint8|uint8_t", 16: "short|short int|signed short"}
INTEGERS[8] += "|char|uint8_t"
INTEGERS[16] += "|signed short int|int16|int16_t|ushort|unsigned short|unsigned short int|uint16|uint16_t"
INTEGERS[32] = "int|signed int|int32|int32_t|uint|unsigned int|uint32|uint32_t|float"
INTEGERS[64] = "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t|ulonglong"
INTEGERS[64] += "|unsigned long long|unsigned long long int|uint64|uint64_t|double"
META_BYTES = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 4, "LONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}
TEXTS = ("txt", "text", "ascii", "hex")
NRRD = {
    "type": "|".join(INTEGERS.values()),
    "dimension": r"\d",
    "sizes": COUNTS,
    "space": r"[A-Za-z0-9-]{1,40}",
    "space dimension": r"\d",
    "space directions": rf"{VECTORS}(?:\s+{VECTORS})*",
    "space origin": VECTORS,
    "measurement frame": rf"{VECTORS}(?:\s+{VECTORS})*",
    "encoding": "raw|gzip|gz|txt|text|ascii|hex",
    "endian": "little|big",
    **dict.fromkeys(("spacings", "thicknesses", "axis mins", "axismins", "axis maxs", "axismaxs"), NUMBERS),
    **dict.fromkeys(("min", "max", "old min", "oldmin", "old max", "oldmax"), NUMBERS),
    **dict.fromkeys(("line skip", "lineskip", "byte skip", "byteskip"), r"-?\d{1,9}"),
    **dict.fromkeys(("kinds", "centers", "centerings"), rf"(?:{WORD}(?:\s+{WORD})*)?"),
    **dict.fromkeys(("labels", "units", "space units", "sample units", "content", "number"), TEXT),
    **dict.fromkeys(("data file", "datafile"), TEXT),
}
META = {
    "objecttype": "Image",
    "ndims": r"\d",
    "dimsize": COUNTS,
    "elementtype": r"MET_(?:U?CHAR|U?SHORT|U?INT|U?LONG|U?LONG_LONG|FLOAT|DOUBLE)",
    "elementnumberofchannels": r"\d{1,4}",
    "headersize": r"-?\d{1,9}",
    "compresseddatasize": r"\d{1,15}",
    "compressionlevel": r"\d{1,2}",
    **dict.fromkeys(
        ("binarydata", "binarydatabyteordermsb", "elementbyteordermsb", "compresseddata"), "(?i:true|false)"
    ),
    **dict.fromkeys(("offset", "position", "origin", "centerofrotation", "elementspacing", "elementsize"), NUMBERS),
    **dict.fromkeys(("transformmatrix", "orientation", "rotation", "color"), NUMBERS),
    **dict.fromkeys(("elementmin", "elementmax", "elementtointensityfunctionslope"), NUMBERS),
    **dict.fromkeys(("elementtointensityfunctionoffset", "id", "parentid", "modality"), TEXT),
    **dict.fromkeys(("anatomicalorientation", "distanceunits"), r"[A-Za-z?]{1,40}"),
    **dict.fromkeys(("comment", "name", "elementdatafile", "acquisitiondate"), TEXT),
}


def check_header(path: Path) -> None:
    """Raise InputError unless the header of an NRRD or MetaImage file is well formed and its data can be there."""
    try:
        fields, length = _header(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    is_nrrd = "sizes" in fields
    shape = [int(n) for n in fields["sizes" if is_nrrd else "dimsize"].split()]
    axes = int(fields["dimension" if is_nrrd else "ndims"])
    if len(shape) != axes or not 1 <= axes <= 4 or not all(0 < n < LARGEST_AXIS for n in shape):
        raise InputError(
            f"{path} claims {axes} axes of sizes {shape}; expected as many sizes as axes, at most 4, all positive"
        )
    name, source = _data_name(fields), path
    if name:
        source, length = _beside(path, name), 0
    elif (not is_nrrd and not fields["elementdatafile"]) or split_suffix(path)[1] == ".nhdr":
        raise InputError(f"{path} does not say where its data are; save it again")
    claimed = prod(shape) * _voxel_bytes(fields)
    stored_bytes = source.stat().st_size - length
    packed = int(fields.get("compresseddatasize", stored_bytes))
    room = stored_bytes
    if fields.get("encoding") in ("gzip", "gz") or fields.get("compresseddata", "").lower() == "true":
        room = stored_bytes * GZIP_RATIO
        if UNCHECKED_BYTES < claimed <= room:
            room = unpacked(source, claimed, length)[0]
    elif fields.get("encoding") in TEXTS:  # a digit and a blank a voxel, or two digits a byte
        room = stored_bytes * (claimed // prod(shape)) if fields["encoding"] != "hex" else stored_bytes
    if claimed > room or packed > stored_bytes:
        raise InputError(
            f"{path} is truncated or damaged: its header claims {prod(shape)} voxels of {claimed // prod(shape)} bytes and the "
            f"data of {stored_bytes} bytes cannot hold them; copy it again"
        )


def _voxel_bytes(fields: dict[str, str]) -> int:
    """Bytes of a voxel by the type of an NRRD or MetaImage header."""
    if "type" in fields:
        return next(bits for bits, names in INTEGERS.items() if fields["type"] in names.split("|")) // 8
    kind = fields["elementtype"].removeprefix("MET_").removeprefix("U")
    return META_BYTES[kind] * int(fields.get("elementnumberofchannels", 1))


def header_and_data(path: Path) -> list[Path]:
    """An NRRD or MetaImage file, and the data file that its header names; only the first if that is not there."""
    try:
        name = _data_name(_header(path)[0])
        return [path, _beside(path, name)] if name else [path]
    except (OSError, InputError):
        return [path]


def _header(path: Path) -> tuple[dict[str, str], int]:
    """Fields and the length of the header of a file; raises OSError where it cannot be read."""
    with open(path, "rb") as file:
        start = file.read(LONGEST_HEADER)
    return _nrrd(path, start) if split_suffix(path)[1] in (".nrrd", ".nhdr") else _meta(path, start)


def _data_name(fields: dict[str, str]) -> str:
    """The name of the data file beside the header, empty when the data follow in the same file."""
    name = fields.get("data file", fields.get("datafile", fields.get("elementdatafile", "")))
    return "" if name.upper() == "LOCAL" else name


def _nrrd(path: Path, start: bytes) -> tuple[dict[str, str], int]:
    """Fields and the length of the header."""
    ends = [at + len(mark) for mark in (b"\n\n", b"\r\n\r\n") if (at := start.find(mark)) >= 0]
    length = min(ends, default=len(start))
    lines = start[:length].decode("latin-1").splitlines()
    if not lines or not re.fullmatch(r"NRRD000[1-5]", lines[0]):
        raise InputError(f"{path} does not begin as an NRRD file; check that it is complete")
    fields: dict[str, str] = {}
    for line in lines[1:]:
        if not line or line.startswith("#"):
            _short(path, line, LONGEST_FIELD)
        elif ":=" in line:
            _short(path, line, LONGEST_NOTE)
        else:
            _add(path, fields, line, ": ", NRRD)
    return _complete(path, fields, NRRD, ("type", "dimension", "sizes", "encoding")), length


def _meta(path: Path, start: bytes) -> tuple[dict[str, str], int]:
    """Fields and the length of the header, which ends with the line ElementDataFile."""
    fields: dict[str, str] = {}
    at = 0
    while "elementdatafile" not in fields and at < len(start):
        end = start.find(b"\n", at, at + LONGEST_FIELD + 2)
        end = len(start) if end < 0 else end
        line = start[at : min(end, at + LONGEST_FIELD + 2)].decode("latin-1").rstrip("\r")
        at = end + 1
        if line.strip():
            _add(path, fields, line, "=", META)
    return _complete(path, fields, META, ("ndims", "dimsize", "elementtype", "elementdatafile")), at


# Messages tell places and known names, never what a header holds: that may name a patient.
def _add(path: Path, fields: dict[str, str], line: str, separator: str, patterns: dict[str, str]) -> None:
    _short(path, line, LONGEST_FIELD)
    name, divider, value = line.partition(separator)
    name, value = name.strip().lower(), value.strip()
    extra = patterns is META and re.fullmatch(r"[^\x00-\x1f=]{1,80}", name)  # MetaImage lets programs add their own
    if not divider or (name not in patterns and not extra) or name in fields:
        raise InputError(
            f"{path} has an unknown or doubled header line behind its first {len(fields)} fields; save it again with another "
            "program"
        )
    if not re.fullmatch(patterns.get(name, TEXT), value):
        what = name if name in patterns else f"field {len(fields) + 1}"
        raise InputError(f"{path} has a value of {what} that is not allowed there; save it again")
    fields[name] = value


def _short(path: Path, line: str, longest: int) -> None:
    if len(line) > longest or "\0" in line:
        raise InputError(f"{path} has a header line of {len(line)} characters, or a zero in it; the file is damaged")


def _complete(path: Path, fields: dict[str, str], patterns: dict[str, str], needed: tuple[str, ...]) -> dict[str, str]:
    """The fields of the format itself: those that programs added could otherwise pass for fields of the other format."""
    missing = [name for name in needed if name not in fields]
    if missing:
        raise InputError(f"the header of {path} lacks {', '.join(missing)}; check that the file is complete")
    return {name: value for name, value in fields.items() if name in patterns}


def _beside(path: Path, name: str) -> Path:
    """The one data file; a list or pattern of files, or a name that leads elsewhere, is refused."""
    data = path.parent / name
    if (
        len(name.encode()) > LONGEST_NAME
        or Path(name).name != name
        or "%" in name
        or name.upper().startswith("LIST")
        or "\\" in name
    ):
        raise InputError(f"{path} does not name one data file in the same folder; save it again as a single file")
    if not data.is_file():
        raise InputError(f"the data file that {path} names is not in its folder; copy both files")
    return data
