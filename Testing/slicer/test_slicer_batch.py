"""The script for many volumes without a window."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from slicer_cases import fake

pytest_plugins = ["slicer_fixtures"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path, slicer_env):
    """Two heads as files, and one that is no volume."""
    import nibabel

    for number, size in enumerate((24, 28)):
        array = np.zeros((size, size, 12), np.float32)
        array[4:-4, 4:-4, 2:-2] = 400 + 10 * number
        array[8:12, 8:12, 4:8] = 1000
        nibabel.save(nibabel.Nifti1Image(array, np.diag([4, 4, 4, 1.0])), tmp_path / f"head{number}.nii.gz")
    (tmp_path / "broken.nii").write_bytes(b"no volume")
    return tmp_path


def test_a_folder_becomes_files_and_a_broken_volume_does_not_stop_it(folder, capsys):
    import slicer
    from ZSADCLIPSlicer import batch

    out = folder / "out"
    assert batch.main([str(folder), "-o", str(out)], command=fake()) == batch.SOME_FAILED
    names = {path.name for path in out.iterdir()}
    ends = ("_anomaly.nrrd", "_findings.seg.nrrd", "_findings.csv", ".json", ".mrb")
    assert names == {f"head{n}{end}" for n in (0, 1) for end in ends}
    facts = json.loads((out / "head0.json").read_text(encoding="utf-8"))
    assert facts["method"] == "vand" and facts["findings"] and "research use only" in facts["use"]
    assert "2 of 3 volumes" in capsys.readouterr().out
    assert not slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    scores = slicer.vtkMRMLNRRDStorageNode()
    scores.SetFileName(str(out / "head1_anomaly.nrrd"))
    node = slicer.vtkMRMLScalarVolumeNode()
    assert scores.ReadData(node) and node.GetImageData().GetDimensions() == (28, 28, 12)


def test_what_cannot_be_used_is_said_before_any_work(tmp_path, slicer_env, capsys):
    from ZSADCLIPSlicer import batch

    assert batch.main([str(tmp_path / "nothing"), "-o", str(tmp_path / "out")]) == batch.UNUSABLE
    assert batch.main([str(tmp_path)]) == batch.UNUSABLE  # no -o
    assert not (tmp_path / "out").exists()
    assert "-o" in capsys.readouterr().err


def test_an_interrupt_stops_the_engine_and_says_how_far_it_got(folder, monkeypatch, capsys):
    from ZSADCLIPSlicer import batch
    from ZSADCLIPSlicer.engine.run import EngineRun

    (folder / "broken.nii").unlink()
    runs = []

    def interrupted(self, *_):
        runs.append(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(EngineRun, "wait", interrupted)
    assert batch.main([str(folder), "-o", str(folder / "out")], command=fake("slow")) == batch.CANCELLED
    assert len(runs) == 1 and runs[0].done
    assert "0 of 2 volumes are done" in capsys.readouterr().out


def test_the_script_ends_slicer_with_its_code(tmp_path):
    """Which would go on with an empty scene otherwise."""
    code = (
        "import sys, types, runpy\n"
        "ended = []\n"
        "slicer = types.ModuleType('slicer'); slicer.util = types.SimpleNamespace(exit=ended.append)\n"
        "package = types.ModuleType('ZSADCLIPSlicer')\n"
        "package.batch = types.SimpleNamespace(main=lambda arguments: len(arguments))\n"
        "sys.modules.update(slicer=slicer, ZSADCLIPSlicer=package)\n"
        f"sys.argv = ['slicer_batch.py', 'a', '-o', 'b']\n"
        f"runpy.run_path({str(ROOT / 'scripts' / 'slicer_batch.py')!r}, run_name='__main__')\n"
        "print(ended)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[3]", done.stderr
