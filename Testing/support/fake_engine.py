"""A child process that speaks the engine's protocol without a model: brightness is the anomaly score.

Run as `fake_engine.py JOB.json BEHAVIOUR`: "quick", "slow" (a slice every 30 ms, cancellable), "deaf" (never answers a
cancel and has a child of its own), "memory" (out of memory unless the batch is 1), "memory-always", "crash",
"missing" (a package), "doubtful" (unless the extent is allowed), "broken".
"""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np


def say(**event):
    print(json.dumps(event), flush=True)


def main(job_path, behaviour):
    job = json.loads(Path(job_path).read_text(encoding="utf-8"))
    stop = threading.Event()
    if behaviour != "deaf":
        threading.Thread(target=lambda: (sys.stdin.readline(), stop.set()), daemon=True).start()
    say(event="started", pid=os.getpid())
    if behaviour == "crash":
        print("ImportError: no module named wonder", file=sys.stderr)
        return 3
    if behaviour.startswith("memory") and (job["batch_size"] != 1 or behaviour == "memory-always"):
        say(event="error", kind="OutOfMemoryError", message="CUDA out of memory. Tried to allocate 2 GiB")
        return 1
    if behaviour == "doubtful" and "extent" not in job["allow"]:
        say(event="case", id="input", status="failed", error="InputError: 2 m long", doubts=["extent"])
        say(event="result", cases=1, failed=1)
        return 0
    if behaviour == "missing":
        say(event="error", kind="ModuleNotFoundError", message="No module named 'wonder'")
        return 1
    if behaviour == "deaf":
        grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        say(event="progress", fraction=0.5, text=f"grandchild {grandchild.pid}", done=None, total=None, eta=None)
        time.sleep(600)
    if job["job"] == "brain":
        return find_brain(job)
    slices = 4000 if behaviour == "slow" else 4
    for n in range(slices):
        if stop.is_set():
            say(event="cancelled")
            return 130
        say(event="progress", fraction=n / slices, text=f"slice {n} of {slices}", done=n, total=slices, eta=1.0)
        time.sleep(0.03 if behaviour == "slow" else 0.0)
    write(job, behaviour)
    return 0


def find_brain(job):
    from ZSADCLIPLib.volumes.intensity import brain_mask
    from ZSADCLIPLib.volumes.reading import read_volume, write_volume

    volume = read_volume(job["image"])
    mask = brain_mask(volume)
    write_volume(job["output"], volume.with_array(mask.astype(np.uint8)), "uint8")
    say(event="result", ml=float(mask.sum() * np.prod(volume.spacing) / 1000), note="")
    return 0


def write(job, behaviour):
    from ZSADCLIPLib.detection.findings import find
    from ZSADCLIPLib.evaluation.thresholds import reaches
    from ZSADCLIPLib.volumes.components import remove_small, slices_deep
    from ZSADCLIPLib.volumes.intensity import brain_mask
    from ZSADCLIPLib.volumes.planes import slice_in
    from ZSADCLIPLib.volumes.reading import read_mask, read_volume, write_volume

    volume = read_volume(job["inputs"][0])
    brain = read_mask(job["brain_mask"], volume).array > 0 if job["brain_mask"] else brain_mask(volume)
    score = volume.with_array((volume.array / max(float(volume.array.max()), 1.0)).astype(np.float32))
    cut = 0.6 if job["threshold"] == "checkpoint" else float(job["threshold"])
    stack, _ = slice_in(score, job["plane"])
    deep, across = slices_deep(job["min_depth_mm"], stack.spacing[2], len(stack.array)), stack.permutation[0]
    mask = remove_small(reaches(score.array, cut) & brain, volume.spacing, job["min_size_mm3"], deep, across)
    output = Path(job["output"])
    output.mkdir(parents=True, exist_ok=True)
    if behaviour == "broken":
        say(event="case", id="input", status="done")
        say(event="result", cases=1, failed=0)
        return
    write_volume(output / "input_anomaly.nii", score, "float32")
    write_volume(output / "input_mask.nii", volume.with_array(mask.astype(np.uint8)), "uint8")
    slices = [float(s) for s in stack.array.max(axis=(1, 2))]
    outcome = {
        "volume_score": max(slices), "slice_scores": slices, "threshold": cut, "threshold_rule": "checkpoint",
        "seal": "f" * 64, "display": {"lo": 0.0, "hi": 1.0}, "findings": len(find(score, mask, stack, brain=brain)),
        "notes": [], "provenance": {"backbone": {"name": "mini"}, "preprocessing": {"plane": stack.plane},
                                    "min_size_mm3": job["min_size_mm3"], "min_depth_mm": job["min_depth_mm"]},
    }  # fmt: skip
    (output / "input.json").write_text(json.dumps(outcome), encoding="utf-8")
    say(event="case", id="input", status="done")
    say(event="result", cases=1, failed=0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
