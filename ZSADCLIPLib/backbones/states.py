"""State dictionaries: read without running foreign code, cleaned of wrappers, loaded strictly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from ..errors import WeightsError

# What torch and the model libraries raise when a config has values that make no model.
UNBUILDABLE = (
    TypeError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    RuntimeError,
    ArithmeticError,
    AssertionError,
)


def clean_state(state: Mapping) -> dict:
    """A plain {name: tensor} from the layouts in circulation: wrapped in state_dict, prefixed with module."""
    state = state.get("state_dict", state)
    state = {k.removeprefix("module."): v for k, v in state.items()}
    for extra in ("input_resolution", "context_length", "vocab_size", "attn_mask", "vocab"):
        state.pop(extra, None)
    return state


def load_strictly(
    model: nn.Module,
    state: Mapping,
    what: str,
    ignore: tuple[str, ...] = (),
    assign: bool = False,
    copy: bool = False,
) -> None:
    """Copy `state` into `model` as float32; raises WeightsError naming missing, unknown and misshapen keys.

    `assign` takes the tensors themselves (memory-mapped ones stay so), unless `copy`.
    """
    own = model.state_dict()
    if not isinstance(state, Mapping):
        raise WeightsError(f"{what} are {type(state).__name__}, expected names and tensors")
    strange = [repr(k)[:40] for k, v in state.items() if not isinstance(k, str) or not hasattr(v, "shape")]
    if strange:
        raise WeightsError(f"{what} hold other things than named tensors: {', '.join(strange[:6])}")
    state = {k: v for k, v in state.items() if not k.startswith(ignore)} if ignore else dict(state)
    missing = sorted(k for k in set(own) - set(state) if not k.endswith("num_batches_tracked"))
    unknown = sorted(set(state) - set(own))
    shapes = [
        f"{k} is {tuple(state[k].shape)}, expected {tuple(own[k].shape)}"
        for k in own
        if k in state and tuple(state[k].shape) != tuple(own[k].shape)
    ]
    problems = [
        f"{title}: {', '.join(keys[:6])}{f' and {len(keys) - 6} more' if len(keys) > 6 else ''}"
        for title, keys in (("missing", missing), ("unknown", unknown), ("other shapes", shapes))
        if keys
    ]
    if problems:
        raise WeightsError(f"{what} do not fit this model. {'; '.join(problems)}")
    # Batch counters are bookkeeping that some files leave out; nothing else may be missing.
    tensors = {k: torch.as_tensor(v) for k, v in state.items()}
    if assign:
        tensors = {k: v.to(torch.float32, copy=copy) for k, v in tensors.items()}
    model.load_state_dict({**own, **tensors}, assign=assign)


def read_state(path: str | Path, trusted_archive: bool = False, single: bool = False):
    """The tensors of a .safetensors or torch file, nested dictionaries included; with `single` also a file of one tensor.

    Torch files are read with weights_only=True, so code inside them is never run. TorchScript archives (OpenAI's files)
    are opened only when `trusted_archive` says that their checksum was verified. Raises WeightsError otherwise.
    """
    import torch

    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"the weight file {path} does not exist")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        if trusted_archive:
            try:
                return torch.jit.load(path, map_location="cpu").state_dict()
            except RuntimeError:
                pass
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        if "weights_only" in str(error) or "Unsupported" in reason or "WeightsUnpickler" in str(error):
            reason = "it holds objects other than tensors, which are never executed here"
        raise WeightsError(f"{path} cannot be read as weights: {reason}") from error
    if single and isinstance(state, torch.Tensor):
        return state
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise WeightsError(
            f"{path} cannot be read as weights: it holds {type(state).__name__}, expected names and tensors"
        )
    return state


def _is_zip(path: Path) -> bool:
    with open(path, "rb") as stream:
        return stream.read(2) == b"PK"
