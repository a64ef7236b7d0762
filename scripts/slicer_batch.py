"""Volumes through the extension without its window, as files that Slicer opens.

Slicer --no-splash --no-main-window --python-script slicer_batch.py FOLDER -o OUT
"""

import sys
from pathlib import Path

here = Path(__file__).resolve().parent
# Installed it lies beside the module; in the source tree in a folder of its own.
sys.path[:0] = [str(folder) for folder in (here, here.parent, here.parent / "ZSADCLIP") if folder.is_dir()]

import slicer  # noqa: E402
from ZSADCLIPSlicer import batch  # noqa: E402

if __name__ == "__main__":
    slicer.util.exit(batch.main(sys.argv[1:]))  # Slicer would go on with an empty scene
