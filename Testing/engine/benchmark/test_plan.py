"""Keys and folders: a row's key changes with what its numbers depend on, and with nothing else."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from benchmark_cases import write_brains, write_profile

from ZSADCLIPLib.adapters import METHODS
from ZSADCLIPLib.benchmark import estimate
from ZSADCLIPLib.benchmark.cohort import read_cohort
from ZSADCLIPLib.benchmark.plan import Machine, make_plan
from ZSADCLIPLib.benchmark.profiles import PROFILES, load_profile
from ZSADCLIPLib.benchmark.rows import select_rows
from ZSADCLIPLib.benchmark.runner import groups
from ZSADCLIPLib.benchmark.settings import BackboneChoice, Slices
from ZSADCLIPLib.benchmark.slices import build_slices, chosen_slices, open_slices, read_slices
from ZSADCLIPLib.benchmark.specs import (
    BrainSlices,
    DataSpec,
    IndustrialSlices,
    RowSpec,
    SliceSpec,
    TrainingSpec,
    from_json,
    to_json,
)
from ZSADCLIPLib.cli import main
from ZSADCLIPLib.datasets.records import Record
from ZSADCLIPLib.errors import UsageError, WeightsError
from ZSADCLIPLib.files import digests
from ZSADCLIPLib.files.digests import FileHashes
from ZSADCLIPLib.files.privacy import pseudonym
from ZSADCLIPLib.jobs.detect import Detect


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("plan")
    write_brains(root / "data")
    write_profile(root / "tiny.json")
    return root


def plan_of(place, profile=None, machine=None, rows=None):
    hashes = FileHashes(place / "hashes.json")
    profile = profile or load_profile(place / "tiny.json")
    cohort = read_cohort(profile, place / "data", hashes)
    return make_plan(profile, rows or select_rows(), cohort, place / "out", machine or Machine(), hashes)


def keys(plan):
    return {spec.row: spec.key for spec in plan.rows}


def changed(place, **sections):
    """The rows whose key differs when sections of the profile change."""
    base = load_profile(place / "tiny.json")
    before = keys(plan_of(place, base))
    after = keys(plan_of(place, replace(base, **{k: replace(getattr(base, k), **v) for k, v in sections.items()})))
    return {row for row in before if before[row] != after[row]}


def test_a_plan_is_repeatable_and_plain(place):
    first, second = plan_of(place), plan_of(place)
    assert first.rows == second.rows and len(set(keys(first).values())) == 14
    assert len(first.industrial) == 3 and sum(spec.training is not None for spec in first.rows) == 9
    assert [len(group) for group in groups(list(first.rows))] == [3, 1, 1, 3, 1, 3, 1, 1]


def test_specifications_come_back_from_json_as_they_were(place):
    base = load_profile(place / "tiny.json")
    window = replace(base, slices=replace(base.slices, intensity="window", window=(0.0, 300.0)))
    chosen = replace(window, train=replace(base.train, select="best-val-f1"))
    plan = plan_of(place, replace(chosen, methods={**base.methods, "vand": replace(base.method("vand"), kshot=2)}))
    kinds = {type(spec).__name__ for spec, _ in plan.slice_sets}
    assert kinds == {"BrainSlices", "IndustrialSlices", "ReferenceSlices"}
    for kind, specs in (
        (tuple[RowSpec, ...], plan.rows),
        (tuple[TrainingSpec, ...], plan.industrial),
        (tuple[SliceSpec, ...], tuple(spec for spec, _ in plan.slice_sets)),
        (tuple[Record, ...], tuple(plan.cohort.records)),
    ):
        assert from_json(kind, json.loads(json.dumps(to_json(specs)))) == specs
    trainings = [*plan.industrial, *(spec.training for spec in plan.rows if spec.training)]
    assert {type(spec.validation) for spec in trainings} == {float, BrainSlices}


def test_keys_follow_what_matters(place):
    trained = {row.id for row in select_rows() if row.trained_on}
    all_rows = {row.id for row in select_rows()}
    assert changed(place, train={"seed": 5}) == {row.id for row in select_rows() if row.start is not None}, (
        "the seed trains the industrial adapters too"
    )
    assert changed(place, train={"slices": "brain"}) == trained
    assert changed(place, score={"scale": "rank"}) == all_rows - {"intensity-baseline"}
    assert changed(place, slices={"every": 2}) == all_rows
    assert changed(place, threshold={"max_subjects": 1}) == all_rows
    assert changed(place, metrics={"region": "brain"}) == all_rows
    assert changed(place, industrial={"images": 12}) == {row.id for row in select_rows() if row.start == "industrial"}
    assert changed(place, train={"masks": "nearest"}) == {row.id for row in select_rows() if row.start is not None}
    assert changed(place, slices={"intensity": "window", "window": (0.0, 300.0)}) == all_rows
    assert changed(place, metrics={"bins": 10, "slice_policy": "all", "axis": "mm", "undefined": "zero"}) == set()


def test_manifest_lines_without_a_side_are_listed(place, tmp_path):
    names = [f"BraTS-MET-{n:05d}-000" for n in range(3)]
    files = [f"{name},{place / 'data' / name / name}" for name in names]
    lines = [f"{file}-t2w.nii.gz,{side}" for file, side in zip(files, ("train", "test", ""), strict=True)]
    (tmp_path / "m.csv").write_text("\n".join(["id,image,split", *lines]))
    cohort = read_cohort(load_profile(place / "tiny.json"), tmp_path / "m.csv", FileHashes(tmp_path / "h.json"))
    assert len(cohort.records) == 2 and "case BraTS-MET-00002-000 has no split" in cohort.problems[0]


def test_methods_and_data_make_keys(place, tmp_path):
    base = load_profile(place / "tiny.json")
    other = replace(base, methods={**base.methods, "vand": replace(base.method("vand"), epochs=3)})
    before, after = keys(plan_of(place, base)), keys(plan_of(place, other))
    assert {row for row in before if before[row] != after[row]} == {
        "vand-industrial", "vand-finetune", "vand-brats", "vand-pmc"
    }  # fmt: skip
    write_brains(tmp_path / "data", subjects=7)
    hashes = FileHashes(tmp_path / "hashes.json")
    cohort = read_cohort(base, tmp_path / "data", hashes)
    moved = make_plan(base, select_rows(), cohort, place / "out", Machine(), hashes)
    assert not set(keys(moved).values()) & set(before.values())


def test_missing_weights_are_named_before_any_work(place, tmp_path, monkeypatch):
    monkeypatch.setenv("ZSADCLIP_CACHE", str(tmp_path))
    base = load_profile(place / "tiny.json")
    with pytest.raises(WeightsError, match="weights of PMC-CLIP are missing"):
        plan_of(place, replace(base, backbones={**base.backbones, "pmc": BackboneChoice("PMC-CLIP")}))
    given = replace(base, methods={**base.methods, "vand": replace(base.method("vand"), industrial="mvtec.pth")})
    with pytest.raises(WeightsError, match="the industrial adapter mvtec.pth of VAND .* is missing"):
        plan_of(place, given)
    with pytest.raises(UsageError, match="vand has no industrial adapter"):
        plan_of(
            place, replace(base, industrial=replace(base.industrial, images=0)), rows=select_rows(("vand-finetune",))
        )


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package, which `code_version` digests instead."""
    copy = shutil.copytree(digests.PACKAGE, tmp_path / "package", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(digests, "PACKAGE", copy)
    yield copy
    digests.code_version.cache_clear()


def test_what_makes_numbers_enters_keys_and_nothing_else_does(place, package):
    def keys_after(name, change):
        (package / name).write_bytes(change((package / name).read_bytes()))
        digests.code_version.cache_clear()
        plan = plan_of(place, rows=select_rows(("intensity-baseline",)))
        return plan.rows[0].key, Detect(("a.nii",), "out").key

    def more(content):
        return content + b"# more"

    before = keys_after("volume.py", lambda content: content.replace(b"\n", b"\r\n"))
    for name in ("report/page.py", "cli/__init__.py", "jobs/registry.py", "files/privacy.py", "data/NOTICE.txt"):
        assert keys_after(name, more) == before, name
    for name in ("evaluation/metrics.py", "volume.py", "data/mini.safetensors", "prompts/vand.json"):
        after = keys_after(name, more)
        assert after[0] != before[0] and after[1] != before[1], name
        before = after


def test_the_code_version_heeds_names_and_no_line_ends(package):
    before = digests.code_version.__wrapped__()
    assert before.startswith("0.1.0+") and len(before) == 18
    for path in package.rglob("*.py"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert digests.code_version.__wrapped__() == before
    (package / "volumes" / "nifti.py").rename(package / "volumes" / "nifty.py")
    assert digests.code_version.__wrapped__() != before


def test_files_that_a_profile_names_enter_keys_by_content(place, tmp_path):
    model, prompts = tmp_path / "model.json", tmp_path / "prompts.json"
    words = {"normal": ["{}"], "abnormal": ["broken {}"], "templates": ["a {}"]}
    base, rows = load_profile(place / "tiny.json"), select_rows(("vand-industrial", "vand-brats"))
    given = base.backbones["default"].name
    vand = replace(base.method("vand"), settings={"prompts": str(prompts)})
    named = replace(
        base,
        backbones={**base.backbones, "default": BackboneChoice(str(model), "random:3")},
        methods={**base.methods, "vand": vand},
    )

    def keys_with(config, sentences):
        model.write_text(json.dumps(config))
        prompts.write_text(json.dumps(sentences))
        return set(keys(plan_of(place, named, rows=rows)).values())

    first = keys_with(given, words)
    assert keys_with(given, words) == first
    assert not first & keys_with({**given, "embed_dim": 99}, words)
    assert not first & keys_with(given, {**words, "abnormal": ["ill {}"]})


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"diec": "batch"}, "has no field 'diec'"),
        ({"dice": "bath"}, "dice is 'bath'; choose one of image, rows, batch"),
        ({"temperature": "hot"}, "temperature is 'hot'; expected a number"),
        ({"prompts": "no-such-set"}, "no prompt set 'no-such-set'"),
    ],
)
def test_settings_of_methods_are_refused_before_any_work(place, settings, words):
    base = load_profile(place / "tiny.json")
    wrong = replace(base, methods={**base.methods, "vand": replace(base.method("vand"), settings=settings)})
    with pytest.raises(UsageError, match=words):
        plan_of(place, wrong)


