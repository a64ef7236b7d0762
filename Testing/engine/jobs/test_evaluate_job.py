"""Evaluation on labelled scans: its numbers against direct computation, what is left out, and what is used again."""

import csv
import json
import re
from dataclasses import replace

import nibabel
import numpy as np
import pytest
from benchmark_cases import write_brains
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score
from small_models import VIT

from ZSADCLIPLib.cli import main
from ZSADCLIPLib.errors import UsageError
from ZSADCLIPLib.evaluation.case import evaluate_case
from ZSADCLIPLib.jobs.evaluate import Evaluate
from ZSADCLIPLib.jobs.registry import job_from_dict
from ZSADCLIPLib.report.evaluated.cases import FAR_MM
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.intensity import brain_mask
from ZSADCLIPLib.volumes.reading import read_volume, write_volume
from ZSADCLIPLib.volumes.slicing import slice_volume

SHAPE = (36, 40, 10)
AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three sick scans of two subjects, a healthy one, one without a truth and a file that is no volume."""
    folder = tmp_path_factory.mktemp("data")
    lines = ["id,image,mask,subject"]
    for n, name in enumerate(("a1", "a2", "b", "healthy", "unknown")):
        rng = np.random.default_rng(n)
        image, mask = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.uint8)
        image[4:-4, 4:-4, 1:-1] = rng.uniform(100, 200, (28, 32, 8))
        if n < 3:
            x, y = rng.integers(6, 20, 2)
            mask[x : x + 7, y : y + 7, 3:6] = 1
            mask[30, 30, 7] = 1
            image[mask > 0] += 60
        write_volume(folder / f"{name}.nii.gz", Volume(image, AFFINE))
        write_volume(folder / f"{name}_seg.nii.gz", Volume(mask, AFFINE))
        truth = "" if name == "unknown" else f"{name}_seg.nii.gz"
        lines.append(f"{name},{name}.nii.gz,{truth},{name[0] if n < 3 else ''}")
    (folder / "broken.nii.gz").write_bytes(b"no volume")
    (folder / "whole.csv").write_text("\n".join(lines))
    (folder / "manifest.csv").write_text("\n".join([*lines, "broken,broken.nii.gz,,"]))
    (folder / "tiny.json").write_text(json.dumps(VIT))
    return folder


def settings(data, **more):
    return {
        "backbone": str(data / "tiny.json"),
        "weights": "random",
        "checkpoint": "vand:random",
        "image_size": 64,
        "device": "cpu",
        "threshold": "quantile:0.97",
        "min_size_mm3": 6.0,
        "min_depth_mm": 0.0,
        **more,
    }


@pytest.fixture(scope="module")
def done(data, tmp_path_factory):
    out, events = tmp_path_factory.mktemp("out"), []
    job = Evaluate(str(data / "manifest.csv"), str(out), detect=settings(data))
    return out, job.run(report=events.append), events


def table(out, name):
    with open(out / "tables" / f"{name}.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def arrays(data, out, name):
    """Map, mask, truth, brain and image of a case, as its files have them."""
    image = read_volume(data / f"{name}.nii.gz")
    read = [nibabel.load(out / "vand" / f"{name}_{kind}.nii.gz").get_fdata() for kind in ("anomaly", "mask")]
    truth = nibabel.load(data / f"{name}_seg.nii.gz").get_fdata() > 0
    return read[0].astype(np.float32), read[1] > 0, truth, brain_mask(image), image.array


def test_every_case_against_direct_computation(data, done):
    out, _, _ = done
    rows = {(row["Method"], row["Case"]): row for row in table(out, "cases")}
    assert len(rows) == 8  # five scans, and the baseline of the three with lesions
    structure = np.ones((3, 3, 3))
    for name in ("a1", "a2", "b"):
        amap, mask, truth, brain, image = arrays(data, out, name)
        row = rows["VAND", name]
        hit, marked, wanted = ((x & brain).sum() for x in (mask & truth, mask, truth))
        assert float(row["Dice"]) == pytest.approx(2 * hit / (marked + wanted), rel=1e-5)
        assert float(row["Sensitivity"]) == pytest.approx(hit / wanted, rel=1e-5)
        assert float(row["PPV"]) == pytest.approx(hit / marked, rel=1e-5)
        lesions, count = ndimage.label(truth, structure)
        parts, number = ndimage.label(mask, structure)
        found = len(set(lesions[mask & truth]))
        false = number - len(set(parts[mask & truth]))
        assert float(row["False lesions / volume"]) == false
        assert float(row["Lesion sensitivity"]) == pytest.approx(found / count)
        assert float(row["Lesion F1"]) == pytest.approx(2 * found / (found + false + count), rel=1e-5)
        if found + false:
            assert float(row["Lesion precision"]) == pytest.approx(found / (found + false), rel=1e-5)
        assert float(row["Truth (ml)"]) == pytest.approx(truth.sum() * 0.002, rel=1e-5)
        assert float(row["Marked (ml)"]) == pytest.approx(mask.sum() * 0.002, rel=1e-5)
        assert row["Subject"] == name[0] and row["Group"] == "with lesions"
        for method, scores in (("VAND", amap), ("Intensity", image)):
            ranked, labels = scores[brain], truth[brain]
            precision, recall, _ = precision_recall_curve(labels, ranked)
            best = np.nanmax(2 * precision * recall / np.maximum(precision + recall, 1e-12))
            row = rows[method, name]
            assert float(row["AP"]) == pytest.approx(average_precision_score(labels, ranked), rel=1e-4)
            assert float(row["AUROC"]) == pytest.approx(roc_auc_score(labels, ranked), rel=1e-4)
            assert float(row["F1-max"]) == pytest.approx(best, rel=1e-4)
        assert float(rows["VAND", name]["AP, all voxels"]) == pytest.approx(
            average_precision_score(truth.ravel(), amap.ravel()), rel=1e-4
        )
        assert float(rows["Intensity", name]["Dice"]) == pytest.approx(float(rows["Intensity", name]["F1-max"]))


def test_numbers_are_the_benchmarks(data, done, tmp_path):
    """Without a smallest size the written mask is the map cut inside the brain, as the benchmark cuts it."""
    job = Evaluate(str(data / "whole.csv"), str(tmp_path), detect=settings(data, min_size_mm3=0.0))
    assert job.run()["failed"] == 0
    row = next(row for row in table(tmp_path, "cases") if (row["Method"], row["Case"]) == ("VAND", "b"))
    amap, _, truth, brain, _ = arrays(data, tmp_path, "b")
    stack = slice_volume(read_volume(data / "b.nii.gz"))
    threshold = json.loads((tmp_path / "vand" / "b.json").read_text("utf-8"))["threshold"]
    found = evaluate_case(
        *(stack.arrange(x) for x in (amap, truth, brain)), {"fixed:0": threshold}, stack.spacing, region="brain"
    )
    counts = found["rules"]["fixed:0"]["brain"]
    assert float(row["Dice"]) == pytest.approx(
        2 * counts["tp"] / (2 * counts["tp"] + counts["fp"] + counts["fn"]), rel=1e-5
    )
    assert float(row["Lesion sensitivity"]) == pytest.approx(
        found["rules"]["fixed:0"]["lesions"]["sensitivity"], rel=1e-5
    )
    assert float(row["Cut at"]) == pytest.approx(threshold, rel=1e-5)


def test_means_count_subjects_and_leave_cases_without_lesions_alone(done):
    out, _, _ = done
    cases = [row for row in table(out, "cases") if row["Method"] == "VAND" and row["Group"] == "with lesions"]
    (stored, best, baseline) = table(out, "voxels-brain")
    dice = {row["Case"]: float(row["Dice"]) for row in cases}
    assert stored["n"] == "3" and float(stored["Dice mean"]) == pytest.approx(np.mean(list(dice.values())), rel=1e-5)
    # Two subjects: whole ones are drawn, so the interval ends at their own means.
    ends = sorted(((dice["a1"] + dice["a2"]) / 2, dice["b"]))
    assert [float(stored[f"Dice {end}"]) for end in ("low", "high")] == pytest.approx(ends, rel=1e-4)
    assert (
        "quantile:0.97" in stored["Threshold"] and "oracle" in best["Threshold"] and baseline["Method"] == "Intensity"
    )
    assert float(best["Dice mean"]) == pytest.approx(float(best["F1-max mean"]), rel=1e-5)


def test_millilitres_of_each_group(data, done):
    out, _, _ = done
    rows = {(row["Method"], row["Cases"]): row for row in table(out, "millilitres") if "oracle" not in row["Threshold"]}
    marked = {
        name: nibabel.load(out / "vand" / f"{name}_mask.nii.gz").get_fdata().sum() * 0.002
        for name in ("healthy", "unknown")
    }
    healthy, unknown = rows["VAND", "healthy: the truth is empty"], rows["VAND", "without a truth"]
    assert float(healthy["Marked (ml) mean"]) == pytest.approx(marked["healthy"], rel=1e-5) and marked["healthy"] > 0
    assert float(healthy["Marked outside the truth (ml) mean"]) == float(healthy["Marked (ml) mean"])
    assert float(unknown["Marked (ml) mean"]) == pytest.approx(marked["unknown"], rel=1e-5)
    assert unknown["Truth (ml) mean"] == "" and unknown["Marked outside the truth (ml) mean"] == ""
    assert float(healthy["Marked in healthy tissue (ml) mean"]) == pytest.approx(marked["healthy"], rel=1e-5)
    assert unknown["Healthy tissue (ml) mean"] == ""


def test_healthy_tissue_is_brain_far_from_every_lesion(data, done):
    out, _, _ = done
    tissue, within, spacing = [], [], np.array([1.0, 1.0, 2.0])
    for name in ("a1", "a2", "b"):
        _, mask, truth, brain, _ = arrays(data, out, name)
        lesion = np.argwhere(truth) * spacing
        nearest = [np.linalg.norm(lesion - place, axis=1).min() for place in np.argwhere(brain) * spacing]
        far = np.array(nearest) > FAR_MM
        tissue.append(far.sum() * 0.002)
        within.append((far & mask[brain]).sum() * 0.002)
    row = next(row for row in table(out, "millilitres") if row["Cases"] == "with lesions")
    assert float(row["Healthy tissue (ml) mean"]) == pytest.approx(np.mean(tissue), rel=1e-4) and sum(tissue) > 0
    assert float(row["Marked in healthy tissue (ml) mean"]) == pytest.approx(np.mean(within), rel=1e-4)


def test_a_bad_case_is_listed_with_its_reason_and_the_others_go_on(done):
    out, result, events = done
    assert (result["cases"], result["failed"]) == (6, 1)
    (row,) = table(out, "left-out")
    assert (row["Method"], row["Case"], row["Status"]) == ("VAND", "broken", "failed") and row["Reason"]
    assert [e["id"] for e in events if e.get("status") == "failed"] == ["vand broken"]
    assert row["Reason"][:40] in (out / "evaluation.html").read_text("utf-8").replace("&#39;", "'")


def test_page_and_text_say_what_the_numbers_are_worth(done):
    out, _, _ = done
    page, text = ((out / name).read_text("utf-8") for name in ("evaluation.html", "evaluation.md"))
    for written in (page, text):
        assert "Research use only, not for diagnosis." in written and "2 subjects, which are very few" in written
        assert "Warning, " in written and "Made for" in written
    assert "Warnings" in (out / "tables" / "cases.csv").read_text("utf-8")
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    names = {path.name for path in (out / "pictures").iterdir()}
    assert names == {"vand-best.png", "vand-median.png", "vand-worst.png", "vand-most-marked.png"}
    assert page.count("data:image/png;base64") == 4
    contents = re.findall(r'<li><a href="#(\w+)">', page)
    assert "pictures" in contents and contents == re.findall(r'<section id="(\w+)">', page)


def test_results_are_used_again_and_what_is_no_longer_true_goes(data, done, tmp_path):
    out = tmp_path / "out"
    first = Evaluate(str(data / "manifest.csv"), str(out), detect=settings(data))
    first.run()
    before = {path.name: path.read_bytes() for path in (out / "tables").iterdir()}
    events = []
    again = replace(first, manifest=str(data / "whole.csv"), detect=settings(data, skip_existing=True))
    times = {path: path.stat().st_mtime_ns for path in (out / "vand").glob("*.nii.gz")}
    assert again.run(report=events.append)["failed"] == 0
    assert {path: path.stat().st_mtime_ns for path in (out / "vand").glob("*.nii.gz")} == times
    after = {path.name: path.read_bytes() for path in (out / "tables").iterdir()}
    assert {name for name in before if name not in after} == {"left-out.csv", "left-out.md", "left-out.tex"}
    assert all(after[name] == before[name] for name in after)


def test_a_result_that_does_not_fit_any_more_is_a_failed_case(data, tmp_path, monkeypatch):
    from ZSADCLIPLib.report.evaluated import cases

    reading = cases.read_output

    def short(paths):
        output = reading(paths)
        return replace(output, map=output.map[:-1]) if "b_anomaly" in str(paths["map"]) else output

    monkeypatch.setattr(cases, "read_output", short)
    result = Evaluate(str(data / "whole.csv"), str(tmp_path), detect=settings(data)).run()
    assert result["failed"] == 1
    (row,) = table(tmp_path, "left-out")
    assert row["Case"] == "b" and "has shape (35, 40, 10)" in row["Reason"]
    assert {r["Case"] for r in table(tmp_path, "cases") if r["Method"] == "VAND"} == {"a1", "a2", "healthy", "unknown"}


def test_only_cases_without_lesions(data, tmp_path):
    (data / "healthy.csv").write_text("id,image,mask\nh,healthy.nii.gz,healthy_seg.nii.gz\n")
    Evaluate(str(data / "healthy.csv"), str(tmp_path), detect=settings(data)).run()
    assert {path.stem for path in (tmp_path / "tables").glob("*.csv")} == {"models", "millilitres", "cases"}
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["vand-most-marked.png"]


def test_a_folder_in_brats_layout_brings_its_truth(data, tmp_path):
    folder = write_brains(tmp_path / "brats", subjects=2)
    result = Evaluate(str(folder), str(tmp_path / "out"), detect=settings(data)).run()
    rows = [row for row in table(tmp_path / "out", "cases") if row["Method"] == "VAND"]
    assert result["failed"] == 0 and [row["Group"] for row in rows] == ["with lesions"] * 2


def test_without_any_result_the_page_says_why(data, tmp_path):
    (data / "broken.csv").write_text("id,image\nx,broken.nii.gz\n")
    assert Evaluate(str(data / "broken.csv"), str(tmp_path), detect=settings(data)).run()["failed"] == 1
    assert [path.name for path in (tmp_path / "tables").glob("*.csv")] == ["left-out.csv"]
    page = (tmp_path / "evaluation.html").read_text("utf-8")
    assert "No case has a result." in page and "Pictures" not in page


def test_on_the_command_line(data, tmp_path, capsys):
    common = [f"--{k.replace('_', '-')}={v}" for k, v in settings(data).items() if not k.startswith("min_")]
    out = tmp_path / "out"
    assert (
        main(["evaluate", str(data / "manifest.csv"), "--out", str(out), "--methods", "vand", *common, "--dry-run"])
        == 0
    )
    assert not (out / "evaluation.html").exists()
    assert main(["evaluate", str(data / "manifest.csv"), "--out", str(out), "--methods", "vand", *common]) == 1
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    printed = capsys.readouterr().out
    assert "--skip-existing" in printed and not re.search(r"--(detect|method|shard|output)\b", printed)
    assert "6 results, 1 failed" in printed and "vand broken: failed" in printed and "evaluation.html" in printed


@pytest.mark.parametrize(
    ("methods", "detect", "words"),
    [
        (("vand", "vand"), {}, "each once"),
        ((), {}, "expected one or more"),
        (("vand", "adaclip"), {"checkpoint": "vand:random"}, "belongs to one method"),
        (("vand",), {"shard": "1/2"}, "no setting of an evaluation"),
        (("vand",), {"nonsense": 1}, "nonsense"),
    ],
)
def test_settings_that_cannot_work_are_refused_first(methods, detect, words, data, tmp_path):
    job = Evaluate(str(data / "whole.csv"), str(tmp_path / "out"), methods, detect)
    with pytest.raises(UsageError, match=words):
        job.run()
    assert not (tmp_path / "out").exists()


def test_a_job_file_may_ask_for_it():
    data = {
        "job": "evaluate",
        "manifest": "m.csv",
        "output": "out",
        "methods": ["vand", "adaclip"],
        "detect": {"workers": 2},
    }
    jobs = job_from_dict(data).detections()
    assert [(job.method, job.workers) for job in jobs] == [("vand", 2), ("adaclip", 2)]
