"""A run on another computer: the same child process, which asks `zsadclip serve` there instead of loading a model.

The child needs nothing but Python's standard library, and the rest of a run does not know the difference.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path

from slicer.i18n import tr as _

from ZSADCLIPLib.errors import InputError
from ZSADCLIPLib.fields import from_dict
from ZSADCLIPLib.files.packaged import PROMPTS
from ZSADCLIPLib.neighbours import BANK
from ZSADCLIPLib.remote.client import Server, parse_address, parse_fingerprint
from ZSADCLIPLib.remote.settings import RemoteSettings
from ZSADCLIPLib.remote.tokens import read_tokens

from .settings import RunSettings

SECONDS = 4.0  # for a server to answer while the user waits
IGNORED = ("weights_dir",)  # where models of this computer are


@dataclass(frozen=True)
class Remote:
    """A server: its address, the file with this client's token, and the SHA-256 of its certificate."""

    address: str
    tokenFile: str
    fingerprint: str = ""

    def check(self) -> None:
        """Raise a ZSADCLIPError unless this can be the address of a server."""
        if not self.address:
            raise InputError(_("Give the address of the server under Advanced, as zsadclip serve prints it."))
        if not self.tokenFile:
            raise InputError(_("Choose the token file of the server under Advanced."))
        parse_address(self.address)
        parse_fingerprint(self.fingerprint)

    def job(self, settings: RunSettings, image: Path, brain: Path | None, output: Path) -> dict:
        """The engine's job; raises a ZSADCLIPError for settings that the server cannot follow, or without a token."""
        self.check()
        read_tokens(self.tokenFile)
        return {
            "job": "remote",
            "address": self.address,
            "token_file": self.tokenFile,
            "fingerprint": self.fingerprint,
            "image": str(image),
            "brain_mask": str(brain) if brain else None,
            "output": str(output),
            "settings": asdict(remoteSettings(settings)),
        }

    def ask(self) -> dict:
        """What the server is and offers; waits for its answer some seconds and raises a ZSADCLIPError without one."""
        self.check()
        token, pin = read_tokens(self.tokenFile)[0], parse_fingerprint(self.fingerprint)
        with Server(parse_address(self.address), token, pin, SECONDS) as server:
            told = server.health()
        if "models" not in told:
            raise InputError(_("The server does not know this token: choose its token file."))
        return told


def remoteSettings(settings: RunSettings) -> RemoteSettings:
    """The settings as a server takes them; raises a ZSADCLIPError naming what only this computer has."""
    if settings.method == BANK:
        raise InputError(
            _("A healthy bank is a file of this computer: choose another method, or this computer as engine.")
        )
    values, known = asdict(settings), {each.name for each in fields(RemoteSettings)}
    if values["prompts"] and Path(values["prompts"]).parent == PROMPTS:
        values["prompts"] = Path(values["prompts"]).stem
    for each in fields(settings):
        if each.name not in known and each.name not in IGNORED and values[each.name] != each.default:
            raise InputError(_("{name} is {value}, which only this computer can use: leave it as it was, or choose this "
                               "computer as engine.").format(name=each.name, value=values[each.name]))  # fmt: skip
    return from_dict(RemoteSettings, {name: values[name] for name in known})
