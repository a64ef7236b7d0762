"""Files, folders, globs and manifests become cases with unique, safe ids."""

from __future__ import annotations

import json
import os
import re

import pytest

from ZSADCLIPLib.detection.inputs import Case, expand_inputs
from ZSADCLIPLib.errors import InputError
from ZSADCLIPLib.files.names import safe_name

DONE = json.dumps(dict.fromkeys(("id", "settings", "inputs", "files", "summary", "seal"), ""))  # keys of a case's JSON


def ids(cases):
    return [case.id for case in cases]


def test_a_file_is_a_case(tree):
    path = tree("BraTS-MET-00002-000-t2w.nii.gz") / "BraTS-MET-00002-000-t2w.nii.gz"
    assert expand_inputs(path) == [Case("BraTS-MET-00002-000-t2w", path, None)]


def test_a_folder_gives_its_volumes_sorted(tree):
    root = tree("b/2.nii", "b/1.nii.gz", "a.nrrd", "c/d/e.mha", "notes.txt", ".hidden.nii", ".git/x.nii")
    cases = expand_inputs([root])
    assert ids(cases) == ["a", "1", "2", "e"]
    assert cases == expand_inputs([str(root)])


def test_a_dicom_folder_is_one_case(tree):
    root = tree("p1/IM001.dcm", "p1/IM002.dcm", "p2/0001", "p3/readme.txt")
    (root / "p2/0001").write_bytes(bytes(128) + b"DICM")
    named = expand_inputs([root], keep_identifiers=True)
    assert [(case.id, case.image) for case in named] == [("p1", root / "p1"), ("p2", root / "p2")]
    cases = expand_inputs([root])
    assert len(cases) == 2 and all(re.fullmatch(r"dicom-[0-9a-f]{12}(-2)?", case.id) for case in cases)


def test_globs_take_volumes_only(tree):
    root = tree("s1/t2w.nii.gz", "s2/t2w.nii.gz", "s2/seg.nii.gz", "s2/t2w.json")
    assert len(expand_inputs([f"{root}/*/t2w*"])) == 2
    said = []
    assert len(expand_inputs([f"{root}/**/*"], report=said.append)) == 2
    assert [event["text"] for event in said] == [
        "1 file left out, no volumes: 1 .json",
        "1 label map beside images is left out: seg.nii.gz; name one alone to score it",
    ]
    with pytest.raises(InputError, match="nope"):
        expand_inputs([f"{root}/*/nope*"])


def test_a_name_with_brackets_is_a_name_if_it_exists(tree):
    root = tree("scan[1].nii")
    assert ids(expand_inputs([root / "scan[1].nii"])) == ["scan_1_"]


@pytest.mark.parametrize("text", [DONE, DONE.replace('"seal"', '"sea1"'), "no JSON any more"])
def test_results_are_not_taken_for_input(tree, text):
    root = tree("x.nii.gz", "x_anomaly.nii.gz", "x_mask.nii.gz", "x.json", "y_anomaly.nii.gz")
    (root / "x.json").write_text(text)
    assert ids(expand_inputs([root])) == ["x", "y_anomaly"]


def test_sidecars_make_no_results(tree):
    root = tree("x.nii.gz", "x_anomaly.nii.gz", "x.json")
    (root / "x.json").write_text('{"RepetitionTime": 2.0, "EchoTime": 0.03}')
    assert ids(expand_inputs([root])) == ["x", "x_anomaly"]


def test_half_written_results_are_not_taken_for_input(tree):
    """A run that was killed between the map and the JSON, whatever the folder."""
    root = tree("x.nii", "out/x_anomaly.nii.gz", "out/x_mask.nii.gz", "out/.x.unfinished", "out/y_anomaly.nii")
    assert ids(expand_inputs([root])) == ["x", "y_anomaly"]


def test_a_series_is_one_beside_its_own_half_written_results(tree):
    root = tree("s/0001.dcm", "s/dicom-1_anomaly.nii.gz", "s/.dicom-1.unfinished")
    assert [case.image for case in expand_inputs([root])] == [root / "s"]


