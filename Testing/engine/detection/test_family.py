"""The adapter that fits a volume's sequence is used, and the result says so."""

import numpy as np
import pytest
from small_models import backbone

from ZSADCLIPLib.adapters.checkpoint import load_adapter
from ZSADCLIPLib.detection.detector import Detector
from ZSADCLIPLib.detection.family import DetectorFamily, looks_like
from ZSADCLIPLib.errors import WeightsError
from ZSADCLIPLib.jobs.detect import Detect
from ZSADCLIPLib.synthetic.brains import make_case
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.reading import write_volume


@pytest.fixture(scope="module")
def case():
    return make_case(7300, channels=("t2w", "t2f"))


@pytest.fixture(scope="module")
def family():
    model = backbone()
    usual, flair = (Detector(model, load_adapter(f"vand:random:{n}", model), image_size=64) for n in (1, 2))
    return DetectorFamily(usual, {"t2f": flair})


def thin(volume):
    """Every 15th slice, so that a test takes seconds."""
    return Volume(volume.array[:, :, ::15], volume.affine @ np.diag([1, 1, 15, 1]), "x")


def test_sequences_are_told_without_a_mask(case):
    assert looks_like(case.volumes["t2w"]) == "t2w" and looks_like(case.volumes["t2f"]) == "t2f"
    noise = np.random.default_rng(0).normal(50, 9, (20, 20, 20))
    assert looks_like(Volume(noise, np.eye(4))) is None
    assert looks_like(Volume(np.zeros((20, 20, 20)), np.eye(4))) is None


@pytest.mark.parametrize(("channel", "chosen"), [("t2w", "usual"), ("t2f", "t2f")])
def test_the_one_for_the_sequence_scores(case, family, channel, chosen):
    volume = thin(case.volumes[channel])
    found = family.detect(volume)
    expected = {"usual": family.usual, **family.others}[chosen].detect(volume)
    assert np.array_equal(found.map.array, expected.map.array)
    codes = [note.code for note in found.notes]
    assert ("adapter" in codes) == (chosen != "usual")


@pytest.mark.parametrize(("sequence", "codes"), [("auto", ["adapter"]), ("t2f", []), ("t2w", ["world"])])
def test_the_embedded_adapter_for_flair_is_taken_unless_another_is_named(case, tmp_path, sequence, codes):
    write_volume(tmp_path / "x.nii", thin(case.volumes["t2f"]))
    rows, job = (
        [],
        Detect((str(tmp_path / "x.nii"),), str(tmp_path / "out"), sequence=sequence, image_size=96, pictures=False),
    )
    job.run(report=lambda event: rows.append(event) if event["event"] == "case" else None)
    (row,) = rows
    told = [note["code"] for note in row.get("notes", []) if note["code"] in ("adapter", "world")]
    assert row["status"] == "done" and told == codes, row


@pytest.mark.parametrize("more", [{"method": "anomalyclip"}, {"checkpoint": "vand:random"}])
def test_a_sequence_that_no_adapter_is_for_is_refused(case, tmp_path, more):
    write_volume(tmp_path / "x.nii", thin(case.volumes["t2f"]))
    job = Detect((str(tmp_path / "x.nii"),), str(tmp_path / "out"), sequence="t2f", image_size=96, **more)
    with pytest.raises(WeightsError, match="sequence t2f: .*; leave --sequence out"):
        job.run()


def test_all_remember_normal_volumes(case, family):
    family.remember(thin(case.volumes["t2w"]))
    for detector in (family.usual, *family.others.values()):
        assert detector.adapter.memory
