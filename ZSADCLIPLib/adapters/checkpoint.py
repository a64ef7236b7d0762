"""Adapter checkpoints: one safetensors file of ours, and the authors' published files.

Ours holds the learned tensors and, as JSON in the header, the method, its config, the backbone it was trained on and its
provenance (data, seeds, threshold). Reading the header needs no torch.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..backbones.registry import BACKBONES, DEFAULT_BACKBONE
from ..errors import UsageError, WeightsError
from ..fields import from_dict
from ..files.packaged import ADAPTERS
from ..files.text import parse_json, within
from . import METHODS

FORMAT = "zsadclip-adapter-1"
MAX_HEADER = 1 << 24


@dataclass(frozen=True)
class CheckpointInfo:
    """What the header of one of our checkpoint files says."""

    path: Path
    method: str
    config: dict
    backbone: dict
    provenance: dict

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def threshold(self) -> float | None:
        """The raw map value that was best on training data, if it was determined."""
        return self.provenance.get("threshold")


def read_info(path: str | Path) -> CheckpointInfo | None:
    """The header of a checkpoint of ours, None for other files; raises WeightsError for a damaged one."""
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"the checkpoint {path} does not exist")
    if path.suffix != ".safetensors":
        return None
    try:
        with open(path, "rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if not 0 < length < MAX_HEADER:
                raise ValueError(f"a header of {length} bytes")
            meta = parse_json(stream.read(length)).get("__metadata__", {})
        if meta.get("format") != FORMAT:
            return None
        fields = {key: parse_json(meta[key]) for key in ("config", "backbone", "provenance")}
        if meta["method"] not in METHODS:
            raise ValueError(f"unknown method {meta['method']!r}")
        if not all(isinstance(value, dict) for value in fields.values()) or not within(fields["config"]):
            raise ValueError("its settings are not those of an adapter")
        return CheckpointInfo(path, meta["method"], **fields)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise WeightsError(f"{path} is not a readable checkpoint: {error}; get the file again") from error


def list_adapters(folder: str | Path | None = None) -> list[CheckpointInfo]:
    """The checkpoints that come with the package and those in `folder`, by name; unreadable files are left out."""
    adapters = []
    for base in filter(None, (ADAPTERS, Path(folder) if folder else None)):
        for path in sorted(base.glob("*.safetensors")):
            try:
                info = read_info(path)
            except WeightsError:
                continue
            if info is not None:
                adapters.append(info)
    return adapters


def find_checkpoint(method: str, backbone: str) -> Path | None:
    """The embedded adapter of a method for a backbone; None without one."""
    path = ADAPTERS / f"{method}-{backbone}-brain.safetensors"
    return path if path.is_file() else None


def backbone_for(method: str, source: str | None = None) -> str:
    """The backbone to take where none is named: that of an adapter file of ours, else the first embedded one that has an adapter.

    Methods that need no adapter get `DEFAULT_BACKBONE`.
    """
    info = read_info(source) if source and source.partition(":")[0] not in METHODS else None
    if info is not None and info.backbone.get("name") in BACKBONES:
        return info.backbone["name"]
    embedded = [name for name, each in BACKBONES.items() if each.embedded]
    return next((name for name in embedded if find_checkpoint(method, name)), DEFAULT_BACKBONE)


def save_adapter(path: str | Path, adapter, backbone, provenance: Mapping | None = None, half: bool = False) -> None:
    """Write an adapter (complete or not at all) with what is needed to load it again; `half` stores float16."""
    from safetensors.torch import save

    from ..files.atomic import atomic_path

    description = adapter.describe()
    meta = {
        "format": FORMAT,
        "method": adapter.method,
        "config": json.dumps(description["config"]),
        "backbone": json.dumps(backbone.describe()),
        "provenance": json.dumps(dict(provenance or {}), sort_keys=True),
    }
    state = adapter.state_dict().items()
    tensors = {k: (v.half() if half else v.float()).detach().cpu().contiguous() for k, v in state}
    with atomic_path(path) as temporary:
        temporary.write_bytes(_ordered(save(tensors, metadata=meta)))


def _ordered(data: bytes) -> bytes:
    """The same safetensors file with its header in alphabetical order: the library writes it in a random one."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