def test_results_that_a_shell_names_are_left_out_of_their_own_folder(tree):
    root = tree("x.nii.gz", "x_anomaly.nii.gz", "x_mask.nii.gz", "x.json")
    (root / "x.json").write_text(DONE)
    named, said = sorted(root.glob("*.nii.gz")), []
    assert ids(expand_inputs(named, output=root, report=said.append)) == ["x"]
    assert "2 files named as input" in said[0]["text"]
    assert ids(expand_inputs(named, output=root / "other")) == ["x", "x_anomaly"]  # the mask is a label map


def test_links_to_folders_are_followed_once(tree):
    root = tree("in/a.nii", "elsewhere/deep/b.nii")
    (root / "in" / "link").symlink_to(root / "elsewhere")
    (root / "elsewhere" / "back").symlink_to(root / "in")
    assert ids(expand_inputs([root / "in"])) == ["a", "b"]
    (root / "in" / "self").symlink_to(root / "in")
    (root / "in" / "again").symlink_to(root / "elsewhere" / "deep")
    assert ids(expand_inputs([root / "in"])) == ["a", "b"]


def test_dicom_files_beside_volumes_are_said(tree):
    root = tree(
        "p1/a.nii", "p1/IM001.dcm", "p2/b.nii", "p2/0001", "p3/c.nii", "p3/notes.txt", "p4/d.nii.gz", "p4/1.2.840.1"
    )
    for name in ("p2/0001", "p3/notes.txt", "p4/1.2.840.1"):
        (root / name).write_bytes(bytes(128) + b"DICM")
    said = []
    assert ids(expand_inputs([root], report=said.append)) == ["a", "b", "c", "d"]
    assert said[0]["text"] == "1 file left out, no volumes: 1 .txt" and "DICOM files in 3 folders" in said[1]["text"]
    assert len(said) == 2 and "p1" not in said[1]["text"]
    expand_inputs([root / "p1"], keep_identifiers=True, report=said.append)
    assert f"DICOM files in 1 folder ({root / 'p1'}) lie beside" in said[2]["text"]


def test_globs_leave_results_out(tree):
    root = tree("x.nii.gz", "x_anomaly.nii.gz", "x_mask.nii.gz", "x.json")
    (root / "x.json").write_text(DONE)
    assert ids(expand_inputs([f"{root}/*"])) == ["x"]
    assert ids(expand_inputs([root / "x_mask.nii.gz"])) == ["x_mask"]


def test_naming_a_volume_twice_is_one_case(tree):
    root = tree("a.nii")
    assert ids(expand_inputs([root / "a.nii", root, f"{root}/*.nii"])) == ["a"]


def test_ids_are_unique_and_safe(tree):
    names = ("s1/t2w.nii", "s2/t2w.nii.gz", "s2/T2W.nii", "x/s1/t2w.nii", "Müller, J.nii", "_.nii", "l" * 200 + ".nii")
    root = tree(*names, "...nii", ".. .nii")
    given = [root, root / "...nii", root / ".. .nii"]  # a folder's hidden files count only when they are named
    found = ids(expand_inputs(given))
    assert len({one.casefold() for one in found}) == len(found) == 9
    assert all(re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,109}", one) for one in found), found
    assert found == ids(expand_inputs(given))
    assert "M_ller_J" in found and not any("s1" in one or "s2" in one for one in found)
    named = ids(expand_inputs(given, keep_identifiers=True))
    assert {"s2_T2W", "s2_t2w-2", "s1_t2w", "s1_t2w-2", "M_ller_J"} <= set(named)


@pytest.mark.parametrize(
    ("given", "safe"),
    [
        ("../../etc/passwd", "_.._etc_passwd"),
        ("a\0b", "a_b"),
        ("-rf", "rf"),
        ("NUL", "_NUL"),
        ("com1.x", "_com1.x"),
        ("C:\\boot", "C_boot"),
        ("\u202egpj", "_gpj"),
        ("...", "case"),
        ("x" * 5000, "x" * 100),
    ],
)
def test_ids_from_strangers_become_plain_names(given, safe):
    assert safe_name(given) == safe


