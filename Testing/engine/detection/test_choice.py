"""What is meant among the files of a folder: no notes, no label maps, one sequence of a BraTS case."""

import numpy as np
import pytest
from conftest import affine

from ZSADCLIPLib.detection.inputs import expand_inputs
from ZSADCLIPLib.errors import InputError
from ZSADCLIPLib.jobs.detect import Detect
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.reading import write_volume


def expanded(inputs, **options):
    """The file names of the cases, those of their masks, and what was said."""
    said = []
    cases = expand_inputs(inputs, report=said.append, **options)
    masks = [case.mask.name if case.mask else None for case in cases]
    return [case.image.name for case in cases], masks, " | ".join(event["text"] for event in said)


@pytest.mark.parametrize("how", ["folder", "glob", "shell"])
def test_a_shells_list_of_files_is_as_good_as_the_pattern(tree, how):
    root = tree("in/a.nii.gz", "in/b.nrrd", "in/notes.txt", "in/a.json", "in/table.csv", "in/README", "in/more/read.md")
    shell = sorted((root / "in").iterdir())
    inputs = {"folder": [root / "in"], "glob": [f"{root}/in/*"], "shell": shell}[how]
    images, _, said = expanded(inputs)
    assert images == ["a.nii.gz", "b.nrrd"]
    for left in ("1 .txt", "1 .json", "1 .csv", "1 without an ending"):
        assert left in said


def test_a_file_named_alone_must_be_a_volume(tree):
    root = tree("notes.txt", "a.nii")
    with pytest.raises(InputError, match="is not a volume"):
        expand_inputs([root / "notes.txt"])
    assert expanded([root / "notes.txt", root / "a.nii"])[0] == ["a.nii"]
    with pytest.raises(InputError, match="not found"):
        expand_inputs([root / "a.nii", root / "b.nii"])


def test_a_manifest_among_other_inputs_is_read(tree):
    root = tree("a.nii", "b.nii", "b_seg.nii")
    (root / "set.csv").write_text("id,image,mask\nB,b.nii,b_seg.nii\n")
    assert expanded([root / "a.nii", root / "set.csv"])[:2] == (["a.nii", "b.nii"], [None, "b_seg.nii"])


LABELS = [
    "x-seg.nii.gz",
    "x_seg.nii.gz",
    "x_mask.nii.gz",
    "seg.nrrd",
    "x.seg.nrrd",
    "x-label.mha",
    "x_Labels.nii",
    "mask.nii",
]
LABELS += [
    "x_dseg.nii.gz",
    "consensus_gt.nii.gz",
    "x_brain_mask.nii.gz",
    "Segmentation.nrrd",
    "x_lesion.nii",
    "x-labelmap.nii",
]


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("how", ["folder", "glob", "shell"])
def test_a_label_map_beside_an_image_is_left_out_and_said(tree, label, how):
    root = tree("x.nii.gz", label)
    inputs = {"folder": [root], "glob": [f"{root}/*"], "shell": [root / "x.nii.gz", root / label]}[how]
    images, _, said = expanded(inputs)
    assert images == ["x.nii.gz"] and f"left out: {label}" in said


@pytest.mark.parametrize("name", ["x_seg.nii.gz", "mask.nii"])
def test_a_label_map_named_alone_or_without_an_image_is_taken(tree, name):
    root = tree(f"a/{name}", "b/x.nii")
    assert expanded([root / "a" / name])[0] == [name]
    assert expanded([root / "a"])[0] == [name]


@pytest.mark.parametrize("name", ["masked.nii", "segmented_t1.nii", "goldberg.nii", "x_t2w.nii", "parcel.nii"])
def test_words_within_other_words_are_no_label(tree, name):
    root = tree("x.nii", name)
    assert len(expanded([root])[0]) == 2


CASE = "BraTS-MET-00002-000"
OLD = "BraTS2021_00002"


@pytest.mark.parametrize(
    ("files", "channel", "image"),
    [
        ([f"{CASE}-{kind}" for kind in ("t1n", "t1c", "t2w", "t2f", "seg")], None, f"{CASE}-t2w"),
        ([f"{CASE}-{kind}" for kind in ("t1n", "t1c", "t2w", "t2f", "seg")], "t2f", f"{CASE}-t2f"),
        ([f"{OLD}_{kind}" for kind in ("t1", "t1ce", "t2", "flair", "seg")], None, f"{OLD}_t2"),
        ([f"{OLD}_{kind}" for kind in ("t1", "t1ce", "t2", "flair", "seg")], "t1c", f"{OLD}_t1ce"),
        ([f"{CASE}-t1c", f"{CASE}-seg"], None, f"{CASE}-t1c"),
    ],
)
@pytest.mark.parametrize("how", ["folder", "glob", "shell"])
def test_of_a_brats_case_one_sequence_is_scored_against_its_segmentation(tree, files, channel, image, how):
    root = tree(*(f"case/{file}.nii.gz" for file in files))
    inputs = {"folder": [root], "glob": [f"{root}/case/*"], "shell": sorted((root / "case").iterdir())}[how]
    images, masks, said = expanded(inputs, channel=channel)
    seg = next(file for file in files if file.endswith("seg"))
    assert images == [f"{image}.nii.gz"] and masks == [f"{seg}.nii.gz"]
    assert "compared with the segmentation" in said and ("--channel" in said) == (len(files) > 2)