def load_adapter(source: str | Path, backbone, overrides: Mapping | None = None, allow_mismatch: bool = False):
    """An adapter ready for `backbone`.

    source          a method name (its embedded adapter for this backbone, or AnoVL, which needs none), "METHOD:random" or
                    "METHOD:random:SEED" (untrained), one of our checkpoints, or a file published by the authors.
    overrides       config fields that are not learned, such as object_name, prompts or upsample.
    allow_mismatch  accept other backbone weights or another activation than the adapter was trained with.
    Raises WeightsError for files that do not fit, naming the keys, and UsageError for unknown config fields.
    """
    overrides = dict(overrides or {})
    method, _, how = str(source).partition(":")
    if method in METHODS:
        return _by_method(method, how, backbone, overrides, allow_mismatch)
    info = read_info(source)
    if info is None:
        return _published(Path(source), backbone, overrides)
    _check_backbone(info, backbone, allow_mismatch)
    from ..backbones.states import read_state

    return _build(info.method, info.config, overrides, backbone, read_state(source), str(source), info.provenance)


def _by_method(method: str, how: str, backbone, overrides: dict, allow_mismatch: bool):
    if METHODS[method].trainable and not how:
        path = find_checkpoint(method, backbone.name)
        if path is None:
            theirs = " or the authors'" if METHODS[method].load().published_key else ", made by zsadclip train"
            raise WeightsError(
                f"{METHODS[method].label} needs trained weights for the backbone {backbone.name}, and none come with the "
                f"package; give --checkpoint FILE (yours{theirs}), or --checkpoint {method}:random to try it untrained"
            )
        return load_adapter(path, backbone, overrides, allow_mismatch)
    kind, _, seed = how.partition(":")
    if kind not in ("", "random") or (seed and not seed.isdigit()):
        raise UsageError(f"{method}:{how} is unknown; expected {method}:random or {method}:random:SEED")
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed or 0))
        provenance = {"trained": False, "seed": int(seed or 0)} if kind else {}
        return _build(method, {}, overrides, backbone, None, method, provenance)


def _build(method: str, stored: dict, overrides: dict, backbone, state: Mapping | None, what: str, provenance: Mapping):
    from ..backbones.states import UNBUILDABLE, load_strictly

    kind, label = METHODS[method].load(), METHODS[method].label
    try:
        config = from_dict(kind.Config, stored, "its settings:")
    except UsageError as error:
        raise WeightsError(f"{what} is no {label} adapter: {error}") from error
    config = from_dict(kind.Config, overrides, f"{label}:", config)
    try:
        adapter = kind(config, backbone)
    except UNBUILDABLE as error:
        raise WeightsError(f"the settings of {what} do not make a {label} adapter: {error}") from error
    if state is not None:
        load_strictly(adapter, state, f"the {label} tensors of {what}")
    adapter.provenance |= provenance
    return adapter.to(backbone.device).eval()


def _check_backbone(info: CheckpointInfo, backbone, allow_mismatch: bool) -> None:
    wanted, here = info.backbone, backbone.describe()
    differences = [
        f"{key} {here[key]!r} instead of {wanted[key]!r}"
        for key in ("activation", "fingerprint")
        if key in wanted and wanted[key] != here[key]
    ]
    if differences and not allow_mismatch:
        raise WeightsError(
            f"{info.path.name} was trained on {wanted.get('name')}, but this backbone ({backbone.name}) has "
            f"{' and '.join(differences)}; load the right one, or allow the mismatch knowingly"
        )


def _published(path: Path, backbone, overrides: dict):
    """An adapter from a file that the authors of a method published; each method knows its own."""
    from ..backbones.states import read_state

    state = read_state(path)
    for method, info in METHODS.items():
        with _as_weights_error(path):
            published = info.load().from_published(state, path.name)
        if published is not None:
            config, tensors = published
            adapter = _build(method, config, overrides, backbone, tensors, path.name, {"file": path.name})
            with _as_weights_error(path):
                adapter.check_published(backbone, state, path.name)
            return adapter
    layouts = [f"{info.load().published_key} ({info.name})" for info in METHODS.values() if info.load().published_key]
    keys = ", ".join(list(map(str, state))[:6])
    raise WeightsError(
        f"{path} is no adapter: expected one of our .safetensors, or the authors' {' or '.join(layouts)}; its keys begin "
        f"with {keys or 'nothing'}"
    )


@contextmanager
def _as_weights_error(path: Path) -> Iterator[None]:
    """What comes of a file with the authors' names and other things behind them."""
    from ..backbones.states import UNBUILDABLE

    try:
        yield
    except UNBUILDABLE as error:
        raise WeightsError(f"{path} is no readable adapter: {error}; get the file again") from error
