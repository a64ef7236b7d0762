"""Damaged and malicious files: only our own errors, in bounded time and memory, and nothing of what they wanted."""

import ast
import gzip
import json
import os
import pickle
import random
import resource
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hostile import Child, mutation, seeds

from ZSADCLIPLib.cli import main
from ZSADCLIPLib.errors import InputError
from ZSADCLIPLib.files.text import parse_json, within
from ZSADCLIPLib.volumes.headers import check_header
from ZSADCLIPLib.volumes.reading import read_volume

ROOT = Path(__file__).resolve().parents[3]
CORPUS = sorted((Path(__file__).parents[2] / "corpus").iterdir())


@pytest.fixture(scope="module")
def child():
    process = Child()
    yield process
    process.close()


@pytest.mark.long
@pytest.mark.parametrize("path", CORPUS, ids=lambda p: p.name)
def test_files_that_once_broke_a_rule(path, child):
    told = child.read(path)
    assert told["outcome"] in ("fine", "refused"), told


@pytest.mark.long
def test_mutated_files_are_read_or_refused(child, tmp_path):
    good = seeds(tmp_path)
    for n in range(150):
        name = list(good)[n % len(good)]
        path = tmp_path / f"m-{name}"
        path.write_bytes(mutation(name)(good[name].read_bytes(), random.Random(f"test-{n}")))
        told = child.read(path)
        assert told["outcome"] in ("fine", "refused"), (n, name, told)


