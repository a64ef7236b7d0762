"""What the paper leaves open: each key changes what it should, and nothing else."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from benchmark_cases import write_brains, write_profile
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scipy import ndimage

from ZSADCLIPLib.adapters.checkpoint import read_info
from ZSADCLIPLib.benchmark.cohort import lesion_volumes, read_cohort
from ZSADCLIPLib.benchmark.profiles import load_profile
from ZSADCLIPLib.benchmark.settings import Slices
from ZSADCLIPLib.benchmark.slices import build_slices, open_slices, read_slices
from ZSADCLIPLib.benchmark.specs import BrainSlices, DataSpec, slices_key
from ZSADCLIPLib.datasets.records import find_records
from ZSADCLIPLib.datasets.splits import make_split
from ZSADCLIPLib.errors import UsageError, WeightsError
from ZSADCLIPLib.evaluation.case import evaluate_case, sketch_case
from ZSADCLIPLib.evaluation.scales import DatasetScale
from ZSADCLIPLib.evaluation.sketches import ScoreSketch
from ZSADCLIPLib.files.digests import FileHashes
from ZSADCLIPLib.jobs.benchmark import Benchmark
from ZSADCLIPLib.report.axis import Axis
from ZSADCLIPLib.report.results import Choice, read_run
from ZSADCLIPLib.volumes.intensity import to_uint8
from ZSADCLIPLib.volumes.reading import read_volume

pytestmark = pytest.mark.usefixtures("one_figure")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("choices")
    write_brains(root / "data")
    write_profile(root / "tiny.json")
    return root


def run_of(place, name, row="vand-brats", outputs=False, **sections):
    """One row of the tiny profile with changed sections, run once for each name."""
    out = place / name
    if not out.exists():
        profile = write_profile(place / f"{name}.json", **sections)
        result = Benchmark(str(out), str(profile), str(place / "data"), (row,), outputs=outputs).run()
        assert result["failed"] == 0
    return read_run(out)


def test_the_dataset_scale_is_a_line_over_training_scores():
    sketch = ScoreSketch(0.0, 4.0, 400).add(np.array([1.0, 1.5, 3.0]), np.array([False, True, True]))
    line = DatasetScale.over(sketch)
    assert line.low == pytest.approx(1.0, abs=0.01) and line.high == pytest.approx(3.0, abs=0.011)
    assert line(line.low) == 0 and line(line.high) == 1 and line(np.float32([2.0])).dtype == np.float32
    assert DatasetScale.over(ScoreSketch(0.0, 2.0, 4)) == DatasetScale(0.0, 2.0)


def test_the_dataset_scale_moves_fixed_cuts_alone(place):
    (plain,), (scaled,) = (
        run_of(place, "layers").results,
        run_of(place, "dataset", score={"scale": "minmax-dataset"}).results,
    )
    low, high = scaled.files.threshold["limits"]
    assert 0 <= low < high <= 1 and "limits" not in plain.files.threshold
    name = "f1max-pooled-train"
    moved = (plain.files.threshold["rules"][name] - low) / (high - low)
    assert scaled.files.threshold["rules"][name] == pytest.approx(moved)
    for metric in ("dice", "auroc", "lesion_sensitivity"):
        np.testing.assert_allclose(scaled.values(metric, Choice()), plain.values(metric, Choice()), atol=2e-3)
    assert scaled.files.threshold["rules"]["fixed:0.5"] == 0.5
    fixed = Choice(rule="fixed:0.5")
    assert [c.tp + c.fp for c in scaled.confusions(fixed)] != [c.tp + c.fp for c in plain.confusions(fixed)]


def test_zscore_keeps_the_background_and_clips_at_three_deviations():
    rng = np.random.default_rng(0)
    array = rng.normal(500, 50, (4, 20, 20)).astype(np.float32)
    array[:, :5] = 0
    array[0, 10, 10], array[0, 10, 11] = 5000, 1
    found, values = to_uint8(array, "per-volume-zscore"), array[array != 0]
    assert (found[array == 0] == 0).all() and found[0, 10, 10] == 255 and found[0, 10, 11] == 1
    low, high = values.mean() - 3 * values.std(), values.mean() + 3 * values.std()
    expected = np.rint((array[2, 12, 3] - low) * 254 / (high - low) + 1)
    assert found[2, 12, 3] == expected
    assert (
        to_uint8(array - 300, "per-volume-zscore") != to_uint8(array - 300)
    ).any()  # no background: all voxels count


def test_training_masks_may_be_resized_by_the_nearest_pixel(place):
    records = tuple(find_records(place / "data", "t2w", "auto", [])[:1])
    masks = {}
    for how in ("half", "nearest"):
        build_slices(BrainSlices(str(place / how), "", DataSpec(), Slices(image_size=96), "lesion+0", 0, how), records)
        masks[how] = open_slices(place / how)[1]
    assert masks["half"].shape == masks["nearest"].shape and (masks["half"] != masks["nearest"]).any()
    edge = ndimage.binary_dilation(masks["half"], iterations=2) & ~ndimage.binary_erosion(masks["half"], iterations=2)
    assert not ((masks["half"] != masks["nearest"]) & ~edge).any()


def test_cropped_slices_train_on_the_square_that_is_scored(place):
    record = find_records(place / "data", "t2w", "auto", [])[0]
    whole, cropped, wide = (
        read_slices(record, DataSpec(), Slices(image_size=96, crop=crop)) for crop in ("none", "head", 400)
    )
    assert Slices().crop == "none" and whole.view is None
    assert np.array_equal(whole.image, cropped.image) and wide.view.side == 400
    assert (cropped.view.row, cropped.view.column) == (wide.view.row, wide.view.column)
    seen = {}
    for crop in ("none", "head"):
        folder = place / f"crop-{crop}"
        build_slices(BrainSlices(str(folder), "", DataSpec(), Slices(96, crop=crop), "lesion+0", 0), (record,))
        seen[crop] = open_slices(folder)
    images, masks = seen["head"]
    lesion = whole.truth.any(axis=(1, 2))
    assert np.array_equal(images, cropped.fit(96).apply(cropped.image[lesion]))
    assert np.array_equal(seen["none"][0], whole.fit(96).apply(whole.image[lesion])) and masks.any()
    keys = {
        slices_key(BrainSlices("", "", DataSpec(), Slices(96, crop=crop), "all", 0)) for crop in ("none", "head", 400)
    }
    assert len(keys) == 3


@pytest.mark.parametrize(
    "change, message",
    [
        ({"slices": {"intensity": "window"}}, "slices.window is None"),
        ({"slices": {"window": [0, 1]}}, "the mode window, and no other"),
        ({"slices": {"intensity": "window", "window": [3, 1]}}, r"\[3.0, 1.0\]"),
        ({"slices": {"intensity": "window", "window": [1, 2, 3]}}, "expected 2 values"),
        ({"slices": {"crop": "brain"}}, "slices.crop is 'brain'; choose one of none, head"),
        ({"slices": {"crop": 0}}, "slices.crop is 0.0; expected more than 0"),
        ({"train": {"masks": "soft"}}, "train.masks is 'soft'; choose one of half, nearest"),
        ({"metrics": {"axis": "inch"}}, "metrics.axis is 'inch'; choose one of extent, centre, mm"),
        ({"split": {"stratify": "age"}}, "split.stratify is 'age'"),
        ({"split": {"seeds": [4]}}, "at least two different"),
        ({"split": {"seeds": [4, 4]}}, "at least two different"),
        ({"split": {"seeds": [4, 5], "file": "split.json"}}, "split.file fixes the split"),
    ],
)
def test_choices_that_cannot_be_are_refused(change, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        load_profile(write_profile(tmp_path / "wrong.json", **change))


def test_the_axis_along_the_brain():
    brain = [0, 0, 5, 9, 9, 5, 0, 0, 0, 0, 0]
    case = {"slices": {"brain": brain, "distance": np.linspace(-2.3, 4, 11).tolist()}, "spacing_mm": [1, 1, 6.0]}
    assert Axis().distances(case).tolist() == case["slices"]["distance"]
    assert Axis("centre").distances(case).tolist() == pytest.approx(np.linspace(-1, 1, 11))
    millimetres = Axis.over("mm", 4, [case])
    assert millimetres.distances(case)[[2, 5]].tolist() == [-9, 9] and millimetres.reach == 10
    assert millimetres.centres == [-7.5, -2.5, 2.5, 7.5]
    assert millimetres.bin_of([-10, -9, 0, 10, 10.1]).tolist() == [0, 0, 2, 3, -1]


def test_figures_and_bins_follow_the_axis(place):
    from ZSADCLIPLib.report.figures.distance import dice_over_distance, lesions_over_distance
    from ZSADCLIPLib.report.numbers import Numbers

    run = run_of(place, "layers")
    seen = {}
    for kind, reach in (("extent", 1.0), ("centre", 1.0), ("mm", 10.0)):
        numbers = Numbers(replace(run, info={**run.info, "axis": kind, "bins": 8}))
        for draw in (dice_over_distance, lesions_over_distance):
            drawing = draw(numbers)
            assert any(numbers.axis.label == axis.get_xlabel() for axis in drawing.figure.axes)
            assert max(abs(d["distance"]) for d in drawing.data) <= reach
        seen[kind] = [d["lesion_slices"] for d in dice_over_distance(numbers).data]
    assert sum(seen["extent"]) == sum(seen["centre"]) == sum(seen["mm"]) > 0
    assert seen["extent"] != seen["centre"]


def test_a_stratified_split_gives_each_volume_group_its_share():
    volumes = {f"s{n:03d}": float(n) for n in range(40)}
    plain, split = make_split(volumes, 0.7, 5), make_split(volumes, 0.7, 5, volumes)
    assert len(split.train) == len(plain.train) == 28 and set(split.train) != set(plain.train)
    for k in range(4):
        assert sum(volumes[s] // 10 == k for s in split.train) == 7
    assert make_split(reversed(list(volumes)), 0.7, 5, volumes) == split != make_split(volumes, 0.7, 6, volumes)
    for count in range(3, 23):  # strata of unequal size leave the sizes of the sides as they are
        names = list(volumes)[:count]
        assert len(make_split(names, 0.7, 1, volumes).train) == len(make_split(names, 0.7, 1).train)


def test_the_cohort_measures_lesions_to_stratify(place):
    profile = load_profile(write_profile(place / "stratified.json", split={"stratify": "volume"}))
    found = lesion_volumes(find_records(place / "data", "t2w", "auto", []), profile)
    assert set(found.values()) == {9 * 9 * 4.0} and len(found) == 6
    split = read_cohort(profile, place / "data", FileHashes(place / "hashes.json")).split
    assert len(split.train) == 4 and split == make_split(found, 0.7, profile.split.seed, found)


def varied(place, name, rows, **sections):
    profile = write_profile(place / f"{name}.json", **sections)
    events = []
    job = Benchmark(str(place / name), str(profile), str(place / "data"), rows)
    return job, job.run(report=events.append), events


def test_several_splits_make_a_run_each_and_a_table_of_their_spread(place):
    job, result, events = varied(place, "splits", ("intensity-baseline",), split={"seeds": [1, 2, 5]})
    assert (result["rows"], result["failed"], result["kept"]) == (3, 0, 0)
    assert [e["id"] for e in events] == [f"split-{n}/intensity-baseline" for n in (1, 2, 5)]
    runs = [read_run(place / "splits" / f"split-{n}") for n in (1, 2, 5)]
    assert len({run.info["split"] for run in runs}) == 3 and all(len(run.results[0].subjects) == 2 for run in runs)
    with open(place / "splits" / "tables" / "variations.csv", newline="") as file:
        (dice,) = [line for line in csv.DictReader(file) if line["Metric"] == "Dice"]
    means = [run.results[0].mean("dice", run.choices()[0]) for run in runs]
    assert [float(dice[f"split-{n}"]) for n in (1, 2, 5)] == pytest.approx(means) and dice["Runs"] == "3"
    assert float(dice["Mean ± sd over runs mean"]) == pytest.approx(np.mean(means))
    assert float(dice["Mean ± sd over runs sd"]) == pytest.approx(np.std(means, ddof=1))
    page = (place / "splits" / "report.html").read_text("utf-8")
    assert 'href="split-2/report.html"' in page and (place / "splits" / "split-2" / "report.html").is_file()
    assert "same split" not in page
    again = job.run()
    assert again["kept"] == 3 and (place / "splits" / "report.html").read_text("utf-8") == page


def test_shards_of_several_splits_write_the_table_at_the_end(place):
    profile = write_profile(place / "shards.json", split={"seeds": [1, 2]})
    rows = ("vand-industrial", "intensity-baseline")
    for n, shard in enumerate(("1/2", "2/2")):
        job = Benchmark(str(place / "shards"), str(profile), str(place / "data"), rows, shard=shard)
        assert job.run()["failed"] == 0
        assert (place / "shards" / "tables" / "variations.csv").is_file() == (n == 1)


@pytest.mark.parametrize("region", ["bbox", "lesion-slices"])
def test_volumes_without_lesion_or_brain_are_undefined_in_further_regions(region):
    rng = np.random.default_rng(0)
    scores, nothing = rng.random((4, 8, 8)).astype(np.float32), np.zeros((4, 8, 8), bool)
    for brain in (nothing, np.ones_like(nothing)):
        rules = {"fixed:0.5": 0.5, "f1max-per-volume": None, "minmax:0.5": None, "quantile:0.9": None}
        found = evaluate_case(scores, nothing, brain, rules, region=region, levels=(0.9, 0.5), slice_ranking=True)
        assert np.isnan(found["regions"][region]["auroc"]) and found["lesion_ml"] == 0
        counts = found["rules"]["fixed:0.5"][region]
        inside = 256 if region == "bbox" and brain.any() else 0
        assert counts["tp"] + counts["fn"] == 0 and sum(counts.values()) == inside
        assert found["slice_ranking"][region]["auroc"] == [None] * 4
    sketches = sketch_case(scores, nothing, nothing, region=region)
    assert sketches[region].negatives.sum() == 0


def test_seeds_that_give_one_split_are_named(place):
    _, result, _ = varied(place, "same", ("intensity-baseline",), split={"seeds": [2, 3]})
    assert result["failed"] == 0
    assert "The split seeds 2, 3 gave the same split." in (place / "same" / "tables" / "variations.md").read_text(
        "utf-8"
    )


def test_the_embedded_brains_have_one_split(place, tmp_path):
    profile = write_profile(tmp_path / "seeds.json", split={"seeds": [1, 2]})
    with pytest.raises(UsageError, match="split.seeds needs a data set"):
        Benchmark(str(tmp_path / "out"), str(profile)).run()
    assert not (tmp_path / "out").exists()


def test_several_industrial_adapters_concern_the_rows_that_start_from_them(place, tmp_path):
    run_of(place, "industrial", row="vand-industrial")
    (source,) = (place / "industrial" / "adapters").glob("vand-*/adapter.safetensors")
    with safe_open(source, "pt") as stored:
        meta = stored.metadata()
    for name, factor in (("first", 1.0), ("second", -1.0)):
        save_file(
            {k: v * factor for k, v in load_file(source).items()}, tmp_path / f"{name}.safetensors", metadata=meta
        )
    files = [str(tmp_path / f"{name}.safetensors") for name in ("first", "second")]
    rows = ("vand-industrial", "intensity-baseline")
    _, result, _ = varied(place, "adapters", rows, methods={"vand": {"epochs": 1, "industrial": files}})
    assert (result["rows"], result["failed"]) == (3, 0)
    first, second = (read_run(place / "adapters" / f"industrial-{n}") for n in (1, 2))
    assert [r.row.id for r in first.results] == list(rows[:1]) + list(rows[1:]) and len(second.results) == 1
    assert (first.results[0].values("auroc", Choice()) != second.results[0].values("auroc", Choice())).all()
    assert first.results[0].files.manifest["method"]["start"].startswith("first.safetensors sha256")
    table = (place / "adapters" / "tables" / "variations.md").read_text("utf-8")
    assert "industrial-2: VAND from second.safetensors" in table and "Intensity" in table


def test_a_missing_second_adapter_is_noticed_before_any_work(place, tmp_path):
    there = tmp_path / "a.pth"
    there.touch()
    profile = write_profile(tmp_path / "p.json", methods={"vand": {"industrial": [str(there), "b.pth"]}})
    with pytest.raises(WeightsError, match="the industrial adapter b.pth of VAND"):
        Benchmark(str(tmp_path / "out"), str(profile), str(place / "data"), ("vand-industrial",)).run()
    assert not (tmp_path / "out" / "industrial-1").exists()


@pytest.mark.parametrize("region", ["bbox", "lesion-slices"])
def test_further_regions_are_tables_of_their_own(place, region):
    run, plain = run_of(place, region, outputs=True, metrics={"region": region}), run_of(place, "layers")
    assert [choice.region for choice in run.choices()] == [region, "all", "brain"]
    (row,), (before,) = run.results, plain.results
    for name in ("all", "brain"):  # what is always there does not change
        for case, other in zip(row.files.cases, before.files.cases, strict=True):
            assert case["regions"][name] == other["regions"][name]
    for case, counts in zip(row.files.cases, row.confusions(run.choices()[0]), strict=True):
        every = counts.tp + counts.fp + counts.fn + counts.tn
        lesion = np.array(case["slices"]["lesion"])
        if region == "bbox":
            assert every == 32 * 36 * 10  # the brains of the data set fill their boxes
        else:
            assert every == 40 * 44 * np.count_nonzero(lesion) and counts.tp + counts.fn == lesion.sum()
        assert case["slices"][f"lesion_in_{region}"] == lesion.tolist() and case["froc"]["region"] == region
    assert [len(v) for v in row.slice_dice(run.choices()[0])] == [12, 12]
    assert row.pooled_ranking(region) and row.files.threshold["region"] == region
    tables = place / region / "tables"
    assert (tables / f"table1-{region}.csv").is_file() and (tables / "table1-all.csv").is_file()
    assert f"{region}," in (tables / "cases.csv").read_text("utf-8")
    assert "bounding box" in (place / region / "report.html").read_text("utf-8") or region == "lesion-slices"


def test_the_epoch_is_chosen_on_subjects_that_do_not_train(place):
    (row,) = run_of(place, "val", train={"select": "best-val-f1", "validation": 0.25}).results
    (plain,) = run_of(place, "layers").results
    training, before = row.files.manifest["training"], plain.files.manifest["training"]
    assert training["subjects"] == before["subjects"] - 1 == 3 and training["select"] == "best-val-f1"
    assert training["selected_epoch"] in (1, 2) and training["validation_slices"] > 0 and "select" not in before
    with open(row.files.folder / "training.csv", newline="") as file:
        log = list(csv.DictReader(file))
    best = max(log, key=lambda line: float(line["val_f1"]))
    assert int(best["epoch"]) == training["selected_epoch"] and training["loss"] == float(best["total"])
    assert training["slices"] + training["validation_slices"] == before["slices"]


def test_industrial_images_choose_the_epoch_of_their_own_training(place):
    (row,) = run_of(
        place,
        "val-industrial",
        "vand-industrial",
        train={"select": "best-val-f1", "validation": 0.3},
        industrial={"images": 16},
    ).results
    (adapter,) = (place / "val-industrial" / "adapters").glob("vand-*/adapter.safetensors")
    training = read_info(adapter).provenance["training"]
    assert (training["slices"], training["validation_slices"]) == (11, 5)


def test_a_share_that_leaves_nobody_to_train_is_refused(place, tmp_path):
    profile = write_profile(tmp_path / "p.json", train={"select": "best-val-f1", "validation": 0.95})
    with pytest.raises(UsageError, match="train.validation 0.95 of 4 training subjects leaves none"):
        Benchmark(str(tmp_path / "out"), str(profile), str(place / "data"), ("vand-brats",)).run()


def test_few_shot_rows_compare_with_normal_slices_of_training_subjects(place):
    run = run_of(place, "kshot", outputs=True, methods={"vand": {"epochs": 2, "kshot": 5}})
    (row,), (plain,) = run.results, run_of(place, "layers").results
    drawn = row.files.manifest["reference"]["slices"]
    assert len(drawn) == 5 and row.files.manifest["reference"]["kshot"] == 5 and "reference" not in plain.files.manifest
    cases = [name.split(" slice ")[0] for name in drawn]
    assert len(set(cases)) == 4 and not {case[:15] for case in cases} & set(row.subjects)
    assert all(int(name.split(" slice ")[1]) in (1, 2, 7, 8, 9, 10) for name in drawn)  # lesions are in 3 to 6
    assert (row.values("auroc", Choice()) != plain.values("auroc", Choice())).all()
    table = (place / "kshot" / "tables" / "table1-all.md").read_text("utf-8")
    assert "VAND (APRIL-GAN), 5-shot" in table or "VAND, 5-shot" in table
    assert "Few-shot, not zero-shot, with normal slices of training subjects: VAND Brats" in table


def test_a_memory_bank_that_cannot_be_filled_fails_its_row_alone(place, tmp_path):
    profile = write_profile(tmp_path / "p.json", methods={"vand": {"epochs": 1, "kshot": 500}})
    events = []
    job = Benchmark(
        str(tmp_path / "out"), str(profile), str(place / "data"), ("vand-brats", "intensity-baseline"), outputs=False
    )
    assert job.run(report=events.append)["failed"] == 1
    assert {e["id"]: e["status"] for e in events} == {"vand-brats": "failed", "intensity-baseline": "done"}
    assert "24 normal slices and 500 are wanted; give a smaller kshot" in events[0]["error"]
    with pytest.raises(
        UsageError, match="methods.adaclip.kshot is 2; few-shot methods are vand, winclip, mvfa, madclip"
    ):
        load_profile(write_profile(tmp_path / "q.json", methods={"adaclip": {"kshot": 2}}))


def test_rankings_may_be_means_over_slices_with_lesion(place):
    run, plain = run_of(place, "slices", metrics={"aggregate": "slices"}), run_of(place, "layers")
    (row,), (before,), choice = run.results, plain.results, run.choices()[0]
    assert choice.aggregate == "slices" and plain.choices()[0].aggregate == "volume"
    for metric in ("auroc", "average_precision", "f1_max"):
        per_slice = [case["slice_ranking"]["all"][metric] for case in row.files.cases]
        for case, values in zip(row.files.cases, per_slice, strict=True):
            assert [v is not None for v in values] == [n > 0 for n in case["slices"]["lesion"]]
        means = [np.mean([v for v in values if v is not None]) for values in per_slice]
        assert row.values(metric, choice).tolist() == pytest.approx(means)
        np.testing.assert_array_equal(row.values(metric, Choice()), before.values(metric, Choice()))
    np.testing.assert_array_equal(row.values("dice", choice), before.values("dice", Choice()))
    with pytest.raises(UsageError, match="holds no values of slices; run it with metrics.aggregate slices"):
        before.values("auroc", choice)


def test_slices_may_be_seen_as_they_are_stored(place):
    record = find_records(place / "data", "t2w", "auto", [])[0]
    up, stored = (read_slices(record, DataSpec(), Slices(orientation=o)) for o in ("nose-up", "array"))
    assert up.image.shape == (12, 44, 40) and stored.image.shape == (12, 40, 44)
    raw = read_volume(record.image).array
    for n in range(12):
        assert (stored.intensities[n] == raw[:, :, n]).all()
    assert (np.sort(up.image.ravel()) == np.sort(stored.image.ravel())).all()
    assert (stored.stack.restore(stored.intensities) == raw).all()
    assert (stored.stack.restore(stored.truth) == up.stack.restore(up.truth)).all()
    run = run_of(place, "stored", slices={"image_size": 64, "every": 1, "orientation": "array"})
    assert "as stored" in run.results[0].files.manifest["slice_orientation"]
