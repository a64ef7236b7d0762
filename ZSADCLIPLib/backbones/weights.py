"""Weight files: where they are, whether they are whole, how they are read without running foreign code."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..errors import WeightsError
from ..files.atomic import atomic_path
from ..files.packaged import DATA
from ..progress import Progress, silent, sub_progress
from .download import fetch, partial_of, sha256_of
from .registry import BACKBONES, BackboneInfo


def cache_dir() -> Path:
    """The folder for downloaded weights: ZSADCLIP_CACHE, or ~/.cache/zsadclip."""
    return Path(os.environ.get("ZSADCLIP_CACHE") or Path.home() / ".cache" / "zsadclip")


def find_file(name: str, filename: str, folders: list[Path]) -> Path | None:
    """The first existing FOLDER/NAME/filename or FOLDER/filename."""
    candidates = [base / part for base in folders for part in (Path(name) / filename, Path(filename))]
    return next((path for path in candidates if path.is_file()), None)


def locate(name: str, weights_dir: str | Path | None = None) -> dict[str, Path]:
    """The files of a named backbone, by file name.

    Looks into `weights_dir` (a hospital's own folder), then the cache. Raises WeightsError that lists each missing file,
    its checksum and where to put it.
    """
    info = BACKBONES[name]
    folders = ([Path(weights_dir)] if weights_dir else []) + [cache_dir()]
    paths = {filename: find_file(name, filename, folders) for filename in info.files}
    missing = [filename for filename, path in paths.items() if path is None]
    if missing:
        lines = "\n".join(f"  {f}  sha256 {info.files[f][1] or 'not pinned'}  {info.files[f][0]}" for f in missing)
        raise WeightsError(
            f"weights of {name} are missing. Run 'zsadclip models get {name}', or put these files into "
            f"{folders[0] / name}:\n{lines}"
        )
    return paths


def status(weights_dir: str | Path | None = None) -> list[dict]:
    """One row a backbone for `zsadclip models`: name, label, state (embedded, installed, missing), path, size, licence.

    An embedded one whose file this installation leaves out has no row.
    """
    rows = []
    for name, info in BACKBONES.items():
        state, where = "embedded", ""
        if info.embedded and not (DATA / f"{name}.safetensors").is_file():
            continue
        if not info.embedded:
            try:
                state, where = "installed", str(next(iter(locate(name, weights_dir).values())).parent)
            except WeightsError:
                state = "missing"
        rows.append(
            {"name": name, "label": info.label, "state": state, "where": where}
            | {"size_bytes": info.size_bytes, "licence": info.licence, "source": info.source}
        )
    return rows


def download(name: str, target: str | Path | None = None, progress: Progress = silent) -> list[Path]:
    """Fetch all files of a named backbone into TARGET/NAME (default: the cache), verified before they get their name.

    Only https; an interrupted download goes on where it stopped; proxies come from the environment. Raises WeightsError
    when offline (HF_HUB_OFFLINE=1 or no route) or when a checksum differs.
    """
    info = _downloadable(name)
    folder = Path(target or cache_dir()) / name
    paths = []
    for i, (filename, (url, sha)) in enumerate(info.files.items()):
        path = folder / filename
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            share = len(info.files)
            fetch(url, sha, path, sub_progress(progress, i / share, (i + 1) / share))
        paths.append(path)
    progress(1.0, f"{name} is installed")
    return paths


def adopt(
    name: str, sources: Sequence[str | Path], target: str | Path | None = None, progress: Progress = silent
) -> None:
    """Copy local files of a named backbone into TARGET/NAME (default: the cache), each checked before it is there.

    A file is known by its name; a model of a single file with a pinned checksum takes it under any name. Raises
    WeightsError naming the files that are lacking or differ.
    """
    files = _downloadable(name).files
    named = {Path(path).name: Path(path) for path in sources}
    if len(files) == len(named) == 1 and next(iter(files.values()))[1]:
        named = dict(zip(files, named.values(), strict=True))
    lacking = [filename for filename in files if filename not in named]
    if lacking:
        raise WeightsError(f"{name} also needs {', '.join(lacking)}; choose all of its files at once")
    folder = Path(target or cache_dir()) / name
    for i, (filename, (_url, sha)) in enumerate(files.items()):
        progress(i / len(files), filename, i, len(files))
        verify(named[filename], sha)
        with atomic_path(folder / filename) as temporary:
            shutil.copyfile(named[filename], temporary)
    progress(1.0, f"{name} is installed")


def downloaded(folder: str | Path | None = None) -> list[Path]:
    """The files that `download` or `adopt` put into a folder (default: the cache), partial ones included."""
    base = Path(folder or cache_dir())
    names = [base / name / filename for name, info in BACKBONES.items() for filename in info.files]
    found = [other for path in names for other in (path, partial_of(path)) if other.is_file()]
    return sorted(set(found))


def remove_downloaded(folder: str | Path | None = None) -> list[Path]:
    """Delete the files of `downloaded`, and their folders where nothing else is in them; returns the files.

    Raises WeightsError naming a file that cannot be deleted.
    """
    files = downloaded(folder)
    for path in files:
        try:
            path.unlink()
        except OSError as error:
            raise WeightsError(f"{path} cannot be deleted: {error.strerror}; is a run using it?") from error
        with suppress(OSError):  # other files are in it
            path.parent.rmdir()
    return files


def _downloadable(name: str) -> BackboneInfo:
    if name not in BACKBONES:
        raise WeightsError(f"no backbone is called {name!r}; known are {', '.join(BACKBONES)}")
    if BACKBONES[name].embedded:
        raise WeightsError(f"{name} is part of the package; nothing has to be downloaded")
    return BACKBONES[name]


def verify(path: Path, sha: str) -> None:
    """Raise WeightsError when a file's SHA-256 does not start with `sha` (empty: nothing is pinned)."""
    if sha and not (actual := sha256_of(path)).startswith(sha):
        raise WeightsError(f"{path} has sha256 {actual}, expected {sha}; delete it and fetch it again")
