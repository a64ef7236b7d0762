"""Volumes through the module without its panel: maps, segmentations, tables and scenes as files that Slicer opens."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import slicer
import slicer.util
import vtk

from ZSADCLIPLib.adapters import DEFAULT_METHOD, METHODS
from ZSADCLIPLib.detection.inputs import expand_inputs
from ZSADCLIPLib.errors import ZSADCLIPError
from ZSADCLIPLib.files.text import write_json
from ZSADCLIPLib.progress import Cancelled
from ZSADCLIPLib.volumes.reading import read_volume

from .engine.run import EngineRun
from .engine.settings import RunSettings
from .scene import findingstable

DONE, SOME_FAILED, UNUSABLE, CANCELLED = 0, 1, 2, 130


def main(arguments: Sequence[str], command=None) -> int:
    """Run the volumes that the arguments name one after another; a volume that fails is said, and the others go on.

    `command` takes the place of the engine, as in `EngineRun`. Returns an exit code: 0, 1 when a volume failed, 2 when the
    arguments cannot be used, 130 when it was interrupted.
    """
    try:
        options = _parser().parse_args(arguments)
    except SystemExit as error:  # argparse has said why
        return int(error.code or 0)
    try:
        cases = expand_inputs(options.inputs, output=options.output, report=_say)
        Path(options.output).mkdir(parents=True, exist_ok=True)
    except (ZSADCLIPError, OSError) as error:
        logging.error("ZSADCLIP: %s", error)
        return UNUSABLE
    failed = 0
    for number, case in enumerate(cases, 1):
        print(f"{case.id} ({number} of {len(cases)})", flush=True)
        try:
            _work(case, options, command)
        except (KeyboardInterrupt, Cancelled):
            print(f"stopped; {number - 1} of {len(cases)} volumes are done", flush=True)
            return CANCELLED
        except (ZSADCLIPError, OSError, RuntimeError) as error:
            failed += 1
            logging.error("ZSADCLIP: %s: %s", case.id, error)
        finally:
            slicer.mrmlScene.Clear(0)
    print(f"{len(cases) - failed} of {len(cases)} volumes are in {options.output}", flush=True)
    return SOME_FAILED if failed else DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("slicer_batch.py", description=main.__doc__.splitlines()[0])
    parser.add_argument("inputs", nargs="+", help="volumes, folders of them or of DICOM series, or a manifest")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="folder for the results")
    parser.add_argument("--method", default=DEFAULT_METHOD, choices=list(METHODS))
    parser.add_argument("--model", default="auto", help="as 'zsadclip models' lists them")
    parser.add_argument("--checkpoint", metavar="FILE")
    parser.add_argument("--threshold", default="checkpoint", help="checkpoint, NUMBER, fixed:NUMBER or quantile:Q")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--no-scene", action="store_true", help="do not write the scene (.mrb)")
    return parser


def _work(case, options, command) -> None:
    """One volume from its file to the files of its result."""
    settings = RunSettings(
        method=options.method,
        backbone=options.model,
        checkpoint=options.checkpoint,
        threshold=options.threshold,
        device=options.device,
    )
    run = EngineRun(volumeNode(read_volume(case.image), case.id), settings, command=command)
    run.start()
    try:
        result = run.wait()
    except BaseException:
        run.abort()
        raise
    for note in run.notes:
        print(f"  {note}", flush=True)
    write(result, Path(options.output), case.id, scene=not options.no_scene)
    print(f"  {result.findings.GetNumberOfRows()} findings", flush=True)


def volumeNode(volume, name: str):
    """A scalar volume node of an engine volume, RAS mm."""
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(volume.affine.ravel())
    return slicer.util.addVolumeFromArray(np.ascontiguousarray(volume.array.T), matrix, name)


def write(result, folder: Path, name: str, scene: bool = True) -> list[Path]:
    """Write map (.nrrd), segmentation (.seg.nrrd), findings (.csv), what the run was (.json) and the scene (.mrb).

    Each is complete or not there. Raises OSError when Slicer cannot write one. Returns the files.
    """
    saved = {
        folder / f"{name}_anomaly.nrrd": lambda path: slicer.util.saveNode(result.map, path),
        folder / f"{name}_findings.seg.nrrd": lambda path: slicer.util.saveNode(result.segmentation, path),
    }
    if scene:
        saved[folder / f"{name}.mrb"] = slicer.mrmlScene.WriteToMRB
    for path, save in saved.items():
        beginning = path.with_name("unfinished-" + path.name)  # the ending says how to write
        if not save(str(beginning)):
            beginning.unlink(missing_ok=True)
            raise OSError(f"Slicer cannot write {path}; is the disk full, or the folder protected?")
        beginning.replace(path)
    findingstable.export(result.findings, folder / f"{name}_findings.csv")
    facts = {"id": name, "method": result.attribute("Method"), "model": result.attribute("Model")}
    facts |= {"threshold": result.threshold, "threshold_rule": result.attribute("ThresholdRule")}
    facts |= {"volume_score": result.volumeScore, "findings": findingstable.rowsOf(result.findings)}
    facts |= {"settings": json.loads(result.attribute("Settings")), "use": "research use only, not for diagnosis"}
    write_json(folder / f"{name}.json", facts | {"provenance": json.loads(result.attribute("Provenance"))})
    return [*saved, folder / f"{name}_findings.csv", folder / f"{name}.json"]


def _say(event: dict) -> None:
    print(event["text"], flush=True)
