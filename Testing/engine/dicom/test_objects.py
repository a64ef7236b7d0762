"""DICOM objects of a case: places, identity, codes, what each reader needs, and what each odd source becomes."""

import shutil
import warnings

import numpy as np
import pytest
from dicom_files import AXIAL, CORONAL, SAGITTAL, UID, brain, write_enhanced, write_mosaic, write_object
from dicom_results import IDENTITY, exported, outcome_of, spoil, whole_series

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

from ZSADCLIPLib.dicom import check as checking  # noqa: E402
from ZSADCLIPLib.dicom import export as exporting  # noqa: E402
from ZSADCLIPLib.dicom import maps  # noqa: E402
from ZSADCLIPLib.dicom.check import check, places_of  # noqa: E402
from ZSADCLIPLib.dicom.export import export, folder_of, names_of, objects  # noqa: E402
from ZSADCLIPLib.dicom.outcome import MOST_SEGMENTS  # noqa: E402
from ZSADCLIPLib.dicom.sources import PATIENT, TAGS, as_written, read_sources, source_of  # noqa: E402
from ZSADCLIPLib.dicom.terms import region_of  # noqa: E402
from ZSADCLIPLib.errors import InputError, OutputError, UsageError  # noqa: E402
from ZSADCLIPLib.volumes.dicom import scan  # noqa: E402
from ZSADCLIPLib.volumes.reading import read_volume  # noqa: E402

SIN, COS = 0.19866933, 0.98006658  # of an angle of 0.2
OBLIQUE = (1, 0, 0, 0, COS, SIN)
SERIES = {
    "axial": (AXIAL, (0, 0, 2.5)),
    "coronal": (CORONAL, (0, 2.5, 0)),
    "sagittal": (SAGITTAL, (2.5, 0, 0)),
    "oblique": (OBLIQUE, (0, -0.49667, 2.45017)),
    "feet first": (AXIAL, (0, 0, -2.5)),
    "tilted": (AXIAL, (0, 0.5, 2.5)),
}


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    """Without the validator, which test_validators.py asks."""
    monkeypatch.setattr(checking.shutil, "which", lambda _: None)


def parts(folder):
    return {file.stem: pydicom.dcmread(file) for file in folder.iterdir()}


def by_image(parametric_map):
    """The scores of each image."""
    frames = parametric_map.PerFrameFunctionalGroupsSequence
    return {source_of(frame): plane for plane, frame in zip(parametric_map.pixel_array, frames, strict=True)}


