"""The certificate of a server: given, or made once and known by its fingerprint."""

from __future__ import annotations

import hashlib
import os
import shutil
import ssl
import subprocess
from pathlib import Path

from ..errors import DependencyError, InputError, OutputError
from .config import ServeSettings

CERT, KEY = "cert.pem", "key.pem"
DAYS = 3650


def certificate(settings: ServeSettings) -> tuple[Path, Path]:
    """The files of certificate and key, made in the server's folder where none are given.

    Raises DependencyError where there is no program to make one, and OutputError where it fails.
    """
    if settings.cert:
        return Path(settings.cert).expanduser(), Path(settings.key).expanduser()
    cert, key = settings.root / CERT, settings.root / KEY
    if not (cert.is_file() and key.is_file()):
        _make(cert, key)
    return cert, key


def context_of(cert: Path, key: Path) -> tuple[ssl.SSLContext, str]:
    """The TLS of a server, and the SHA-256 of its certificate in hex; raises InputError for files that will not do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key, password=lambda: "")  # one that is encrypted must not ask at a terminal
        first = cert.read_text(encoding="ascii").partition("-----END CERTIFICATE-----")
        digest = hashlib.sha256(
            ssl.PEM_cert_to_DER_cert(first[0][first[0].index("-----BEGIN") :] + first[1])
        ).hexdigest()
    except (OSError, ValueError) as error:
        raise InputError(
            f"the certificate {cert} with the key {key} cannot be used: {getattr(error, 'strerror', None) or error}; expected "
            "two PEM files that belong together, the key without a password"
        ) from error
    return context, digest


def _make(cert: Path, key: Path) -> None:
    program = shutil.which("openssl")
    if program is None:
        raise DependencyError(
            "a certificate is made with the program openssl, which is not installed; give --cert and --key"
        )
    drafts = [path.with_name(f".{path.name}.{os.getpid()}") for path in (key, cert)]
    subject = ["-subj", "/CN=zsadclip serve", "-addext", "basicConstraints=critical,CA:FALSE", "-days", str(DAYS)]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command = [program, "req", "-x509", *curve, *subject, "-keyout", str(drafts[0]), "-out", str(drafts[1])]
    try:
        os.close(os.open(drafts[0], os.O_WRONLY | os.O_CREAT, 0o600))  # before openssl writes into it
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["no word"])[-1]
            raise OutputError(f"openssl could not make a certificate: {said}; give --cert and --key")
        for draft, path in zip(drafts, (key, cert), strict=True):
            os.replace(draft, path)
    except (OSError, subprocess.SubprocessError) as error:
        raise OutputError(f"cannot make a certificate in {cert.parent}: {error}; give --cert and --key") from error
    finally:
        for draft in drafts:
            draft.unlink(missing_ok=True)
