"""Getting the weights of a named backbone as a job, for a panel that must not wait for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..progress import Progress


@dataclass(frozen=True)
class GetWeights:
    """Downloads the files of a backbone, or takes over local `files`; `folder` empty: the cache.

    Raises WeightsError as `download` and `adopt` do.
    """

    backbone: str
    folder: str = ""
    files: tuple[str, ...] = ()

    def run(self, progress: Progress, report: Callable[[dict], None]) -> dict:
        from ..backbones import weights

        if self.files:
            weights.adopt(self.backbone, self.files, self.folder or None, progress)
        else:
            weights.download(self.backbone, self.folder or None, progress)
        return {"backbone": self.backbone}