def marked(segmentation):
    """The planes of all segments together by the image they are from."""
    planes = {}
    pixels = segmentation.pixel_array.reshape(-1, *segmentation.pixel_array.shape[-2:])
    for plane, frame in zip(pixels, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        key = source_of(frame)
        planes[key] = planes.get(key, False) | (plane > 0)
    return planes


@pytest.mark.parametrize("name", SERIES)
def test_frames_lie_where_their_images_lie_and_hold_their_voxels(tmp_path, name):
    axes, step = SERIES[name]
    series = whole_series(tmp_path / "s", ImageOrientationPatient=[float(x) for x in axes], step=np.array(step))
    folder, outcome = exported(series, tmp_path / "out", count=3)
    made, volume, sources = parts(folder), read_volume(series), read_sources(series)
    assert np.allclose(volume.affine, outcome.affine, atol=1e-5)
    own = {str(ds.SOPInstanceUID): ds for ds in map(pydicom.dcmread, series.iterdir())}
    planes, scores = marked(made["seg"]), by_image(made["map"])
    for k, ds in enumerate(sources.datasets):
        plane = planes.get((str(ds.SOPInstanceUID), 0), np.zeros((18, 16), bool))
        assert (plane == (outcome.labels[:, :, k].T > 0)).all()
        assert (scores[str(ds.SOPInstanceUID), 0] == outcome.map[:, :, k].T).all()
    for kind in ("seg", "map"):
        for frame in made[kind].PerFrameFunctionalGroupsSequence:
            place = frame.PlanePositionSequence[0].ImagePositionPatient
            assert as_written(place) == as_written(own[source_of(frame)[0]].ImagePositionPatient)
        assert made[kind].SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient == list(
            axes
        )
        (referenced,) = made[kind].ReferencedSeriesSequence
        assert {item.ReferencedSOPInstanceUID for item in referenced.ReferencedInstanceSequence} == set(own)
    sheared = any("sheared" in text for text in sources.said)
    assert sheared == (name == "tilted") and ("sheared" in made["seg"].ContentDescription) == sheared
    for file in folder.iterdir():
        assert check(file, places_of(sources)) == []


def test_maps_are_the_same_with_the_highdicom_of_slicer(tmp_path):
    """0.27 keeps the order of frames, does not say their images, and asks for a window in other words."""
    sources = read_sources(whole_series(tmp_path / "s", 3))
    outcome = outcome_of(sources)
    made = objects(sources, outcome, ("map",))["map"]
    before = by_image(made)
    for frame in made.PerFrameFunctionalGroupsSequence:
        frame.DerivationImageSequence = []
    maps._along_the_normal(made, np.ascontiguousarray(outcome.map.transpose(2, 1, 0)), sources)
    maps._say_sources(made, sources)
    after = by_image(made)
    assert list(after) == list(before) and all((after[key] == before[key]).all() for key in before)

    class Old:
        def __init__(self, window_center, window_width):
            pass

    assert maps._window(Old, 2.0, 4.0) == {"window_center": 2.0, "window_width": 4.0}


def test_measurements_say_volume_scores_side_and_images(tmp_path):
    folder, outcome = exported(whole_series(tmp_path / "s"), tmp_path / "out", count=2)
    made = parts(folder)
    groups = [item for item in walk(made["report"]) if concept(item) == "Measurement Group"]
    assert len(groups) == 2
    for number, (group, finding) in enumerate(zip(groups, outcome.findings, strict=True), start=1):
        numbers = [item for item in walk(group) if item.ValueType == "NUM"]
        values = [float(item.MeasuredValueSequence[0].NumericValue) for item in numbers]
        assert np.allclose(values[:3], [finding["volume_mm3"], finding["peak"], finding["mean"]], rtol=1e-9)
        assert [concept(item) for item in numbers[3:]] == ["Number of the first image", "Number of the last image"]
        assert values[3:] == [1, 1]
        segment = made["seg"].SegmentSequence[number - 1]
        tracking = [item.UID for item in walk(group) if concept(item) == "Tracking Unique Identifier"]
        assert tracking == [segment.TrackingUID] and segment.SegmentNumber == number
        (referenced,) = [item for item in walk(group) if concept(item) == "Referenced Segment"]
        assert referenced.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == made["seg"].SOPInstanceUID
        sides = [item.ConceptCodeSequence[0].CodeMeaning for item in walk(group) if concept(item) == "Laterality"]
        assert sides == {"left": ["Left"], "right": ["Right"]}.get(finding["side"], [])
    kinds = {item.ValueType for item in walk(made["report"])}
    assert not kinds & {"SCOORD", "SCOORD3D"} and "Image Library" not in map(concept, walk(made["report"]))


def walk(item):
    for child in item.get("ContentSequence", []):
        yield child
        yield from walk(child)


def concept(item):
    return item.ConceptNameCodeSequence[0].CodeMeaning if "ConceptNameCodeSequence" in item else ""


def test_each_object_says_what_made_it_and_that_it_is_for_research(tmp_path):
    picture = tmp_path / "case.png"
    draw(picture)
    folder, _ = exported(
        whole_series(tmp_path / "s", BodyPartExamined="HEAD"), tmp_path / "out", "all", picture=picture
    )
    made = parts(folder)
    assert set(made) == {"seg", "report", "map", "picture"}
    assert len({ds.SeriesInstanceUID for ds in made.values()}) == len({ds.SOPInstanceUID for ds in made.values()}) == 4
    named = {item.TextValue for item in walk(made["report"]) if concept(item) == "Algorithm Name"}
    assert named == {"ZSADCLIP Test"}
    for ds in made.values():
        assert ds.SeriesDescription.endswith("RESEARCH ONLY") and ds.Manufacturer == "ZSADCLIP"
        assert (ds.PatientName, ds.PatientID, ds.StudyInstanceUID) == ("Doe^Jane", "4711-PAT", f"{UID}.9")
        assert (ds.ContentDate, ds.ContentTime) == ("20240102", "101112")
    algorithm = made["seg"].SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert algorithm.AlgorithmName == "ZSADCLIP Test"
    assert algorithm.AlgorithmFamilyCodeSequence[0].CodeMeaning == "Artificial Intelligence"
    assert made["seg"].SegmentationType == "BINARY"
    assert "FloatPixelData" in made["map"] and made["map"].ContentQualification == "RESEARCH"
    assert made["map"].ContentCreatorName == "" and made["map"].BodyPartExamined == "HEAD"
    anatomy = made["map"].SharedFunctionalGroupsSequence[0].FrameAnatomySequence[0]
    assert anatomy.AnatomicRegionSequence[0].CodeMeaning == "Brain" and anatomy.FrameLaterality == "U"
    assert made["picture"].BodyPartExamined == "HEAD" and made["picture"].pixel_array.shape == (12, 20, 3)
    report = made["report"]
    assert (report.CompletionFlag, report.VerificationFlag) == ("COMPLETE", "UNVERIFIED")
    assert report.PreliminaryFlag == "PRELIMINARY"


def draw(path):
    from PIL import Image

    Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 20, 3), dtype=np.uint8)).save(path)


