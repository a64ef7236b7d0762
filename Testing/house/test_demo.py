"""The demo on a small volume with its truth: what it prints, and what it leaves behind."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from ZSADCLIPLib.synthetic.brains import make_case
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.reading import write_volume

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "make" / "demo.py"


def demo(start, *arguments):
    environment = os.environ | {"PYTHONPATH": str(SCRIPT.parents[2])}
    command = [sys.executable, str(SCRIPT), "--from", str(start), "--output", "out", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800)


def test_the_demo_marks_the_lesions_and_says_so(tmp_path):
    case = make_case(5002)
    held = np.flatnonzero((case.seg.array > 0).any((0, 1)))
    rows = slice(int(held[len(held) // 2]) - 3, int(held[len(held) // 2]) + 3)
    for name, volume in (("t2w", case.volumes["t2w"]), ("seg", case.seg)):
        write_volume(tmp_path / f"{name}.nii.gz", Volume(np.ascontiguousarray(volume.array[:, :, rows]), volume.affine))
    (tmp_path / "case.csv").write_text("id,image,mask\nsmall,t2w.nii.gz,seg.nii.gz\n")
    run = demo(tmp_path, "--input", "case.csv")
    assert run.returncode == 0, run.stderr
    dice = float(re.search(r"^Dice (\d\.\d\d) against", run.stdout, re.M)[1])
    assert dice > 0.6 and "Research use only" in run.stdout
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"index.html", "small.json", "small.png", "small_anomaly.nii.gz", "small_mask.nii.gz"} <= made
    assert '<img src="small.png"' in (tmp_path / "out" / "index.html").read_text("utf-8")


def test_a_missing_file_is_named(tmp_path):
    run = demo(tmp_path, "--input", "nothing.nii.gz")
    assert run.returncode == 1 and "nothing.nii.gz" in run.stderr and "Traceback" not in run.stderr