def test_a_suffix_never_meets_another_id(tree):
    root = tree("a/a/x.nii", "b/a/x.nii", "c/a_x-2.nii")
    assert sorted(ids(expand_inputs([root], keep_identifiers=True))) == ["a_x", "a_x-2", "a_x-3"]


def test_a_manifest_names_cases_and_masks(tree):
    root = tree("data/a.nii.gz", "data/a_seg.nii.gz", "b.nii")
    for text in ("id,image,mask\n", "\ufeffID; Image ;MASK\n", "mask\timage\tid\textra\n"):
        sign = next(s for s in ",;\t" if s in text)
        names = [name.strip("\ufeff\n ").lower() for name in text.split(sign)]
        rows = [
            {"id": "one", "image": "data/a.nii.gz", "mask": "data/a_seg.nii.gz"},
            {"id": "two", "image": f"{root}/b.nii"},
        ]
        lines = [sign.join(row.get(name, "") for name in names) for row in rows]
        manifest = root / "cases.csv"
        manifest.write_text(text + "\n".join(["", *lines, ""]), encoding="utf-8")
        assert expand_inputs([manifest]) == [
            Case("one", root / "data/a.nii.gz", root / "data/a_seg.nii.gz"),
            Case("two", root / "b.nii"),
        ]


def test_one_image_may_have_two_masks(tree):
    root = tree("a.nii", "m1.nii", "m2.nii")
    (root / "cases.csv").write_text("id,image,mask\nx,a.nii,m1.nii\ny,a.nii,m2.nii\n")
    assert ids(expand_inputs([root / "cases.csv"])) == ["x", "y"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "columns"),
        ("name,file\na,b\n", r"\['name', 'file'\]"),
        ("id,image\na,\n", "line 2"),
        ("id,image\na,a.nii\na,b.nii\n", r"more than once: a \(lines 2, 3\)"),
        ("id,image\na,a.nii\nb,gone.nii\n", r"gone\.nii \(line 3\)"),
        ("id,image,mask\na,a.nii,gone.nii\n", r"gone\.nii \(line 2\)"),
        ("id,image\n", "no line below its header"),
    ],
)
def test_bad_manifests(tree, text, words):
    root = tree("a.nii", "b.nii")
    (root / "cases.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        expand_inputs([root / "cases.csv"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_manifest_names_files_and_folders_only(tree):
    root = tree("a.nii")
    os.mkfifo(root / "pipe.nii")
    for name in ("pipe.nii", "/dev/zero"):
        (root / "cases.csv").write_text(f"id,image\na,a.nii\nz,{name}\n")
        with pytest.raises(InputError, match=r"does not exist: (pipe\.nii|zero) \(line 3\)"):
            expand_inputs([root / "cases.csv"])


def test_the_id_of_a_manifest_is_kept_for_a_folder_of_that_name(tree):
    root = tree("ser1/0001.dcm", "empty/notes.txt")
    (root / "cases.csv").write_text("id,image\nser1,ser1\nempty,empty\n")
    assert ids(expand_inputs([root / "cases.csv"])) == ["ser1", "empty"]


def test_a_manifest_that_is_not_text(tree):
    root = tree()
    (root / "cases.csv").write_bytes(b"\xff\xfe\x00id")
    with pytest.raises(InputError, match="UTF-8"):
        expand_inputs([root / "cases.csv"])


def test_missing_inputs_are_named(tree):
    root = tree("a.nii", "empty/readme.md", "table.xlsx")
    with pytest.raises(InputError, match=r"gone\.nii \(not found\).*lost \(not found\)"):
        expand_inputs([root / "a.nii", root / "gone.nii", root / "lost"])
    with pytest.raises(InputError, match=r"empty \(holds no volume\)"):
        expand_inputs([root / "empty"])
    with pytest.raises(InputError, match="no volume is given"):
        expand_inputs([root / "table.xlsx", root / "empty"])
    with pytest.raises(InputError, match=r"table\.xlsx is not a volume"):
        expand_inputs([root / "table.xlsx"])
    with pytest.raises(InputError, match="no input is given"):
        expand_inputs([])