@pytest.mark.parametrize(
    ("spoken", "region", "part"), [("brain", "Brain", "BRAIN"), ("human lungs", "Lung", "LUNG"), ("screw", None, "")]
)
def test_terms_come_from_the_object_asked_for(tmp_path, spoken, region, part):
    code, word = region_of(spoken)
    assert (code and code[2], word) == (region, part)
    made = parts(exported(whole_series(tmp_path / "s"), tmp_path / "out", region=spoken)[0])
    segment = made["seg"].SegmentSequence[0]
    named = [item.CodeMeaning for item in segment.get("AnatomicRegionSequence", [])]
    assert named == ([region] if region else []) and spoken in segment.SegmentDescription
    kinds = (segment.SegmentedPropertyCategoryCodeSequence[0], segment.SegmentedPropertyTypeCodeSequence[0])
    assert [kind.CodeValue for kind in kinds] == ["49755003", "52988006"]
    assert made["map"].BodyPartExamined == (part or "WHOLEBODY")


def test_findings_beyond_fifty_are_one_segment_and_none_make_no_segmentation(tmp_path):
    sources = read_sources(whole_series(tmp_path / "s"))
    outcome = outcome_of(sources, 60)
    made = objects(sources, outcome, ("seg",))
    segments = made["seg"].SegmentSequence
    assert [s.SegmentNumber for s in segments] == list(range(1, MOST_SEGMENTS + 1))
    assert segments[-1].SegmentLabel == "Further findings"
    assert sum(f["volume_mm3"] for f in outcome.segments) == pytest.approx(1.8 * 60)
    assert (outcome.numbered > 0).sum() == 60 and (outcome.numbered == MOST_SEGMENTS).sum() == 11
    nothing = objects(sources, outcome_of(sources, 0), ("seg", "report", "map"))
    assert set(nothing) == {"report", "map"} == {name[:-4] for name in names_of("results", 0)}


def test_only_the_findings_given_are_exported(tmp_path):
    from dataclasses import replace

    sources = read_sources(whole_series(tmp_path / "s"))
    outcome = outcome_of(sources, 3)
    some = replace(outcome, findings=[outcome.findings[0], outcome.findings[2]])
    made = objects(sources, some, ("seg", "report"))
    assert [s.SegmentLabel for s in made["seg"].SegmentSequence] == ["Finding 1", "Finding 3"]
    whole = objects(sources, outcome, ("seg",))["seg"]
    assert made["seg"].SOPInstanceUID != whole.SOPInstanceUID


def test_equal_sources_and_results_give_equal_bytes(tmp_path):
    series = whole_series(tmp_path / "s")
    draw(tmp_path / "p.png")
    folders = [exported(series, tmp_path / name, "all", picture=tmp_path / "p.png")[0] for name in ("a", "b")]
    for file in folders[0].iterdir():
        assert file.read_bytes() == (folders[1] / file.name).read_bytes(), file.name
    other = exported(series, tmp_path / "c", count=1)[0]
    uids = [
        {pydicom.dcmread(f / f"{kind}.dcm").SOPInstanceUID for kind in ("seg", "report", "map")}
        for f in (other, folders[0])
    ]
    assert not uids[0] & uids[1]


