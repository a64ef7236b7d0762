"""The command line as its users meet it."""

import csv
import gc
import io
import json
import os
import platform
import subprocess
import sys

import nibabel
import numpy as np
import pytest
from small_models import VIT

from ZSADCLIPLib import cli
from ZSADCLIPLib.cli import doctor, main
from ZSADCLIPLib.fields import from_dict
from ZSADCLIPLib.jobs.detect import Detect
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.reading import write_volume


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(VIT))
    return path


@pytest.fixture
def scans(tmp_path):
    folder, rng = tmp_path / "in", np.random.default_rng(1)
    for name in ("a", "b"):
        array = np.zeros((30, 34, 6), np.int16)
        array[4:-4, 4:-4, 1:-1] = rng.integers(50, 500, (22, 26, 4))
        affine = np.array([[0, 0, -2.0, 8], [-1, 0, 0, 3], [0, 1, 0, -7], [0, 0, 0, 1]])
        write_volume(folder / f"{name}.nii.gz", Volume(array, affine))
    truth = np.zeros((30, 34, 6), np.uint8)
    truth[10:16, 10:16, 2:4] = 1
    write_volume(tmp_path / "truth.nii.gz", Volume(truth, affine))
    return folder


def detect(inputs, out, tiny, *more, pictures=False):
    common = ["--backbone", str(tiny), "--weights", "random", "--checkpoint", "vand:random", "--image-size", "64"]
    common += [] if pictures else ["--no-pictures"]  # they take most of the time
    return main(["detect", *map(str, inputs), "-o", str(out), *common, "--device", "cpu", *more])


