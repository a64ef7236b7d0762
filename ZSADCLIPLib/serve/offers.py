"""What a server has: models, and limits."""

from __future__ import annotations

from .. import __version__
from ..adapters import METHODS
from ..backbones.weights import status
from ..errors import UsageError
from ..remote.settings import RemoteSettings
from .config import ServeSettings


def models(settings: ServeSettings) -> list[str]:
    """The models whose weights are there."""
    return [row["name"] for row in status(settings.weights_dir or None) if row["state"] != "missing"]


def offers(settings: ServeSettings) -> dict:
    """For a client that may ask: version, methods, models, most bytes of a volume."""
    return {
        "version": __version__,
        "methods": list(METHODS),
        "models": models(settings),
        "max_bytes": settings.most_bytes,
        "workers": settings.workers,
        "queue": settings.queue,
    }


def check_offered(wanted: RemoteSettings, settings: ServeSettings) -> None:
    """Raise UsageError for a model that the server has not."""
    if wanted.backbone != "auto" and wanted.backbone not in (there := models(settings)):
        raise UsageError(
            f"the server has no model {wanted.backbone}; choose {', '.join(there)}, or have it installed there"
        )
