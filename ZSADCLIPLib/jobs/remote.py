"""A detection that a server does: one volume sent, the same events, the same result files."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar

from ..errors import InputError
from ..fields import check
from ..progress import Progress, Report, quiet, silent, sub_progress
from ..remote.bare import LENGTH, bare_header
from ..remote.client import Server, pack, parse_address, parse_fingerprint
from ..remote.settings import RemoteSettings
from ..remote.tokens import read_tokens

MOST = 16  # result bytes for each that was sent
SPARE = 64 << 20


@dataclass(frozen=True)
class RemoteDetect:
    """Score one volume on a server (`zsadclip serve`).

    address, token_file, fingerprint   of the server; without a fingerprint its certificate must be known here.
    image, brain_mask   uncompressed NIfTI-1 files. Voxels and geometry are sent, and nothing else of them.
    output        gets the server's files: input_anomaly.nii, input_mask.nii, input.json, summary.csv.
    settings      what the server is to do.
    """

    address: str
    token_file: str
    image: str
    output: str
    fingerprint: str = ""
    brain_mask: str | None = None
    settings: RemoteSettings = field(default_factory=RemoteSettings)

    kind: ClassVar[str] = "remote"

    def run(self, progress: Progress = silent, report: Report = quiet) -> dict:
        """Send, follow and fetch; returns {"cases", "failed", "output"}.

        When `progress` raises, the server ends the job. Raises InputError for a volume or token file that cannot be used,
        UsageError for settings, ServerError where the server does not answer or refuses.
        """
        check(self)
        files = {"input": Path(self.image)} | ({"brain": Path(self.brain_mask)} if self.brain_mask else {})
        starts = {name: _start(path) for name, path in files.items()}
        sizes = {name: path.stat().st_size for name, path in files.items()}
        token = read_tokens(self.token_file)[0]
        with Server(parse_address(self.address), token, parse_fingerprint(self.fingerprint)) as server:
            server.health()
            job = server.submit(asdict(self.settings), sizes, progress)
            try:
                with tempfile.TemporaryFile(dir=Path(self.image).parent) as packed:
                    pairs = [(starts[name], path) for name, path in files.items()]
                    size = pack(pairs, packed, sub_progress(progress, 0.0, 0.02))
                    server.upload(job, packed, size, sub_progress(progress, 0.02, 0.05))
                result = server.follow(job, sub_progress(progress, 0.05, 0.95), report)
                most = MOST * sum(sizes.values()) + SPARE
                server.fetch(job, result["files"], Path(self.output), most, sub_progress(progress, 0.95, 1.0))
            finally:
                server.forget(job)
        return {"cases": result["cases"], "failed": result["failed"], "output": self.output}


def _start(path: Path) -> bytes:
    """The bare header of a volume."""
    try:
        with open(path, "rb") as file:
            return bare_header(file.read(LENGTH), path.stat().st_size)
    except OSError as error:
        raise InputError(f"the volume {path.name} cannot be read: {error.strerror}") from error