def rows(out):
    with open(out / "summary.csv", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize("window", [[], ["--window", "5", "5"]])
def test_a_window_that_is_none_is_a_wrong_argument(window, scans, tiny, tmp_path, capsys):
    assert detect([scans], tmp_path / "out", tiny, "--intensity", "window", *window) == 2
    assert "is not (low, high) with low < high" in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize("window", [["brain"], ["0", "80"], ["-20", "180"]])
def test_a_window_alone_is_used(window, scans, tiny, tmp_path):
    assert detect([scans / "a.nii.gz"], tmp_path / "out", tiny, "--window", *window) == 0
    used = json.loads((tmp_path / "out" / "a.json").read_text("utf-8"))["provenance"]["preprocessing"]
    assert used["intensity"] == "window" and used["window"] == ([-20, 180] if window[0] == "-20" else [0, 80])


@pytest.mark.parametrize("window", ["brain", [0, 80], [0.0, 80.0], ["0", "80"]])
def test_a_job_file_may_hold_a_window_in_any_form(window):
    job = from_dict(Detect, {"inputs": ["a.nii"], "output": "out", "window": window, "crop": 180})
    assert job.look == {"plane": "auto", "intensity": "auto", "window": (0, 80), "crop": 180}


def test_what_was_chosen_is_said_on_the_terminal_and_in_the_table(tiny, tmp_path, capsys):
    array = np.full((8, 30, 34), -3024, np.int16)
    array[1:-1, 4:-4, 4:-4] = np.random.default_rng(1).integers(50, 500, (6, 22, 26))
    write_volume(tmp_path / "a.nii.gz", Volume(array, np.diag([5.0, 3, 3, 1])))
    assert detect([tmp_path / "a.nii.gz"], tmp_path / "out", tiny) == 0
    printed = capsys.readouterr().out
    for words in ("sagittal slices: their pixels of 3 x 3 mm", "the constant value -3024 fills the border"):
        assert words in printed and words in rows(tmp_path / "out")[0]["notes"]


def test_a_folder_of_volumes(scans, tiny, tmp_path, capsys):
    out = tmp_path / "out"
    assert detect([scans], out, tiny, "--threshold", "quantile:0.9", pictures=True) == 0
    printed = capsys.readouterr().out
    assert "a: done" in printed and "2 cases, 0 failed" in printed and "Research use only" in printed
    names = {f"{c}{s}" for c in "ab" for s in ("_anomaly.nii.gz", "_mask.nii.gz", ".json", ".png")} | {"summary.csv"}
    assert {p.name for p in out.iterdir()} == names
    source, result = nibabel.load(scans / "a.nii.gz"), nibabel.load(out / "a_anomaly.nii.gz")
    assert np.array_equal(source.affine, result.affine) and source.shape == result.shape
    assert result.get_data_dtype() == np.int16
    assert nibabel.load(out / "a_mask.nii.gz").get_data_dtype() == np.uint8
    found = json.loads((out / "a.json").read_text("utf-8"))
    assert found["findings"][0]["rank"] == 1 and len(found["slice_scores"]) == 6  # sagittal ones of 2 mm
    assert found["provenance"]["adapter"]["method"] == "vand"
    assert str(tmp_path) not in (out / "a.json").read_text("utf-8")
    assert [r["status"] for r in rows(out)] == ["done", "done"]


@pytest.mark.parametrize("map_type", ["int16", "float32"])
def test_map_and_mask_agree_for_whoever_opens_them(map_type, scans, tiny, tmp_path):
    out = tmp_path / "out"
    options = ("--threshold", "quantile:0.9", "--map-type", map_type, "--min-size", "0", "--min-depth", "0")
    assert detect([scans / "a.nii.gz"], out, tiny, "--background", "zero", *options) == 0
    image, found = nibabel.load(out / "a_anomaly.nii.gz"), json.loads((out / "a.json").read_text("utf-8"))
    assert image.get_data_dtype() == map_type and found["provenance"]["map_type"] == map_type
    mask = nibabel.load(out / "a_mask.nii.gz").get_fdata() > 0
    assert mask.any() and np.array_equal(image.get_fdata() >= found["threshold"], mask)


def test_results_do_not_depend_on_the_run(scans, tiny, tmp_path):
    for name in ("one", "two"):
        assert detect([scans], tmp_path / name, tiny, pictures=True) == 0
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two and "a_anomaly.nii.gz" in one


def test_a_bad_case_is_reported_and_the_others_go_on(scans, tiny, tmp_path, capsys):
    (scans / "broken.nii.gz").write_bytes((scans / "a.nii.gz").read_bytes()[:200])
    assert detect([scans], tmp_path / "out", tiny) == 1
    assert "broken: failed  InputError" in capsys.readouterr().out
    assert {r["id"]: r["status"] for r in rows(tmp_path / "out")} == {"a": "done", "b": "done", "broken": "failed"}
    assert not list((tmp_path / "out").glob("broken*"))


def test_a_manifest_with_truth_gives_metrics(scans, tiny, tmp_path, capsys):
    manifest = tmp_path / "cases.csv"
    manifest.write_text("id,image,mask\nfirst,in/a.nii.gz,truth.nii.gz\n")
    assert detect([manifest], tmp_path / "out", tiny, "--no-pictures") == 0
    (row,) = rows(tmp_path / "out")
    assert row["id"] == "first" and 0 <= float(row["dice"]) <= 1 and 0 <= float(row["auroc"]) <= 1
    assert "Dice" in capsys.readouterr().out and not list((tmp_path / "out").glob("*.png"))


def test_skip_existing_keeps_finished_cases_only(scans, tiny, tmp_path, capsys):
    out = tmp_path / "out"
    detect([scans], out, tiny)
    (out / "b_mask.nii.gz").unlink()
    before = (out / "a.json").stat().st_mtime_ns
    assert detect([scans], out, tiny, "--skip-existing") == 0
    assert "1 kept" in capsys.readouterr().out
    assert (out / "a.json").stat().st_mtime_ns == before and (out / "b_mask.nii.gz").exists()
    assert [r["status"] for r in rows(out)] == ["done", "done"]
    detect([scans], out, tiny, "--skip-existing", "--threshold", "1.0")
    assert json.loads((out / "a.json").read_text("utf-8"))["threshold"] == 1.0


def test_dry_run_writes_nothing(scans, tiny, tmp_path, capsys):
    assert detect([scans], tmp_path / "out", tiny, "--dry-run") == 0
    assert "a: planned" in capsys.readouterr().out and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--threshold", "best"], 2, "expected checkpoint"),
        (["--batch-size", "many"], 2, "expected auto"),
        (["--set", "colour=1"], 2, "no field 'colour'"),
        (["--checkpoint", "anovl.pth"], 1, "does not exist"),
        (["--prompts", "nothing"], 2, "no prompt set"),
        (["--precision", "float16"], 2, "needs a GPU"),
        (["--intensity", "window"], 2, "window"),
        (["--window", "lung"], 2, "window 'lung': expected brain, subdural, bone, or LOW HIGH"),
        (["--window", "0", "80", "--intensity", "per-slice-minmax"], 2, "not with per-slice-minmax"),
        (["--crop", "brain"], 2, "crop 'brain': expected head, none, or a side in mm"),
        (["--crop", "-3"], 2, "crop '-3': expected head, none, or a side in mm"),
    ],
)
def test_errors_are_one_clear_line(scans, tiny, tmp_path, capsys, more, code, words):
    assert detect([scans / "a.nii.gz"], tmp_path / "out", tiny, *more) == code
    both = capsys.readouterr()
    assert words in both.err + both.out and "Traceback" not in both.err


