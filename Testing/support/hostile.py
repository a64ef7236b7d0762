"""Seeded mutations of every kind of file that the engine reads, and a child process that reads them within limits.

Used by scripts/check/fuzz (thousands of inputs) and test_fuzz.py (some hundreds, and the corpus of files that once failed).
Run as a program it reads paths from standard input, one a line, and writes one JSON object about each.
"""

from __future__ import annotations

import csv
import gzip
import json
import random
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
MEMORY = 1 << 30  # bytes that a reader may add to what its libraries take
SECONDS = 20  # of CPU time for one file, and thirty times as long on a clock
WORDS = (
    "NaN",
    "-1",
    "1e999",
    "9" * 25,
    "9" * 5000,
    "\0",
    "../../x",
    "null",
    "[]",
    "{}",
    "true",
    '"',
    "\\ud800",
    "é" * 9,
)
WORDS += ("[" * 3000, '{"a":' * 3000, "%s", "\r\n", ",,,,", "inf", "0x7f", "1099511627776", "-2147483648", "\ufeff")
NUMBERS = (0, 1, -1, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Some bytes, numbers, words or pieces of `data` changed, lost, doubled or added; at least one change."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at = rng.randrange(len(data) + 1)
        if rng.random() < 0.5:
            at = min(at, rng.randrange(400))  # headers deserve more
        kind = rng.randrange(8)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            width, code = rng.choice(((1, "<B"), (2, "<H"), (4, "<I"), (8, "<Q"), (4, ">I")))
            data[at : at + width] = struct.pack(code, rng.choice(NUMBERS) % (1 << 8 * width))
        elif kind == 2:
            data[at : at + 4] = struct.pack("<f", rng.choice((float("nan"), float("inf"), -1.0, 1e38, 1e-42, 0.0)))
        elif kind == 3:
            word = rng.choice(WORDS).encode("utf-8", "surrogatepass")
            data[at : at + rng.choice((0, len(word)))] = word
        elif kind == 4:
            del data[at:]
        elif kind == 5:
            del data[at : at + rng.randrange(1, 40)]
        elif kind == 6:
            data[at:at] = data[at : at + rng.randrange(1, 200)] * rng.choice((1, 2, 50))
        else:
            data[at : at + 8] = rng.randbytes(8)
    return bytes(data)


def mutate_json(data: bytes, rng: random.Random) -> bytes:
    """Replace, drop or add one value somewhere in a JSON document, or damage its text."""
    if rng.random() < 0.3:
        return mutate(data, rng)
    document = json.loads(data)
    for _ in range(rng.choice((1, 1, 2))):
        place = document
        while isinstance(place, (dict, list)) and place:
            key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
            if not isinstance(place[key], (dict, list)) or not place[key] or rng.random() < 0.3:
                kind = rng.randrange(8)
                if kind == 0:
                    del place[key]
                elif kind == 1 and isinstance(place, dict):
                    place[rng.choice(WORDS[:12])] = place[key]
                else:
                    place[key] = rng.choice(
                        (None, True, [], {}, "", -1, 0, 0.5, 1e308, 2**40, "x" * 99, [[1]], {"a": 1})
                    )
                break
            place = place[key]
    return json.dumps(document).encode()


def mutation(name: str) -> Callable[[bytes, random.Random], bytes]:
    """The mutation that suits a file of that name."""
    if name.endswith((".nii.gz", ".mgz")):
        return mutate_packed
    return mutate_json if name.endswith(".json") else mutate


def mutate_packed(data: bytes, rng: random.Random) -> bytes:
    """Mutate what is inside a gzip file, or the gzip file itself."""
    if rng.random() < 0.3:
        return mutate(data, rng)
    return gzip.compress(mutate(gzip.decompress(data), rng), 1)


def seeds(folder: Path) -> dict[str, Path]:
    """One good file of every kind, by the kind's name."""
    from small_models import VIT, backbone

    from ZSADCLIPLib.adapters.checkpoint import load_adapter, save_adapter
    from ZSADCLIPLib.datasets.splits import make_split, write_split
    from ZSADCLIPLib.files.text import write_json
    from ZSADCLIPLib.volume import Volume
    from ZSADCLIPLib.volumes.reading import write_volume

    folder.mkdir(parents=True, exist_ok=True)
    array = np.arange(8 * 9 * 5, dtype=np.int16).reshape(8, 9, 5)
    volume = Volume(array, np.diag([1.0, 1.5, 2.0, 1.0]))
    for name in ("a.nii", "b.nii.gz", "c.nrrd", "d.mha"):
        write_volume(folder / name, volume)
    write_volume(folder / "e.nii", volume, "float32")
    import nibabel

    nibabel.MGHImage(array, volume.affine).to_filename(folder / "j.mgz")
    for stem in ("k", "m-k"):  # the second goes with damaged headers
        nibabel.Nifti1Pair(array, volume.affine).to_filename(folder / f"{stem}.img")
    (folder / "m-k.hdr").unlink()
    from dicom_files import write_enhanced, write_slice

    write_slice(folder / "l.dcm", array[:, :, 0].astype(np.uint16), (0, 0, 0))
    write_enhanced(folder / "n.dcm", array.astype(np.uint16).transpose(2, 1, 0), range(5))
    import SimpleITK as itk

    image = itk.GetImageFromArray(array.T.copy())
    for name in ("f.mhd", "g.nhdr"):
        itk.WriteImage(image, str(folder / name))
    itk.WriteImage(image, str(folder / "h.nrrd"), useCompression=False)
    itk.WriteImage(image, str(folder / "i.mha"), useCompression=False)
    with open(folder / "manifest.csv", "w", newline="") as file:
        csv.writer(file).writerows([["id", "image", "mask"], ["one", "a.nii", "a.nii"], ["two", "b.nii.gz", ""]])
    write_json(folder / "model.json", VIT)
    job = {"job": "detect", "inputs": ["a.nii"], "output": "out", "settings": {"upsample": "centres"}, "workers": 2}
    write_json(folder / "job.json", job)
    write_json(folder / "profile.json", {"base": "mini", "score": {"background": "keep"}})
    prompts = {"normal": ["healthy {}"], "abnormal": ["{} with a tumour"], "templates": ["an MRI of a {}"]}
    write_json(folder / "prompts.json", prompts)
    write_split(folder / "split.json", make_split([f"s{n}" for n in range(9)]))
    adapter = load_adapter("vand:random", backbone())
    save_adapter(folder / "own.safetensors", adapter, backbone())
    import torch

    torch.save({"trainable_linearlayer": adapter.state_dict()}, folder / "authors.pth")
    torch.save({"trainable_linearlayer": adapter.state_dict()}, folder / "old.pt", _use_new_zipfile_serialization=False)
    return {
        path.name: path
        for path in sorted(folder.iterdir())
        if path.suffix not in (".raw", ".gz", ".img") or "nii" in path.name
    }


def reader(path: Path) -> Callable[[], object]:
    """What the engine does with a file of that name."""
    from ZSADCLIPLib.files.names import split_suffix
    from ZSADCLIPLib.volumes.reading import FORMATS, read_volume

    suffix = split_suffix(path)[1]
    if suffix in FORMATS or suffix == ".dcm":
        return lambda: read_volume(path)
    if suffix == ".csv":
        from ZSADCLIPLib.datasets.records import find_records
        from ZSADCLIPLib.detection.inputs import expand_inputs

        return lambda: (expand_inputs(path), find_records(path))
    if suffix in (".safetensors", ".pth", ".pt"):
        from small_models import backbone

        from ZSADCLIPLib.adapters.checkpoint import load_adapter

        return lambda: load_adapter(path, backbone())
    return lambda: _json_reader(path.name)(path)


def _json_reader(name: str) -> Callable:
    from ZSADCLIPLib.adapters.prompts import load_prompts
    from ZSADCLIPLib.backbones import load_backbone
    from ZSADCLIPLib.benchmark.profiles import load_profile
    from ZSADCLIPLib.datasets.splits import read_split
    from ZSADCLIPLib.jobs.registry import read_job

    readers = {"job": lambda p: read_job(p).check_execution(), "profile": load_profile, "prompts": load_prompts}
    readers |= {"split": read_split, "model": lambda p: load_backbone(str(p), "random")}
    return next((read for word, read in readers.items() if word in name), read_job)


class Child:
    """Reads files one after another in a process with limited memory; a death or silence is an outcome like others."""

    def __init__(self):
        self._process = None

    def read(self, path: Path) -> dict:
        """{"outcome": fine, refused, unexpected, died or hung, "detail", "peak": MB}."""
        if self._process is None or self._process.poll() is not None:
            command = [sys.executable, str(Path(__file__).resolve())]
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
            self._process.stdout.readline()
        watchdog = threading.Timer(SECONDS * 30, self._process.kill)
        watchdog.start()
        try:
            self._process.stdin.write(f"{path}\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        finally:
            late = not watchdog.is_alive()
            watchdog.cancel()
        if line:
            return json.loads(line)
        code = self._process.wait()
        return {"outcome": "hung" if late else "died", "detail": f"exit code {code}", "peak": 0, "seconds": 0}

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.stdin.close()
            self._process.wait()


def serve() -> None:
    """The child: limit the memory once the libraries are there, then answer."""
    import os
    import resource
    import signal
    import time
    import warnings

    warnings.simplefilter("ignore")
    import SimpleITK  # noqa: F401
    import torch  # noqa: F401
    from small_models import backbone

    from ZSADCLIPLib.errors import ZSADCLIPError

    backbone()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    taken = int(Path("/proc/self/statm").read_text("utf-8").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))

    def late(*_):
        raise TimeoutError(f"took longer than {SECONDS} s")

    signal.signal(signal.SIGPROF, late)
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        began, detail = time.monotonic(), ""
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            reader(Path(line.rstrip("\n")))()
            outcome = "fine"
        except ZSADCLIPError as error:
            outcome, detail = "refused", f"{type(error).__name__}: {error}"
        except BaseException as error:
            outcome, detail = "unexpected", f"{type(error).__name__}: {error}"[:300]
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        told = {"outcome": outcome, "detail": detail, "peak": peak, "seconds": round(time.monotonic() - began, 3)}
        print(json.dumps(told), file=out, flush=True)


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "Testing" / "support")]
    serve()