def test_the_folder_is_private_and_complete_or_absent(tmp_path, monkeypatch):
    series = whole_series(tmp_path / "s")
    folder, outcome = exported(series, tmp_path / "out")
    assert folder == folder_of(tmp_path / "out", "case")
    for path, mode in ((folder.parent, 0o700), (folder, 0o700), (folder / "seg.dcm", 0o600)):
        assert path.stat().st_mode & 0o777 == mode
    left = folder.parent / ".case.0123abcd"
    left.mkdir()
    write, done = exporting._write, []

    def fail(path, ds):
        if done:
            raise OSError(28, "No space left on device")
        done.append(path)
        write(path, ds)

    monkeypatch.setattr(exporting, "_write", fail)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(OutputError, match="No space left"):
        export(folder, read_sources(series), outcome, "results")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert [entry.name for entry in folder.parent.iterdir()] == ["case"]
    with pytest.raises(UsageError, match="needs the picture"):
        export(folder, read_sources(series), outcome, "all")


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 100", "Müller^Jörg"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        ("ISO_IR 192", "Ćwikła^Żaneta"),
        (None, "Doe^Jane"),
    ],
)
def test_names_of_every_alphabet_are_kept(tmp_path, charset, name):
    series = whole_series(tmp_path / "s", 2, SpecificCharacterSet=charset, PatientName=name)
    draw(tmp_path / "p.png")
    made = parts(exported(series, tmp_path / "out", "all", count=1, picture=tmp_path / "p.png")[0])
    for ds in made.values():
        assert ds.SpecificCharacterSet == "ISO_IR 192"
        ds.decode()
        assert str(ds.PatientName) == name


def test_letters_without_a_character_set_are_kept_as_latin(tmp_path):
    series = whole_series(tmp_path / "s", 2, SpecificCharacterSet="ISO_IR 100", PatientName="Müller")
    for file in series.iterdir():
        data = file.read_bytes()
        head = b"\x08\x00\x05\x00CS\n\x00ISO_IR 100"
        assert head in data
        file.write_bytes(data.replace(head, b""))
    assert str(parts(exported(series, tmp_path / "out", count=1)[0])["seg"].PatientName) == "Müller"


def test_a_header_stripped_to_the_bone_will_do(tmp_path):
    series = whole_series(tmp_path / "s", 3)
    for file in series.iterdir():
        ds = pydicom.dcmread(file)
        for name in [*IDENTITY, "PatientName", "PatientID", "SliceThickness", "SeriesDescription", "Modality"]:
            del ds[name]
        ds.save_as(file)
    folder, _ = exported(series, tmp_path / "out", count=1)
    made = parts(folder)
    assert all(made["seg"][name].is_empty for name in PATIENT)
    assert made["seg"].SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness == 2.5
    assert made["seg"].FrameOfReferenceUID == made["map"].FrameOfReferenceUID
    assert (
        made["seg"].FrameOfReferenceUID.startswith("2.25.") and "frame of reference" in made["seg"].ContentDescription
    )
    assert made["seg"].ContentDate == "19000101"
    assert [check(file) for file in folder.iterdir()] == [[]] * 3


