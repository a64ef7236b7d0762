"""What the embedded model says in words: the brain of a whole head, and the sequence."""

from dataclasses import replace

import numpy as np
import pytest
from small_models import backbone

from ZSADCLIPLib import load_adapter
from ZSADCLIPLib.backbones.words import BRAIN, LESIONS, TISSUES
from ZSADCLIPLib.detection import anatomy
from ZSADCLIPLib.detection.anatomy import brain_by_words, sequence_by_words, word_vectors
from ZSADCLIPLib.detection.detector import Detector
from ZSADCLIPLib.detection.preparation import Look
from ZSADCLIPLib.errors import InputError, UsageError
from ZSADCLIPLib.evaluation.metrics import confusion, scores
from ZSADCLIPLib.jobs.brain import FindBrain
from ZSADCLIPLib.progress import Cancelled
from ZSADCLIPLib.synthetic.brains import make_case
from ZSADCLIPLib.synthetic.mri.scans import make_scan
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.hounsfield import is_hounsfield
from ZSADCLIPLib.volumes.reading import read_volume, write_volume
from ZSADCLIPLib.volumes.skull import has_skull


@pytest.fixture(scope="module")
def model():
    return anatomy.taught_model("cpu")


def every(volume, step):
    """Every `step`-th axial slice, so that a test takes seconds."""
    return Volume(volume.array[:, :, ::step], volume.affine @ np.diag([1, 1, step, 1]), volume.name)


@pytest.fixture(scope="module")
def head():
    """A whole head of the mri world in axial slices, its first channel, and its brain."""
    for seed in range(5800, 5900):
        case = make_scan(seed, ("t2w",), head=True)
        if case.record["storage"][2] in "SI" and not case.record["partial"]:
            step = max(1, round(9 / case.record["spacing_mm"][2]))
            tissue = case.tissue.array[:, :, ::step]
            return every(case.volumes["t2w"], step), (tissue > 0) & (tissue <= 3)
    raise AssertionError("no such seed")


def test_lesions_lie_in_the_brain_and_skulls_do_not():
    assert set(LESIONS) < set(BRAIN) < set(TISSUES) and "bone" not in BRAIN and "background" not in BRAIN


def noise(side):
    """Air that is measured, which only heads have around them."""
    array = np.random.default_rng(0).integers(1, 500, (side, side, side)).astype(np.int16)
    return Volume(array, np.diag([2.0, 2, 2, 1]), "noise")


def test_a_head_too_small_for_a_brain_is_not_looked_at(monkeypatch):
    monkeypatch.setattr(anatomy, "brain_by_words", lambda *_: pytest.fail("its slices were encoded"))
    found, note = anatomy.brain_of_head(anatomy.taught_model("cpu"), Look(), noise(20), 8)
    assert found is None and note.code == "brain-unknown" and "a whole head of 64 ml, too small" in note.text


def test_words_are_encoded_once_and_looking_for_the_brain_can_be_cancelled(monkeypatch):
    model, told = anatomy.taught_model("cpu"), []
    anatomy.taught_vectors("cpu", True)
    monkeypatch.setattr(type(model), "encode_sentences", lambda *_: pytest.fail("words were encoded again"))

    def progress(fraction, text, done=None, total=None):
        told.append(done)
        if done:
            raise Cancelled

    with pytest.raises(Cancelled):
        anatomy.brain_of_head(model, Look(), noise(40), 1, progress)
    assert told == [0, 1]


def test_words_have_unit_vectors(model):
    vectors = word_vectors(model, TISSUES)
    assert vectors.shape == (len(TISSUES), model.embed_dim)
    assert np.allclose(vectors.norm(dim=1), 1, atol=1e-5)


def test_the_brain_of_a_whole_head(model, head):
    volume, brain = head
    found = brain_by_words(model, Look("axial").prepare(volume, 240), 8)
    assert found.shape == volume.shape and scores(confusion(found, brain))["dice"] > 0.85