def test_missing_input_and_unknown_method(tiny, tmp_path, capsys):
    assert detect([tmp_path / "none.nii"], tmp_path / "out", tiny) == 1
    assert "none.nii" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["detect", "x.nii", "-o", "out", "--method", "magic"])
    assert caught.value.code == 2


def test_interrupt_leaves_no_half_written_file(scans, tiny, tmp_path, monkeypatch, capsys):
    import ZSADCLIPLib.volumes.reading as io

    def interrupted(path, volume, map_type):
        with io.atomic_path(path) as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    monkeypatch.setattr(io, "write_map", interrupted)
    assert detect([scans], tmp_path / "out", tiny) == 130
    assert "interrupted" in capsys.readouterr().err
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]


def test_reference_volumes_and_settings_reach_the_method(scans, tiny, tmp_path):
    out = tmp_path / "out"
    detect([scans / "a.nii.gz"], out, tiny, "--reference", str(scans / "b.nii.gz"), "--set", "upsample=centres")
    found = json.loads((out / "a.json").read_text("utf-8"))
    assert found["display"]["hi"] == 12.0 and found["provenance"]["adapter"]["config"]["upsample"] == "centres"


def test_own_prompts(scans, tiny, tmp_path):
    prompts = tmp_path / "p.json"
    prompts.write_text('{"normal": ["healthy {}"], "abnormal": ["{} with a tumour"], "templates": ["an MRI of a {}"]}')
    out = tmp_path / "out"
    assert detect([scans / "a.nii.gz"], out, tiny, "--prompts", str(prompts), "--object", "head") == 0
    stored = json.loads((out / "a.json").read_text("utf-8"))["provenance"]["adapter"]
    assert stored["prompts"]["normal"] == ["healthy {}"] and stored["config"]["object_name"] == "head"
    prompts.write_text('{"normal": ["healthy"], "abnormal": ["{}"], "templates": ["{}"]}')
    assert detect([scans / "a.nii.gz"], out, tiny, "--prompts", str(prompts)) == 2


def test_models_are_listed(capsys):
    assert main(["models"]) == 0
    printed = capsys.readouterr().out
    assert "ViT-L-14-336" in printed and "PMC-CLIP" in printed
    assert main(["models", "get", "ViT-L-14-336"]) == 1
    assert "offline" in capsys.readouterr().err


def test_phantom_command(tmp_path, capsys):
    assert main(["phantom", "--cases", "1", "--seed", "7", "--out", str(tmp_path)]) == 0
    image = nibabel.load(tmp_path / "BraTS-MET-00007-000" / "BraTS-MET-00007-000-t2w.nii.gz")
    assert image.shape == (240, 240, 155)
    assert main(["phantom", "--domain", "industrial", "--out", str(tmp_path)]) == 0
    assert nibabel.load(tmp_path / "industrial-00000" / "industrial-00000-image.nii.gz").shape == (240, 240, 1)


def imported(code):
    """Which packages besides Python's own a process has imported, and how many modules of ours."""
    code += "\nprint('|', *{name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names - before)"
    code += "\nprint('|', sum(name.startswith('ZSADCLIPLib') for name in sys.modules))"
    code = f"import sys\nbefore = {{name.partition('.')[0] for name in sys.modules}}\n{code}"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    packages, ours = (line.removeprefix("|").split() for line in said.splitlines()[-2:])
    return set(packages) - {"ZSADCLIPLib"}, int(ours[0])


def test_help_imports_next_to_nothing():
    """What `zsadclip --help` takes is what it imports: no numpy, no torch, and a handful of modules of ours."""
    packages, ours = imported("from ZSADCLIPLib import cli\ntry: cli.main(['--help'])\nexcept SystemExit: pass")
    assert packages == set() and ours <= 8


def test_the_arguments_of_all_commands_need_no_torch():
    packages, _ = imported("from ZSADCLIPLib.cli import parser; parser()")
    assert packages and not packages & {"torch", "sklearn", "matplotlib", "nibabel", "open_clip"}


