"""One manifest, whatever separates its cells, means the same to detect, benchmark, train and audit."""

import json
import sys

import pytest
from benchmark_cases import write_brains, write_profile
from small_models import VIT

from ZSADCLIPLib.benchmark.cohort import read_cohort
from ZSADCLIPLib.benchmark.profiles import load_profile
from ZSADCLIPLib.cli import main
from ZSADCLIPLib.datasets.audit import audit
from ZSADCLIPLib.datasets.manifest import Entry, read_manifest
from ZSADCLIPLib.datasets.records import find_records
from ZSADCLIPLib.detection.inputs import Case, expand_inputs
from ZSADCLIPLib.errors import InputError
from ZSADCLIPLib.files.digests import FileHashes

SUBJECTS = 4


@pytest.fixture(scope="module")
def brains(tmp_path_factory):
    return write_brains(tmp_path_factory.mktemp("manifest") / "data", SUBJECTS)


def files(n):
    return [f"data/BraTS-MET-{n:05d}-000/BraTS-MET-{n:05d}-000-{kind}.nii.gz" for kind in ("t2w", "seg")]


def text_of(separator, end="\n"):
    header = ["Image", " id", "note", "MASK", "split", "rule"]
    sides = ("train", "train", "test", "test")
    cells = [[files(n)[0], f"p{n}", f'"{separator} ""a"""', files(n)[1], sides[n], "2023"] for n in range(SUBJECTS)]
    return end.join(separator.join(line) for line in (header, *cells, [""] * 6, [])) + end


@pytest.mark.parametrize("separator", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
def test_every_command_reads_the_same_cases(separator, brains, tmp_path):
    manifest = brains.parent / "cases.csv"
    manifest.write_text(text_of(separator))
    expected = [(f"p{n}", *(brains.parent / name for name in files(n))) for n in range(SUBJECTS)]
    assert [(e.id, e.image, e.mask) for e in read_manifest(manifest)] == expected
    assert expand_inputs(manifest) == [Case(*each) for each in expected]
    records = find_records(manifest)
    assert [(r.id, r.image, r.mask) for r in records] == expected
    assert [(r.split, r.rule) for r in records] == [("train", "2023")] * 2 + [("test", "2023")] * 2
    cohort = read_cohort(load_profile("ci"), manifest, FileHashes(tmp_path / "hashes.json"))  # of benchmark and train
    assert cohort.records == tuple(records) and not cohort.problems
    found = audit(manifest)
    assert found.records == tuple(records) and not found.problems


def test_every_command_works_on_a_manifest_with_semicolons(brains, tmp_path, capsys):
    manifest = brains.parent / "semicolons.csv"
    manifest.write_text(text_of(";"))
    (tmp_path / "tiny.json").write_text(json.dumps(VIT))
    profile = write_profile(tmp_path / "profile.json", methods={"vand": {"epochs": 1}}, threshold={"max_subjects": 1})
    model = ["--backbone", str(tmp_path / "tiny.json"), "--weights", "random:3", "--device", "cpu"]
    out = {name: str(tmp_path / name) for name in ("detect", "train", "benchmark", "audit")}
    line = ["detect", str(manifest), "-o", out["detect"], *model, "--checkpoint", "vand:random", "--image-size", "64"]
    assert main([*line, "--no-pictures"]) == 0
    assert len((tmp_path / "detect" / "summary.csv").read_text("utf-8").splitlines()) == 1 + SUBJECTS
    line = ["train", "--data", str(manifest), "--out", out["train"], *model, "--profile", str(profile)]
    assert main([*line, "--slices", "lesion+1"]) == 0
    assert json.loads((tmp_path / "train" / "split.json").read_text("utf-8"))["train"] == ["p0", "p1"]
    line = ["benchmark", "--data", str(manifest), "--out", out["benchmark"], "--profile", str(profile)]
    assert main([*line, "--methods", "vand", "--setups", "brats", "--device", "cpu"]) == 0
    assert json.loads((tmp_path / "benchmark" / "split.json").read_text("utf-8"))["test"] == ["p2", "p3"]
    assert main(["data", "audit", str(manifest), "--out", out["audit"]]) == 0
    assert json.loads((tmp_path / "audit" / "audit.json").read_text("utf-8"))["summary"]["usable"] == SUBJECTS


@pytest.mark.parametrize("start", ["", "\ufeff", "\n  \n"], ids=["plain", "mark", "blank"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
def test_marks_line_ends_and_blank_lines_change_nothing(start, end, brains):
    path = brains.parent / "saved.tsv"
    path.write_bytes((start + text_of(";", end)).encode())
    entries = read_manifest(path)
    skipped = start.count("\n")
    image, mask = (brains.parent / name for name in files(1))
    assert len(entries) == SUBJECTS
    assert entries[1] == Entry(3 + skipped, "p1", image, mask, split="train", rule="2023")
    assert [case.id for case in expand_inputs(path)] == [entry.id for entry in entries]


def test_the_header_decides_not_the_most_frequent_sign(brains):
    path = brains.parent / "cases.csv"
    path.write_text(f'id;"image";"age, sex, side, site"\np0;{files(0)[0]};"7;m"\n')
    assert read_manifest(path) == [Entry(2, "p0", brains.parent / files(0)[0], None)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id|image\n", r"has the columns \['id\|image'\]; expected id, image.*commas, semicolons or tabs"),
        ("id;mask\n", r"has the columns \['id', 'mask'\]; expected id, image"),
        ("id,image,id\n", "has the column id more than once"),
        ("", r"has the columns \[\]"),
        ("id;image\n\n;;\n", "no line below its header"),
        ("id\timage\n\nb\t\n", "line 3 of the manifest .* lacks its image"),
        (
            "id,image,mask\na,t2,w.nii,seg.nii\n",
            "line 2 of the manifest .* has 4 cells for 3 columns; put a text .* in quotes",
        ),
        ("id;image;split\n;;train\n", "line 2 of the manifest .* lacks its id"),
        ("id;image\na;{0}\na;{0}\n", r"more than once: a \(lines 2, 3\)"),
        ("id;image;mask\na;gone.nii;lost.nii\n", r"does not exist: gone\.nii \(line 2\), lost\.nii \(line 2\);"),
        (
            "id,image\na,~nobody-of-that-name/x.nii\nb,a\0b\n",
            # Python 3.10 reads no CSV with such a letter.
            r"does not exist: x\.nii \(line 2\), a\0b \(line 3\)"
            if sys.version_info >= (3, 11)
            else "line 3 of the manifest .* is no CSV: line contains NUL",
        ),
        (f"id,image\na,{'x' * 3000}\n", r"does not exist: x+ \(line 2\)"),
        (f"id,image\na,{'x' * 200_000}\n", "line 2 of the manifest .* is no CSV"),
        ("id,image\nM\udcfcller,a.nii\n", "cannot read the manifest .*; save it as a CSV in UTF-8"),
    ],
)
def test_errors_are_the_same_for_all(text, words, brains):
    path = brains.parent / "wrong.csv"
    path.write_bytes(text.format(*files(0)).encode(errors="surrogateescape"))
    told = set()
    for read in (read_manifest, expand_inputs, find_records, audit):
        with pytest.raises(InputError, match=words) as caught:
            read(path)
        told.add(str(caught.value))
    assert len(told) == 1 and str(path) in told.pop()