def claim(suffix: str) -> bytes:
    """A small file whose header claims 2**40 voxels."""
    if suffix.startswith(".nii"):
        import nibabel

        header = nibabel.Nifti2Header()
        header.set_data_dtype(np.uint8)
        header["dim"][:4] = [3, 1 << 14, 1 << 14, 1 << 12]
        header["magic"], header["vox_offset"], header["sform_code"] = b"n+2\0\r\n\x1a\n", 544, 1
        header["srow_x"], header["srow_y"], header["srow_z"] = np.eye(4)[:3]
        data = header.binaryblock + bytes(4) + bytes(1 << 20)
        return gzip.compress(data) if suffix.endswith("gz") else data
    if suffix == ".nrrd":
        return b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 16384 16384 4096\nencoding: gzip\n\n" + gzip.compress(
            bytes(1 << 20)
        )
    return (
        b"ObjectType = Image\nNDims = 3\nDimSize = 16384 16384 4096\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
        + bytes(1 << 20)
    )


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_a_claim_of_a_terabyte_allocates_nothing(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(claim(suffix))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="cannot hold them"):
        read_volume(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


@pytest.mark.parametrize("kind", ["raw", "gzip", "mha", "packed"])
def test_claims_are_held_against_bytes_not_voxels(kind, tmp_path):
    """Raw data cannot be compressed, and a double takes eight bytes."""
    zeros, sizes = bytes(1 << 20), "512 512 1024"  # 2 GB of doubles
    packed = gzip.compress(zeros) if kind == "gzip" else zeros
    nrrd = f"NRRD0004\ntype: double\ndimension: 3\nsizes: {sizes}\nencoding: {kind}\n\n".encode()
    meta = f"ObjectType = Image\nNDims = 3\nDimSize = {sizes}\nElementType = MET_DOUBLE\n"
    if kind == "packed":  # which also lies about the size of what is compressed
        packed = zlib.compress(bytes(4096))
        meta = meta.replace(sizes, "8 8 8") + "CompressedData = True\nCompressedDataSize = 15000000000\n"
    meta = (meta + "ElementDataFile = LOCAL\n").encode()
    path = tmp_path / ("a.mha" if kind in ("mha", "packed") else "a.nrrd")
    path.write_bytes((meta if path.suffix == ".mha" else nrrd) + packed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="cannot hold them"):
        read_volume(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


@pytest.mark.parametrize("encoding", ["raw", "gzip", "ascii", "hex"])
@pytest.mark.parametrize("dtype", ["uchar", "short", "double"])
def test_honest_claims_are_read_in_every_encoding(encoding, dtype, tmp_path):
    array = np.arange(24).astype({"uchar": "u1", "short": "<i2", "double": "<f8"}[dtype])
    data = {
        "raw": bytes,
        "gzip": gzip.compress,
        "hex": lambda b: b.hex().encode(),
        "ascii": lambda b: b" ".join(b"%d" % n for n in array.astype(int)) + b"\n",
    }[encoding](array.tobytes())
    path = tmp_path / "a.nrrd"
    head = f"NRRD0004\ntype: {dtype}\ndimension: 3\nsizes: 2 3 4\nencoding: {encoding}\nendian: little\n\n"
    path.write_bytes(head.encode() + data)
    assert np.array_equal(read_volume(path).array.ravel(order="F"), array)


def test_messages_do_not_quote_headers(tmp_path):
    path = tmp_path / "a.mha"
    for line in ("PatientName: DOE^JANE", "PatientName = DOE\x01JANE", "PatientName = DOE" + 500 * "x"):
        path.write_text(f"NDims = 3\n{line}\nDimSize = 1 1 1\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n\0")
        with pytest.raises(InputError) as caught:
            read_volume(path)
        assert "DOE" not in str(caught.value) and "Patient" not in str(caught.value)


@pytest.mark.parametrize("depth", [30, 600, 950])
def test_deep_settings_are_refused(depth):
    data: object = 1
    for _ in range(depth):
        data = [data]
    assert not within(data) and within([[[1]]])


def test_a_gzip_bomb_is_refused_and_takes_no_memory(tmp_path):
    import nibabel

    path = tmp_path / "bomb.nii.gz"
    image = nibabel.Nifti1Image(np.zeros((8, 8, 8), np.uint8), np.eye(4))
    with gzip.open(path, "wb", 1) as file:
        file.write(image.to_bytes())
        for _ in range(300):
            file.write(bytes(1 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="it holds more than"):
        read_volume(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


@pytest.mark.parametrize("name", ["../secret.raw", "/etc/hostname", "LIST", "a%03d.raw", "sub/../../secret.raw"])
@pytest.mark.parametrize("suffix", [".nhdr", ".mhd"])
def test_a_header_cannot_point_elsewhere(name, suffix, tmp_path):
    (tmp_path / "secret.raw").write_bytes(bytes(64))
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    lines = ["NRRD0004", "type: uchar", "dimension: 3", "sizes: 4 4 4", "encoding: raw", f"data file: {name}"]
    if suffix == ".mhd":
        lines = ["NDims = 3", "DimSize = 4 4 4", "ElementType = MET_UCHAR", f"ElementDataFile = {name}"]
    (folder / f"a{suffix}").write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match="does not name one data file"):
        read_volume(folder / f"a{suffix}")


@pytest.mark.parametrize(
    "added",
    [
        "sizes = 1 1 1\ndimension = 3",
        "type = uchar",
        "type = nothing",
        "encoding = gzip",
        "data file = beside.raw",
        "sizes = x",
    ],
)
def test_fields_added_to_a_metaimage_do_not_pass_for_those_of_nrrd(added, tmp_path):
    (tmp_path / "beside.raw").write_bytes(bytes(64))
    head = "NDims = 3\n{added}\nDimSize = {size}\nElementType = MET_DOUBLE\nElementDataFile = {data}\n"
    path = tmp_path / "a.mha"
    path.write_bytes(head.format(added=added, size="16 16 4", data="LOCAL").encode() + bytes(4096))
    with pytest.raises(InputError, match="cannot hold them"):
        check_header(path)
    path.write_text(head.format(added=added, size="2 2 2", data="../secret.raw"))
    with pytest.raises(InputError, match="does not name one data file"):
        check_header(path)
    path.write_bytes(head.format(added=added, size="2 2 2", data="LOCAL").encode() + bytes(64))
    assert read_volume(path).shape == (2, 2, 2)


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize(
    ("kind", "option"),
    [("pickle", "--checkpoint"), ("torch", "--checkpoint"), ("inside", "--checkpoint"), ("torch", "--weights")],
)
def test_a_malicious_checkpoint_is_refused_and_leaves_no_trace(kind, option, tmp_path, capsys):
    import torch

    trace, evil = tmp_path / "trace", tmp_path / "evil.pth"
    payload = Payload(f"touch {trace}")
    if kind == "pickle":
        evil.write_bytes(pickle.dumps(payload))
    elif kind == "torch":
        torch.save(payload, evil)
    else:
        torch.save({"trainable_linearlayer": {"fc.0.weight": torch.zeros(2), "fc.0.bias": payload}}, evil)
    image = tmp_path / "a.nii"
    image.write_bytes(b"not reached")
    assert main(["detect", str(image), "-o", str(tmp_path / "out"), option, str(evil)]) == 1 and not trace.exists()
    said = capsys.readouterr().err
    assert "never executed here" in said and "Traceback" not in said
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]


def test_no_archive_is_ever_unpacked():
    unpackers = {"tarfile", "shutil.unpack_archive", "extractall", "unpack_archive", "extract"}
    for path in (ROOT / "ZSADCLIPLib").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        calls = {n.func.attr for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)}
        assert not names & {"tarfile", "zipfile"} and not calls & unpackers, path


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 5000, '"\\ud800"', "9" * 5000, "{", "", "\0"])
def test_json_that_breaks_the_parser_is_a_value_error(text):
    with pytest.raises(ValueError):
        parse_json(text)


def test_settings_of_a_model_have_bounds():
    assert within({"vision_cfg": {"layers": [3, 4, 6, 3], "width": 1024}, "vocab_size": 49408, "name": "x"})
    for bad in (
        {"layers": 10**6},
        {"width": 10**9},
        {"a": [{"deep_depth": 500}]},
        {"x": float("nan")},
        {"x": -(10**9)},
    ):
        assert not within(bad)


@pytest.mark.long
def test_a_safetensors_header_that_lies(tmp_path, child):
    for n, header in enumerate(
        (b"{", b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}')
    ):
        path = tmp_path / f"{n}.safetensors"
        path.write_bytes(struct.pack("<Q", len(header)) + header)
        assert child.read(path)["outcome"] == "refused"
    path = tmp_path / "long.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 60) + json.dumps({}).encode())
    assert child.read(path)["outcome"] == "refused"
