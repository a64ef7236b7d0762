"""Where the package is, and the data that come with it."""

from pathlib import Path

from ..errors import WeightsError

PACKAGE = Path(__file__).resolve().parent.parent
DATA = PACKAGE / "data"
PROMPTS = PACKAGE / "prompts"
ADAPTERS = DATA / "adapters"


def shipped(name: str, folder: Path = DATA) -> Path:
    """The file of that name; raises WeightsError where this installation has none."""
    if not (folder / name).is_file():
        raise WeightsError(
            f"{name} is not in this installation; Slicer's package leaves out what is for the benchmark and for training "
            "alone: run that from a checkout of the project"
        )
    return folder / name
