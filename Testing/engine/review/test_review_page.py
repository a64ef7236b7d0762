"""The review page's files: what is in them, what is not, and how large they are."""

import base64
import gzip
import json
import re

import nibabel
import numpy as np
import pytest
from conftest import affine
from review_run import THRESHOLD, image_and_map, review_run

from ZSADCLIPLib.errors import InputError, UsageError
from ZSADCLIPLib.jobs.review import Review
from ZSADCLIPLib.review.finished import finished_cases
from ZSADCLIPLib.review.pack import brain_alone, cut, pack_image, pack_map, strides, thinned
from ZSADCLIPLib.review.page import NIIVUE_SHA256, niivue, script_json
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.reading import write_volume


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return review_run(tmp_path_factory.mktemp("run"), pictures=True)


def payload(path) -> dict:
    """What a script of the page hands over."""
    return json.loads(re.search(r"[=(] ?(\{.*\})\)?;$", path.read_text(), re.S)[1])


def unpacked(text: str) -> tuple[np.ndarray, np.ndarray, dict]:
    """(codes, values, header fields) of a packed volume."""
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))
    return np.asarray(image.dataobj.get_unscaled()), image.get_fdata(), image.header


def test_a_page_is_whole_and_small(run, tmp_path):
    out, images = run
    notes = []
    job = Review(str(out), (str(images["first"].parent),), page=str(tmp_path / "Seite ä b"))
    result = job.run(report=notes.append)
    page = tmp_path / "Seite ä b"
    assert result == {"cases": 2, "page": str(page / "index.html"), "bytes": result["bytes"]} and not notes
    assert result["bytes"] < 3_000_000
    html = (page / "index.html").read_text("utf-8")
    wanted = re.findall(r'(?:src|href)="([^":]+)"', html)
    assert len(wanted) == 7 and not [name for name in wanted if not (page / name).is_file()]
    assert not re.search(
        r"https?://", html + (page / "app.js").read_text("utf-8") + (page / "review.css").read_text("utf-8")
    )
    entries = payload(page / "run.js")
    assert [case["id"] for case in entries["cases"]] == ["first", "second"] and entries["blind"] is False
    assert (page / "pictures" / "first.png").is_file() and "BSD 2-Clause" in (page / "LICENSES.txt").read_text()
    job.run()  # once more, over the first
    assert (page / "run.js").is_file()


def test_the_page_of_a_case_holds_exact_numbers(run, tmp_path):
    out, images = run
    Review(str(out), (str(images["first"]),), ("first",), str(tmp_path / "page")).run()
    data, case = payload(tmp_path / "page" / "cases" / "first.js"), finished_cases(out)[0]
    codes, values, header = unpacked(data["map"]["nifti"])
    map = case.map()
    assert np.array_equal(codes >= 0, map.array >= THRESHOLD) and np.array_equal(codes >= 0, case.mask().array > 0)
    assert np.abs(values - map.array).max() <= 1.01 * data["map"]["slope"] < 1e-4
    assert np.allclose(header.get_best_affine(), map.affine) and not bytes(header["descrip"]).strip(b"\0")
    _, shown, _ = unpacked(data["image"]["nifti"])
    assert np.array_equal(shown, image_and_map(0)[0].array)
    assert [each["rank"] for each in data["findings"]] == [1, 2, 3] and data["seal"] == case.seal


def test_a_blind_page_holds_no_score(run, tmp_path):
    out, images = run
    Review(str(out), (str(images["first"].parent),), page=str(tmp_path), blind=True).run()
    text = (tmp_path / "cases" / "first.js").read_text() + (tmp_path / "run.js").read_text()
    data = payload(tmp_path / "cases" / "first.js")
    assert data["map"] is None and data["threshold"] is None and not (tmp_path / "pictures").exists()
    assert set(np.unique(unpacked(data["mask"]["nifti"])[0])) == {0, 1}
    for finding in finished_cases(out)[0].facts["findings"]:
        assert f"{finding['peak']}" not in text and f"{finding['mean']}" not in text
    assert {each["rank"] for each in data["findings"]} == {None}


