#!/usr/bin/env python3
"""Pictures with a palette of 256 colours, which need a third: scripts/make/small_png.py FILE..., in place."""

import argparse
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from ZSADCLIPLib.files.atomic import atomic_path  # noqa: E402

COLOURS = 256


def shrink(path: Path) -> None:
    """Give an opaque PNG a palette; raises OSError for a file that is no picture."""
    with Image.open(path) as picture:
        if picture.mode == "P":
            return
        # An octree keeps thin coloured outlines, which the median cut gives to the greys around them.
        small = picture.convert("RGB").quantize(COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    before = path.stat().st_size
    with atomic_path(path) as temporary:
        small.save(temporary, "PNG", optimize=True)
    print(f"{path.name}: {before // 1000} -> {path.stat().st_size // 1000} kB")


def main() -> None:
    """Shrink the named files."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    for path in parser.parse_args().files:
        shrink(path)


if __name__ == "__main__":
    main()
