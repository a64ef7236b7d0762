"""What an interpreter has installed, found without importing it; run by its path in an interpreter other than Slicer's.

`python healthprobe.py NAME...` prints one JSON object.
"""

import importlib.metadata
import json
import re
import sys


def facts(names):
    """{"python": version, "versions": {name: version}, "cuda": what torch was built for}, "cuda" empty for the CPU only
    and None without torch."""
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"python": sys.version.split()[0], "versions": versions, "cuda": _cuda()}


def _cuda():
    try:
        with open(importlib.metadata.distribution("torch").locate_file("torch/version.py"), encoding="utf-8") as file:
            found = re.search(r"^(?:cuda|hip)\b[^=\n]*=\s*['\"](.+?)['\"]", file.read(), re.MULTILINE)
    except (OSError, importlib.metadata.PackageNotFoundError):
        return None
    return found.group(1) if found else ""


if __name__ == "__main__":
    print(json.dumps(facts(sys.argv[1:])))