def test_the_way_of_scoring_is_chosen_on_the_command_line(scans, tiny, tmp_path, capsys):
    way = ["--planes", "coronal", "axial", "--fuse", "min", "--smooth-mm", "1", "--smooth", "3d", "--force-planes"]
    assert detect([scans / "a.nii.gz"], tmp_path / "out", tiny, *way, "--min-depth", "4.5") == 0
    used = json.loads((tmp_path / "out" / "a.json").read_text("utf-8"))["provenance"]
    assert used["scoring"] == "coronal+axial/min/smooth1-3d" and used["min_depth_mm"] == 4.5
    assert detect([scans / "a.nii.gz"], tmp_path / "plain", tiny) == 0
    used = json.loads((tmp_path / "plain" / "a.json").read_text("utf-8"))["provenance"]
    assert (used["min_depth_mm"], used["smooth_mm"], len(used["planes"])) == (3.0, 0.0, 1)
    capsys.readouterr()
    for wrong, words in (
        (["--planes", "axial", "axial"], "expected each plane once"),
        (["--min-depth", "-1"], "min_depth_mm is -1.0; expected 0 or more"),
        (["--smooth-mm", "-1"], "smooth_mm is -1.0"),
    ):
        assert detect([scans / "a.nii.gz"], tmp_path / "no", tiny, *wrong) == 2 and words in capsys.readouterr().err


def test_detection_writes_the_review_page_too(tiny, scans, tmp_path, capsys):
    command = ["detect", str(scans), "-o", str(tmp_path / "out"), "--backbone", str(tiny), "--weights", "random"]
    command += ["--checkpoint", "vand:random", "--method", "vand", "--image-size", "32", "--threshold", "quantile:0.9"]
    assert main([*command, "--no-pictures"]) == 0
    assert not (tmp_path / "out" / "review").exists()
    capsys.readouterr()
    assert main([*command, "--no-pictures", "--review", "--skip-existing"]) == 0
    said = capsys.readouterr().out
    assert "2 kept" in said and f"page: {tmp_path / 'out' / 'review' / 'index.html'}" in said
    assert {path.name for path in (tmp_path / "out" / "review" / "cases").iterdir()} == {"a.js", "b.js"}
    assert main([*command, "--review", "--shard", "1/2"]) == 2
    assert "a shard has not all cases" in capsys.readouterr().err


def test_without_a_command_it_says_how_to_begin(capsys):
    assert main([]) == 0
    said = capsys.readouterr().out
    assert said.count("\n  zsadclip ") == 3 and "Research use only" in said


def test_the_doctor_says_what_is_there(capsys, monkeypatch):
    assert main(["doctor", "--quick"]) == 0
    said = capsys.readouterr().out
    assert "torch 2" in said and "device: " in said and "models embedded: mini" in said
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "scipy" else "1")
    assert main(["doctor", "--quick"]) == 1
    assert "MISSING: scipy; install zsadclip again" in capsys.readouterr().out


def test_commands_let_python_look_for_unused_objects_seldom(monkeypatch):
    said = []
    monkeypatch.setattr(gc, "set_threshold", lambda *numbers: said.append(numbers))
    with pytest.raises(SystemExit):
        main(["models", "--help"])
    assert said == [(20_000, 10, 2)]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such option")
def test_commands_keep_the_memory_of_arrays_for_the_next_ones():
    program = (
        "import os, sys, numpy as np\n"
        "def resident():\n"
        "    return int(open('/proc/self/statm').read().split()[1]) * os.sysconf('SC_PAGE_SIZE')\n"
        "if sys.argv[1] == 'kept':\n"
        "    from ZSADCLIPLib.cli import main\n"
        "    main(['models', 'list'])\n"
        "before = resident()\n"
        "array = np.ones(40_000_000, np.uint8)\n"
        "del array\n"
        "print('left', resident() - before)\n"
    )
    left = {}
    for way in ("kept", "returned"):
        done = subprocess.run([sys.executable, "-c", program, way], capture_output=True, text=True, check=True)
        left[way] = int(done.stdout.rsplit("left ", 1)[1])
    assert left["returned"] < 10_000_000 < 30_000_000 < left["kept"]


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot ask a pipe whether it is read")
def test_who_stops_to_read_is_told_of_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "ZSADCLIPLib", "models"], stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("output", [io.StringIO(), None], ids=["no file", "none"])
def test_a_pipe_that_breaks_elsewhere_is_an_error_whatever_the_output_is(output, monkeypatch, capsys):
    def breaks(command, part):
        raise BrokenPipeError("a worker is gone")

    monkeypatch.setattr(cli, "_part", breaks)
    monkeypatch.setattr(sys, "stdout", output)
    assert main(["models", "list"]) == 1
    assert "unexpected BrokenPipeError: a worker is gone" in capsys.readouterr().err