def test_identity_is_copied_as_it_is_and_only_what_cannot_be_is_emptied(tmp_path):
    odd = {"PatientID": "X" * 70, "PatientBirthDate": "19700000", "StudyTime": "10:11:12", "PatientSex": "W"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        series = whole_series(tmp_path / "s", 2, **odd)
    sources = read_sources(series)
    made = parts(exported(series, tmp_path / "out", count=1)[0])["seg"]
    assert made.PatientID == "X" * 70
    assert made["PatientBirthDate"].is_empty and made["PatientSex"].is_empty and made["StudyTime"].is_empty
    assert sum("left empty" in text for text in sources.said) == 3
    assert not any(value in text for text in sources.said for value in ("19700000", "10:11:12"))


@pytest.mark.parametrize("harm", ["deleted", "emptied", "damaged"])
def test_no_header_element_breaks_more_than_its_case(tmp_path, harm):
    """Each in turn (scripts/check/dicom_headers: in sequences, too): good objects, or an error of ours that says why."""
    refused = []
    for name in TAGS:
        series = whole_series(tmp_path / "s", 2)
        for file in series.iterdir():
            ds = pydicom.dcmread(file)
            if name not in ds and harm == "deleted":
                continue
            spoil(ds, name, harm)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ds.save_as(file, enforce_file_format=False)
        try:
            sources = read_sources(series)
            made = objects(sources, outcome_of(sources, 1), ("seg",))
            assert made["seg"].NumberOfFrames == 1
        except InputError as error:
            refused.append(name)
            assert str(error).count("\n") == 0
        shutil.rmtree(series)
    places = {"ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns"}
    uids = {"SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"}
    odd = {"NumberOfFrames", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "ImageType"}
    assert set(refused) <= places | uids | odd
    assert harm == "damaged" or {"ImagePositionPatient", "StudyInstanceUID", "PixelSpacing"} <= set(refused)


def test_a_grid_that_is_not_the_series_is_refused(tmp_path):
    from dataclasses import replace

    sources = read_sources(whole_series(tmp_path / "s"))
    outcome = outcome_of(sources)
    moved = outcome.affine.copy()
    moved[2, 3] += 0.01
    with pytest.raises(InputError, match="lies elsewhere"):
        objects(sources, replace(outcome, affine=moved), ("seg",))


def test_missing_slices_and_several_volumes_keep_their_places(tmp_path):
    series = whole_series(tmp_path / "s", skip=(2,))
    folder, _ = exported(series, tmp_path / "out")
    assert [check(file, places_of(read_sources(series))) for file in folder.iterdir()] == [[]] * 3
    whole_series(tmp_path / "s", 4, EchoTime=80.0, prefix="e", uid=f"{UID}.2")
    with pytest.raises(InputError, match="choose with --series"):
        read_sources(series)
    assert {read_sources(series, number).shape[2] for number in "12"} == {4, 5}


def enhanced(path, frames=6, volumes=1, **tags):
    """An enhanced file whose frames say all themselves, with private elements among it, as some makers write."""
    measures = {"PixelSpacing": [0.9, 0.8], "SliceThickness": 2.5}
    each = []
    for n in range(frames * volumes):
        echo = {"MREchoSequence": {"EffectiveEchoTime": 10.0 * (n % volumes + 1)}} if volumes > 1 else {}
        turned = {"ImageOrientationPatient": [1.0, 0, 0, 0, 1.0, 0]}
        each.append({"PixelMeasuresSequence": measures, "PlaneOrientationSequence": turned, **echo})
    planes = np.random.default_rng(1).integers(0, 900, (frames * volumes, 18, 16))
    write_enhanced(path, planes, [n // volumes for n in range(frames * volumes)], each, **{**IDENTITY, **tags})
    ds = pydicom.dcmread(path)
    shared = ds.SharedFunctionalGroupsSequence[0]
    del shared.PixelMeasuresSequence, shared.PlaneOrientationSequence
    for item in (shared, *ds.PerFrameFunctionalGroupsSequence):
        item.private_block(0x0021, "SOMEBODY", create=True).add_new(0x01, "LO", "private")
    ds.save_as(path)
    return path


@pytest.mark.parametrize(("volumes", "series"), [(1, None), (2, "2")])
def test_enhanced_files_say_which_frame_is_meant(tmp_path, volumes, series):
    path = enhanced(tmp_path / "e" / "f.dcm", volumes=volumes)
    folder, outcome = exported(path.parent, tmp_path / "out", volume=series)
    made, sources = parts(folder), read_sources(path.parent, series)
    assert sources.frames == tuple(range(volumes - 1, 6 * volumes, volumes))
    assert np.allclose(read_volume(path.parent, series=series).affine, outcome.affine)
    planes, scores = marked(made["seg"]), by_image(made["map"])
    for k, n in enumerate(sources.frames):
        assert (scores[str(sources.first.SOPInstanceUID), n + 1] == outcome.map[:, :, k].T).all()
        plane = planes.get((str(sources.first.SOPInstanceUID), n + 1), np.zeros((18, 16), bool))
        assert (plane == (outcome.labels[:, :, k].T > 0)).all()
    assert [check(file, places_of(sources)) for file in folder.iterdir()] == [[]] * 3


def test_what_objects_cannot_refer_to_is_refused(tmp_path):
    write_mosaic(tmp_path / "m" / "a", brain(4))
    with pytest.raises(InputError, match="mosaic"):
        read_sources(tmp_path / "m")
    path = enhanced(tmp_path / "e" / "f.dcm")
    ds = pydicom.dcmread(path)
    ds.PerFrameFunctionalGroupsSequence[2].PixelMeasuresSequence[0].SliceThickness = 3.0
    ds.save_as(path)
    with pytest.raises(InputError, match="differ in PixelMeasuresSequence"):
        read_sources(path.parent)
    series = whole_series(tmp_path / "s", 3, StudyInstanceUID=lambda k: f"1.2.{k}")
    with pytest.raises(InputError, match="differ in StudyInstanceUID"):
        read_sources(series)
    write_object(tmp_path / "o" / "sr.dcm", "1.2.840.10008.5.1.4.1.1.88.33")
    with pytest.raises(InputError, match="no DICOM series"):
        read_sources(tmp_path / "o")


@pytest.mark.parametrize(
    "syntax", ["RLELossless", "JPEGLSLossless", "ImplicitVRLittleEndian", "DeflatedExplicitVRLittleEndian"]
)
def test_packed_sources_give_the_same_objects(tmp_path, syntax):
    series = whole_series(tmp_path / "s", 3)
    plain = exported(series, tmp_path / "a")[0]
    for file in series.iterdir():
        ds = pydicom.dcmread(file)
        uid = getattr(pydicom.uid, syntax)
        if uid.is_compressed:
            ds.compress(uid, generate_instance_uid=False)
        ds.file_meta.TransferSyntaxUID = uid
        ds.save_as(file)
    packed = exported(series, tmp_path / "b")[0]
    for file in plain.iterdir():
        assert file.read_bytes() == (packed / file.name).read_bytes()


def test_the_reader_ignores_our_objects_beside_the_series(tmp_path):
    series = whole_series(tmp_path / "s")
    before = read_volume(series)
    draw(tmp_path / "p.png")
    folder, _ = exported(series, tmp_path / "out", "all", picture=tmp_path / "p.png")
    for file in folder.iterdir():
        shutil.copy(file, series / f"ours-{file.name}")
    after = read_volume(series)
    assert (after.array == before.array).all() and (after.affine == before.affine).all()
    left = scan(series).left
    assert left == {"segmentation": 1, "structured report": 1, "parametric map": 1, "secondary capture": 1}
    assert len(scan(series).groups) == 1


def test_check_finds_what_is_wrong(tmp_path):
    series = whole_series(tmp_path / "s")
    folder, _ = exported(series, tmp_path / "out", count=2)

    def after(kind, change):
        ds = pydicom.dcmread(folder / f"{kind}.dcm")
        change(ds)
        ds.save_as(tmp_path / "x.dcm", enforce_file_format=True)
        return " ".join(check(tmp_path / "x.dcm", places_of(read_sources(series))))

    def second(ds):
        ds.SegmentSequence[1].SegmentNumber = 3

    def moved(ds):
        ds.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient = [1, 2, 3]

    assert "numbered" in after("seg", second) and "do not have the place" in after("seg", moved)
    assert "no UID" in after("seg", lambda ds: setattr(ds, "SeriesInstanceUID", "1.02"))
    assert "PatientSex" in after("report", lambda ds: delattr(ds, "PatientSex"))
    assert "RESEARCH ONLY" in after("report", lambda ds: setattr(ds, "SeriesDescription", "x"))
    assert "verified" in after("report", lambda ds: setattr(ds, "VerificationFlag", "VERIFIED"))
    assert "crashes" in after("map", lambda ds: delattr(ds.SharedFunctionalGroupsSequence[0], "FrameAnatomySequence"))

    def backwards(ds):
        ds.PerFrameFunctionalGroupsSequence = list(ds.PerFrameFunctionalGroupsSequence)[::-1]

    assert "mirror" in after("map", backwards)
    (tmp_path / "x.dcm").write_bytes((folder / "seg.dcm").read_bytes()[:-9])
    assert "the file is cut off" in check(tmp_path / "x.dcm")
    (tmp_path / "no.dcm").write_bytes(b"no DICOM")
    with pytest.raises(InputError, match="no DICOM file"):
        check(tmp_path / "no.dcm")
