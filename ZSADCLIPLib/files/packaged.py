"""Where the package is, and the data that come with it."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
DATA = PACKAGE / "data"
PROMPTS = PACKAGE / "prompts"
ADAPTERS = DATA / "adapters"