def test_every_kth_slice_and_the_training_choice(place):
    profile = load_profile(place / "tiny.json")
    (record, *_) = read_cohort(profile, place / "data", FileHashes(place / "hashes.json")).records
    whole, third = (read_slices(record, DataSpec(), Slices(every=every)) for every in (1, 3))
    assert len(third.image) == 4 and third.spacing == (1.0, 1.0, 3.0)
    assert (third.image == whole.image[1::3]).all() and (third.truth == whole.truth[1::3]).all()
    rows = chosen_slices(whole, "lesion+3", 0)
    assert whole.truth[rows].any(axis=(1, 2)).sum() == 4 and len(rows) == 7
    assert (rows == chosen_slices(whole, "lesion+3", 0)).all()
    assert len(chosen_slices(whole, "brain", 0)) == 10 and len(chosen_slices(whole, "all", 0)) == 12
    assert whole.fit(64).resample == "bicubic" and METHODS["anovl"].load().resample == "bilinear"


def test_a_dry_run_needs_neither_data_nor_weights(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ZSADCLIP_CACHE", str(tmp_path))
    assert main(["benchmark", "--profile", "paper", "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "115 subjects to train on, 50 to test" in printed and printed.count("ViT-L-14-336") >= 9
    assert "backbone PMC-CLIP: missing" in printed and "assumes the paper's 165 subjects" in printed
    assert not (tmp_path / "out").exists()


def test_rows_without_a_backbone_are_left_out_and_said_unless_they_were_named(tmp_path, capsys):
    (tmp_path / "mine.json").write_text('{"base": "mini", "rows": "extended"}')
    args = ["benchmark", "--profile", str(tmp_path / "mine.json"), "--out", str(tmp_path / "out"), "--dry-run"]
    assert main(args) == 0
    out, err = capsys.readouterr()
    said = "8 rows are left out, as profile mine has no backbone for biomedclip; backbones.biomedclip brings them in"
    assert "mvfa-few-shot" in out and "-biomedclip" not in out and said in out + err
    assert main([*args, "--rows", "vand-biomedclip"]) == 2
    assert "has no backbone for biomedclip" in capsys.readouterr().err


def test_times_follow_method_backbone_and_size_and_unknown_backbones_are_the_dearest():
    rows = select_rows(("vand-brats", "adaclip-brats", "vand-pmc"))

    def hours(profile):
        told = estimate.estimate(profile, rows, None, device="cpu")
        return [line["score_hours"] for line in told["rows"]], [line["train_hours"] for line in told["rows"]], told

    base = load_profile("paper")
    (adaclip, vand, pmc), trained, told = hours(base)
    slices = told["rows"][1]["threshold_slices"] + told["rows"][1]["test_slices"]
    assert vand == pytest.approx(slices * 1.9 / 3600) and adaclip == pytest.approx(2.3 * vand) and pmc < vand / 5
    assert trained[0] > trained[1] > trained[2] > 0
    larger = replace(base, slices=replace(base.slices, image_size=480))
    assert hours(larger)[0] == pytest.approx([4 * adaclip, 4 * vand, 4 * pmc])
    unknown = replace(base, backbones={**base.backbones, "pmc": BackboneChoice("ViT-H-14", "laion2b_s32b_b79k")})
    assert hours(unknown)[0][2] == pytest.approx(vand) and "ViT-H-14" in hours(unknown)[2]["notes"][1]


def test_a_dry_run_says_what_it_takes_of_the_disk(tmp_path, monkeypatch, capsys):
    rows, base = select_rows(("vand-brats", "intensity-baseline")), load_profile("mini")

    def disk(profile, rows=rows, data=None):
        return estimate.estimate(profile, rows, data, device="cpu")["disk_gb"]

    told = disk(base)
    counts = estimate.counts(base, None)
    assert told["features"] == 0 and told["brains"] == pytest.approx(16 * 2.7e-3)  # the cache of mini is in memory
    assert told["slices"] == pytest.approx(2 * 240**2 * counts["train_slices"] * 10 / 1e9)
    assert told["results"] == pytest.approx(2 * (6 * 0.205 + 2 * 0.063) / 1e3)
    whole = replace(base, slices=replace(base.slices, every=1))
    stored = replace(whole, train=replace(base.train, cache="disk"), keep=replace(base.keep, maps=True))
    assert disk(stored)["features"] > 0 and disk(stored)["results"] > 2 * 6 * 21 / 1e3
    assert disk(base, rows[1:])["slices"] == 0
    out = tmp_path / "not" / "yet"
    assert estimate.short_of_room(out, 0.0) == [] and "GB left" in estimate.short_of_room(out, 1e9)[0]
    monkeypatch.setattr(estimate, "CASE_MB", dict.fromkeys(estimate.CASE_MB, 1e9))
    assert main(["benchmark", "--out", str(out), "--dry-run", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "disk: about" in printed and "results" in printed and "free some space" in printed


def test_a_dry_run_refuses_a_backbone_that_the_run_would_refuse():
    base = load_profile("paper")
    unknown = replace(base, backbones={**base.backbones, "pmc": BackboneChoice("ViT-H-14")})
    with pytest.raises(WeightsError, match="'ViT-H-14' needs weights"):
        estimate.estimate(unknown, select_rows(("vand-pmc",)), None)


def test_a_dry_run_is_priced_on_the_device_asked_for(tmp_path, capsys):
    assert main(["benchmark", "--out", str(tmp_path / "out"), "--dry-run", "--device", "abacus"]) == 2
    assert "abacus" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[]", "3", '{"a": 5, "b": []}', "{"])
def test_a_damaged_store_of_hashes_is_begun_again(text, tmp_path):
    store, file = tmp_path / "hashes.json", tmp_path / "file"
    file.write_bytes(b"abc")
    name = pseudonym(str(file.resolve()), "file")
    store.write_text(text.replace("a", name))
    hashes = FileHashes(store)
    assert hashes(file) == hashlib.sha256(b"abc").hexdigest()
    hashes.save()
    assert list(json.loads(store.read_text("utf-8"))) == [name]


def test_a_store_that_names_files_forgets_them(tmp_path):
    store = tmp_path / "hashes.json"
    store.write_text(json.dumps({"/ward7/DOE.nii": [1, 2, "3"]}))
    FileHashes(store).save()
    assert json.loads(store.read_text("utf-8")) == {}


def test_a_wrong_setting_of_a_method_is_refused_before_brains_are_made(tmp_path, capsys):
    write_profile(tmp_path / "wrong.json", methods={"vand": {"settings": {"diec": "batch"}}})
    for more in ([], ["--dry-run"]):
        assert (
            main(["benchmark", "--profile", str(tmp_path / "wrong.json"), "--out", str(tmp_path / "out"), *more]) == 2
        )
        assert "methods.vand.settings has no field 'diec'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_real_data_is_asked_for(tmp_path, capsys):
    assert main(["benchmark", "--profile", "paper", "--out", str(tmp_path / "out")]) == 2
    assert "works on real data: give --data" in capsys.readouterr().err
    assert PROFILES["paper"].data.train_cases == 0


def test_slice_files_are_memory_mapped_and_subsets_seeded(place, tmp_path):
    found = build_slices(IndustrialSlices(str(tmp_path / "s"), 6, 1, 64), ())
    assert found == {"slices": 6, "lesion": 4, "size": 64}
    images, masks = open_slices(tmp_path / "s")
    assert images.shape == masks.shape == (6, 64, 64) and masks.dtype == bool and hasattr(images, "filename")
    first, second = (open_slices(tmp_path / "s", 3, seed=4)[0] for _ in range(2))
    assert (first == second).all() and len(first) == 3
    assert Path(tmp_path / "s" / "info.json").is_file()


def test_a_subset_of_subjects_is_random_or_the_first(place):
    base = load_profile(place / "tiny.json")
    limited = replace(base, methods={**base.methods, "vand": replace(base.method("vand"), max_subjects=2)})
    hashes = FileHashes(place / "hashes.json")
    cohort = read_cohort(base, place / "data", hashes)
    names = sorted({record.subject for record in cohort.side("train")})
    (row,) = select_rows(("vand-brats",))
    found = {}
    for subset in ("random", "first"):
        profile = replace(limited, train=replace(limited.train, subset=subset))
        plan = make_plan(profile, (row,), cohort, place / "out", Machine(), hashes)
        ((_, records),) = plan.slice_sets
        found[subset] = sorted(record.subject for record in records)
    assert found["first"] == names[:2] != found["random"] and len(found["random"]) == 2


def test_names_prompts_and_positions_are_settings_of_a_method(place):
    base = load_profile(place / "tiny.json")
    before = keys(plan_of(place, base))
    for setting in ({"object_name": "head"}, {"prompts": "medical-mri"}, {"pos_embed": "bilinear"}):
        other = replace(base, methods={**base.methods, "vand": replace(base.method("vand"), settings=setting)})
        after = keys(plan_of(place, other))
        assert {row for row in before if before[row] != after[row]} == {row for row in before if row.startswith("vand")}