def test_many_cases_in_one_folder_are_told_apart(tree):
    cases = [f"BraTS-GLI-{n:05d}-000" for n in range(3)]
    root = tree(*(f"{case}-{kind}.nii.gz" for case in cases for kind in ("t2w", "t1c")), f"{cases[1]}-seg.nii.gz")
    images, masks, _ = expanded([root])
    assert images == [f"{case}-t2w.nii.gz" for case in cases]
    assert masks == [None, f"{cases[1]}-seg.nii.gz", None]


def test_a_case_without_the_sequence_is_left_out_and_the_others_go_on(tree):
    root = tree(f"a/{CASE}-t2w.nii.gz", f"a/{CASE}-t1c.nii.gz", "b/BraTS-MET-00003-000-t2w.nii.gz", "b/x.nii")
    images, _, said = expanded([root], channel="t1c")
    assert images == [f"{CASE}-t1c.nii.gz", "x.nii"] and "without a t1c file: BraTS-MET-00003-000" in said
    with pytest.raises(InputError, match="no t1n file in BraTS-MET-00002-000"):
        expand_inputs([root / "a"], channel="t1n")


def test_two_sequences_without_the_usual_one_need_a_choice(tree):
    root = tree(f"{CASE}-t1c.nii.gz", f"{CASE}-t2f.nii.gz")
    with pytest.raises(InputError, match="has t1c, t2f and no t2w; choose one with --channel"):
        expand_inputs([root])


def test_a_segmentation_without_its_images_is_a_label_map(tree):
    root = tree(f"a/{CASE}-seg.nii.gz", f"b/{CASE}-seg.nii.gz", "b/x.nii")
    assert expanded([root / "a"])[0] == [f"{CASE}-seg.nii.gz"]
    images, masks, said = expanded([root / "b"])
    assert images == ["x.nii"] and masks == [None] and f"left out: {CASE}-seg.nii.gz" in said


def test_one_file_of_a_case_named_alone_is_that_file(tree):
    root = tree(f"{CASE}-t1c.nii.gz", f"{CASE}-t2w.nii.gz", f"{CASE}-seg.nii.gz")
    assert expanded([root / f"{CASE}-t1c.nii.gz"])[:2] == ([f"{CASE}-t1c.nii.gz"], [None])


@pytest.mark.parametrize("how", ["folder", "glob", "shell"])
def test_a_pair_is_one_case(tree, how):
    root = tree("x.hdr", "x.img", "y.mhd", "z.img")
    (root / "y.mhd").write_text("NDims = 3\nDimSize = 1 1 1\nElementType = MET_UCHAR\nElementDataFile = y.raw\n")
    (root / "y.raw").write_bytes(b"1")
    inputs = {"folder": [root], "glob": [f"{root}/*"], "shell": sorted(root.iterdir())}[how]
    images, _, said = expanded(inputs)
    assert images == ["x.hdr", "y.mhd", "z.img"] and said == ""


def test_values_tell_a_label_map_that_no_name_tells(tmp_path, rng):
    """Beside an image it is left out, the others go on; alone it is scored, with a warning."""
    image = rng.random((40, 40, 4)).astype(np.float32)
    labels = np.zeros(image.shape, np.uint8)
    labels[10:20, 10:20, 1:3] = 1
    for name, array in (("one", image), ("truth-of-one", labels)):
        write_volume(tmp_path / "in" / f"{name}.nii.gz", Volume(array, affine((2, 2, 5))))
    rows = []
    job = Detect(inputs=(str(tmp_path / "in"),), output=str(tmp_path / "out"), image_size=48, pictures=False)
    result = job.run(report=lambda event: rows.append(event) if event["event"] == "case" else None)
    assert sorted((row["id"], row["status"]) for row in rows) == [("one", "done"), ("truth-of-one", "left out")]
    assert result["failed"] == 0 and not (tmp_path / "out" / "truth-of-one.json").exists()
    alone = Detect(
        inputs=(str(tmp_path / "in" / "truth-of-one.nii.gz"),),
        output=str(tmp_path / "alone"),
        image_size=48,
        pictures=False,
    )
    alone.run(report=lambda event: rows.append(event) if event["event"] == "case" else None)
    assert rows[-1]["status"] == "done" and "label-map" in [note["code"] for note in rows[-1]["notes"]]