def test_images_are_known_by_their_content(run, tmp_path):
    out, images = run
    with pytest.raises(InputError, match="second is not among the inputs"):
        Review(str(out), (str(images["first"]),)).run()
    with pytest.raises(UsageError, match="--images"):
        Review(str(out)).run()
    with pytest.raises(UsageError, match="no finished case third; it has first, second"):
        Review(str(out), cases=("third",)).run()
    renamed = tmp_path / "other.nii.gz"
    renamed.write_bytes(images["first"].read_bytes())
    result = Review(str(out), (str(renamed),), ("first",), str(tmp_path / "page")).run()
    assert result["cases"] == 1
    with pytest.raises(InputError, match="no finished case"):
        Review(str(tmp_path), (str(renamed),)).run()


def test_a_changed_map_and_a_foreign_folder_are_refused(tmp_path):
    out, images = review_run(tmp_path, ("one",))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").touch()
    with pytest.raises(UsageError, match="something else"):
        Review(str(out), (str(images["one"]),), page=str(tmp_path / "mine")).run()
    write_volume(out / "one_anomaly.nii.gz", image_and_map(3)[1])
    with pytest.raises(InputError, match="not the file that the run wrote"):
        Review(str(out), (str(images["one"]),)).run()


def test_no_markup_ends_a_script():
    assert "<" not in script_json({"note": "</script><b>"}) and "\u2028" not in script_json("\u2028")
    assert json.loads(script_json("</script>")) == "</script>"


def test_an_id_that_is_no_file_name_is_no_case(run, tmp_path):
    facts = json.loads((run[0] / "first.json").read_text()) | {"id": "a<b>"}
    (tmp_path / "a<b>.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match="no finished case"):
        finished_cases(tmp_path)


def test_the_viewer_is_the_pinned_one():
    data = niivue()
    assert len(data) == 2_284_381 and NIIVUE_SHA256.startswith("47b896b7") and b'"use strict"' in data[:400]


@pytest.mark.parametrize("values", [(0.0, 1.0), (-5.0, 5.0), (2.0, 2.0)])
def test_the_threshold_divides_the_codes_exactly(rng, values):
    map = Volume(rng.uniform(*values, (9, 8, 7)).astype(np.float32), affine())
    for threshold in (float(map.array[4, 4, 4]), values[0] - 1, values[1] + 1):
        packed = pack_map(map, threshold)
        codes, _, _ = unpacked(base64.b64encode(packed.nifti))
        assert np.array_equal(codes >= 0, map.array >= threshold)


def test_images_keep_whole_numbers_and_enough_greys(rng):
    for dtype, low, high in ((np.int16, -1024, 3071), (np.uint16, 0, 65535), (np.uint8, 0, 255)):
        image = Volume(rng.integers(low, high, (6, 5, 4), endpoint=True).astype(dtype), affine())
        assert np.array_equal(unpacked(base64.b64encode(pack_image(image).nifti))[1], image.array)
    bright = rng.uniform(0, 100, (40, 40, 40)).astype(np.float32)
    bright[0, 0, 0] = 1e6
    packed = pack_image(Volume(bright, affine()))
    assert packed.slope < 0.06
    shown = unpacked(base64.b64encode(packed.nifti))[1]
    assert np.abs(shown - np.minimum(bright, shown.max())).max() < packed.slope


def test_huge_volumes_are_thinned_and_keep_their_peaks():
    assert strides((512, 512, 150)) == (1, 1, 1) and strides((256, 256, 2049)) == (1, 1, 3)
    shape = np.array((1000, 1000, 600))
    assert np.prod(np.ceil(shape / strides(tuple(shape)))) <= 48e6
    array = np.zeros((9, 6, 5), np.float32)
    array[4, 3, 1] = 1
    volume = Volume(array, affine((1, 1, 2)))
    small = thinned(volume, (3, 2, 2), peaks=True)
    assert small.shape == (3, 3, 3) and np.argwhere(small.array).tolist() == [[1, 1, 0]] and small.spacing == (3, 2, 4)
    assert thinned(volume, (1, 1, 1)) is volume


def test_crop_brain_leaves_the_brain_alone():
    image, map = image_and_map()
    shown, *box = brain_alone(image, map.with_array(np.where(map.array > 0.75, map.array, 0)))
    part = cut(shown, tuple(box))
    assert (shown.array[0, 0] == 0).all() and 0 < part.array.size < shown.array.size
    corner = [span.start for span in box]
    assert np.allclose(part.affine[:3, 3], image.affine[:3, :3] @ corner + image.affine[:3, 3])
    with pytest.raises(InputError, match="does not say where the brain is"):
        brain_alone(image, map.with_array(np.random.default_rng(0).random(map.shape)))