def test_of_thin_slices_few_are_looked_at_and_the_others_lie_between_them(model, monkeypatch):
    head, seen = Volume(np.random.default_rng(0).uniform(1, 9, (40, 40, 31)).astype(np.float32), np.eye(4)), []

    def run(backbone, slices, rows, batch, score, keep, progress):
        seen.extend(rows.tolist())
        keep(rows, [np.broadcast_to((rows / 30.0)[:, None, None], slices[rows].shape)])

    monkeypatch.setattr(anatomy, "run_batches", run)
    found = brain_by_words(model, replace(Look("axial").prepare(head, 240), brain=np.ones((40, 40, 31), bool)), 8)
    assert seen == [0, 4, 8, 12, 16, 20, 24, 28, 30]
    assert np.flatnonzero(found.any(axis=(0, 1))).tolist() == list(range(16, 31)) and found[:, :, 16:].all()


@pytest.mark.parametrize("channel", ["t2w", "t2f"])
def test_the_sequence(model, channel):
    case = make_case(5301, channels=(channel,))
    told, share = sequence_by_words(model, Look("axial").prepare(every(case.volumes[channel], 8), 240))
    assert told == channel and 0.5 < share <= 1


def test_the_job_writes_the_brain_that_detection_takes(head, tmp_path):
    volume, brain = head
    write_volume(tmp_path / "head.nii", volume)
    told = FindBrain(str(tmp_path / "head.nii"), str(tmp_path / "brain.nii"), "cpu").run()
    found = read_volume(tmp_path / "brain.nii").array > 0
    assert scores(confusion(found, brain))["dice"] > 0.85 and "words of anatomy" in told["note"]
    assert told["ml"] == pytest.approx(found.sum() * np.prod(volume.spacing) / 1000)


def test_the_job_takes_what_is_not_background_of_a_stripped_brain_and_refuses_a_small_head(tmp_path):
    array = np.zeros((20, 24, 16), np.int16)
    array[4:16, 5:19, 3:13] = np.random.default_rng(0).integers(100, 200, (12, 14, 10))
    for name, volume in (("brain", Volume(array, np.eye(4))), ("noise", noise(20))):
        write_volume(tmp_path / f"{name}.nii", volume)
    job = FindBrain(str(tmp_path / "brain.nii"), str(tmp_path / "mask.nii"), "cpu")
    assert job.run()["note"] == "" and np.array_equal(read_volume(tmp_path / "mask.nii").array > 0, array > 0)
    with pytest.raises(InputError, match="too small to hold a brain"):
        replace(job, image=str(tmp_path / "noise.nii")).run()


def test_detection_scores_the_brain_of_a_whole_head_and_says_so(model, head):
    adapter = load_adapter("vand:random:1", model)
    volume, brain = head
    found, whole = (Detector(model, adapter, plane="axial", brain=b).detect(volume) for b in ("auto", "image"))
    notes = {note.code: note.text for note in found.notes}
    assert "are the brain by the model's words" in notes["brain"]
    assert "brain" not in {note.code for note in whole.notes} and whole.brain.sum() > found.brain.sum()
    assert not found.mask.array[~found.brain].any() and (found.map.array[~found.brain] == found.map.array.min()).all()
    assert scores(confusion(found.brain, brain))["dice"] > 0.85


def test_any_backbone_gets_the_brain_but_another_object_keeps_all(head):
    small = backbone()
    brain, liver = (
        Detector(small, load_adapter("vand:random:1", small, {"object_name": name}), 64, plane="axial").detect(head[0])
        for name in ("brain", "liver")
    )
    assert "brain" in {note.code for note in brain.notes}
    assert "brain" not in {note.code for note in liver.notes} and liver.brain.sum() > brain.brain.sum()


def test_another_choice_is_refused(model):
    with pytest.raises(UsageError, match="brain 'skull' is unknown; choose auto or image"):
        Detector(model, load_adapter("vand:random:1", model), brain="skull")


def test_a_ct_head_is_not_asked_about_in_words_of_mri(rng):
    x, y, z = np.ogrid[-1:1:60j, -1:1:60j, -1:1:12j]
    depth = np.sqrt(x**2 + y**2 + 0.2 * z**2)
    array = np.where(depth < 0.7, 40.0, np.where(depth < 0.85, 900.0, -1000.0)) + rng.normal(0, 8, depth.shape)
    volume = Volume(array.astype(np.float32), np.diag([3.0, 3, 10, 1]), "ct")
    assert is_hounsfield(volume.array) and has_skull(volume)
    small = backbone()
    found = Detector(small, load_adapter("vand:random:1", small), 64, plane="axial").detect(volume)
    assert not {"brain", "brain-unknown"} & {note.code for note in found.notes}
    assert found.provenance["preprocessing"]["sequence"] is None
