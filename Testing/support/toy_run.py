"""Everything a user does with a new method, in a process in which METHODS has it from the first import on."""

import contextlib
import json
import sys
from pathlib import Path

FIGURES = ("fig2-slices", "ranking")


def run(place: str) -> None:
    """Benchmark, train and detect with the toy method below the folder `place`; told.json and printed.txt say what came of it."""
    for name in list(sys.modules):  # rows, labels and menus are made of METHODS when their modules are loaded
        if name.partition(".")[0] in ("ZSADCLIPLib", "toy_method", "benchmark_cases", "small_models"):
            del sys.modules[name]
    from toy_method import ENTRY, NAME

    from ZSADCLIPLib.adapters import METHODS

    METHODS[NAME] = ENTRY
    from benchmark_cases import figures

    from ZSADCLIPLib.benchmark.rows import ALL_ROWS, select_rows
    from ZSADCLIPLib.cli import main
    from ZSADCLIPLib.jobs.benchmark import Benchmark
    from ZSADCLIPLib.jobs.detect import Detect
    from ZSADCLIPLib.jobs.train import Train

    root, profile = Path(place), place + "/tiny.json"
    data, out = str(root / "data"), str(root / "benchmark")
    rows = tuple(row.id for row in ALL_ROWS if row.method == NAME)
    told = {"rows": rows, "order": [row.id for row in ALL_ROWS]}
    told |= {"unasked": [row.id for row in select_rows()]}
    told |= {"by name": [row.id for row in select_rows(methods=(NAME, "vand"))]}
    with figures(*FIGURES):
        result = Benchmark(out, profile, data, rows, device="cpu").run()
    told["benchmark"] = {key: value for key, value in result.items() if key != "files"}
    told["train"] = Train(str(root / "train"), NAME, data, profile=profile, device="cpu").run()
    image = str(next(root.glob("data/*/*t2w.nii.gz")))
    found = Detect(
        (image,), str(root / "detect"), NAME, checkpoint=told["train"]["adapter"], image_size=64, device="cpu"
    )
    told["detect"] = found.run()
    (root / "told.json").write_text(json.dumps(told))
    with open(root / "printed.txt", "w") as stream, contextlib.redirect_stdout(stream), contextlib.suppress(SystemExit):
        main(["detect", "--help"])
