"""What an earlier run left is used again for what it was made of, and for nothing else; what cannot work is refused first."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmark_cases import write_brains, write_profile
from small_models import config

from ZSADCLIPLib.adapters.checkpoint import load_adapter, save_adapter
from ZSADCLIPLib.benchmark.cohort import read_cohort
from ZSADCLIPLib.benchmark.maps import open_adapter
from ZSADCLIPLib.benchmark.plan import Machine, make_plan
from ZSADCLIPLib.benchmark.profiles import load_profile
from ZSADCLIPLib.benchmark.rows import select_rows
from ZSADCLIPLib.benchmark.single import plan_single
from ZSADCLIPLib.benchmark.slices import build_slices
from ZSADCLIPLib.benchmark.specs import AdapterSpec, BackboneSpec, DataSpec, ReferenceSlices
from ZSADCLIPLib.datasets.records import find_records
from ZSADCLIPLib.detection.case import _inputs
from ZSADCLIPLib.detection.inputs import Case
from ZSADCLIPLib.errors import InputError, UsageError
from ZSADCLIPLib.files.digests import FileHashes
from ZSADCLIPLib.jobs.benchmark import Benchmark
from ZSADCLIPLib.report.results import read_run
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.reading import files_of, read_volume, write_volume


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_brains(tmp_path_factory.mktemp("reuse") / "data")


def cohort_of(data, folder: Path, **sections):
    profile = load_profile(write_profile(folder / "profile.json", **sections))
    hashes = FileHashes(folder / "hashes.json")
    return profile, read_cohort(profile, data, hashes), hashes


def test_adapters_are_the_same_whatever_precision_scores(data, tmp_path):
    profile, cohort, hashes = cohort_of(data, tmp_path)
    rows = select_rows(("vand-finetune",), (), ())
    whole, half = (
        make_plan(profile, rows, cohort, tmp_path, Machine("cpu", p), hashes) for p in ("float32", "bfloat16")
    )
    assert whole.industrial == half.industrial and len(half.industrial) == 1
    assert [spec.backbone.precision for spec in (*half.industrial, half.rows[0].training)] == ["float32", "float32"]
    assert half.rows[0].backbone.precision == "bfloat16"


def test_a_memory_bank_of_another_order_of_subjects_is_another_one(data, tmp_path):
    profile, cohort, hashes = cohort_of(data, tmp_path, methods={"vand": {"epochs": 1, "kshot": 2}})
    rows = select_rows(("vand-brats",), (), ())
    found = []
    for seed in (2024, 5):
        changed = replace(profile, split=replace(profile.split, seed=seed))
        found.append(make_plan(changed, rows, cohort, tmp_path, Machine("cpu"), hashes).rows[0])
    assert found[0].adapter.reference.folder != found[1].adapter.reference.folder and found[0].key != found[1].key


def test_the_next_case_stands_in_for_one_without_normal_slices(data, tmp_path):
    full = write_brains(tmp_path / "full", subjects=3)
    for seg in sorted(full.rglob("*seg.nii.gz"))[:1]:
        mask = read_volume(seg)
        write_volume(seg, Volume(np.full(mask.shape, 2, np.uint8), mask.affine))
    profile = load_profile(write_profile(tmp_path / "profile.json"))
    records = tuple(find_records(full))

    def draw(count):
        folder = str(tmp_path / f"slices-{count}")
        return build_slices(ReferenceSlices(folder, "", "", DataSpec(), profile.slices, 1, count), records)

    for count in (2, 7):
        found = draw(count)
        names = [name.split(" slice ")[0] for name in found["drawn"]]
        assert found["slices"] == count == len(set(found["drawn"]))
        assert set(names) == {"BraTS-MET-00001-000", "BraTS-MET-00002-000"}
    with pytest.raises(InputError, match="gave 12 normal slices and 13 are wanted"):
        draw(13)


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_data_beside_a_header_count_as_its_content(suffix, data, tmp_path):
    itk = pytest.importorskip("SimpleITK")
    lines = ["id,image,mask,split"]
    for i, record in enumerate(find_records(data)[:2]):
        for kind, path in (("image", record.image), ("mask", record.mask)):
            itk.WriteImage(itk.ReadImage(str(path)), str(tmp_path / f"{i}-{kind}{suffix}"))
        lines.append(f"{i},{i}-image{suffix},{i}-mask{suffix},{('train', 'test')[i]}")
    (tmp_path / "cases.csv").write_text("\n".join(lines))
    image = tmp_path / f"0-image{suffix}"
    _, raw = files_of(image)
    before, sealed = cohort_of(tmp_path / "cases.csv", tmp_path)[1], _inputs(Case("0", image, None))
    content = bytearray(raw.read_bytes())
    content[-1] ^= 1
    raw.write_bytes(content)
    after = cohort_of(tmp_path / "cases.csv", tmp_path)[1]
    assert before.hashes["0"] != after.hashes["0"] and before.hashes["1"] == after.hashes["1"]
    assert _inputs(Case("0", image, None)) != sealed
    raw.unlink()
    assert files_of(image) == [image]


def test_a_dicom_folder_of_a_manifest_is_hashed_by_its_files(tmp_path):
    series = tmp_path / "series"
    series.mkdir()
    (series / "1.dcm").write_bytes(b"one")
    hashes = FileHashes(tmp_path / "hashes.json")
    first = hashes(series)
    (series / "1.dcm").write_bytes(b"two")
    assert hashes(series) != first
    with pytest.raises(InputError, match="cannot read"):
        hashes(tmp_path / "absent")


@pytest.mark.parametrize("split, name", [({"stratify": "volume"}, "stratify"), ({"file": "split.json"}, "file")])
def test_the_embedded_brains_take_no_other_split(split, name, tmp_path):
    profile = write_profile(tmp_path / "p.json", split=split)
    with pytest.raises(UsageError, match=f"split.{name} needs a data set to split: give --data"):
        Benchmark(str(tmp_path / "out"), str(profile), rows=("intensity-baseline",)).run()
    assert not (tmp_path / "out" / "data").exists()


def test_a_rule_that_its_region_leaves_nothing_is_refused(tmp_path):
    rules = {"rules": ["f1max-pooled-train", "fpr:0.01"]}
    profile = write_profile(tmp_path / "p.json", threshold=rules, metrics={"region": "lesion-slices"})
    with pytest.raises(UsageError, match="'fpr:0.01' looks at lesion-free slices"):
        load_profile(profile)
    load_profile(write_profile(tmp_path / "q.json", threshold=rules, metrics={"region": "brain"}))


def test_the_threshold_of_a_trained_adapter_is_that_of_its_own_blur(data, tmp_path):
    profile, cohort, hashes = cohort_of(data, tmp_path, score={"gaussian_sigma": 2.0})
    row = plan_single(profile, "anomalyclip", cohort, tmp_path, Machine("cpu"), hashes).row
    assert row.score.gaussian_sigma is None and row.adapter.overrides == {}


def test_an_adapter_that_was_written_anew_is_read_anew(tmp_path):
    model = BackboneSpec(config("vit"), "random:3", device="cpu")
    spec = AdapterSpec("vand", model, str(tmp_path / "a.safetensors"))
    backbone, adapter = open_adapter(replace(spec, source="vand:random"))
    save_adapter(spec.source, adapter, backbone, {})
    first = open_adapter(spec)[1]
    assert open_adapter(spec)[1] is first
    other = load_adapter("vand:random", backbone)
    for parameter in other.parameters():
        parameter.data.add_(1.0)
    save_adapter(spec.source, other, backbone, {})
    again = open_adapter(spec)[1]
    assert again is not first
    assert all(((a - b).abs() > 0.5).all() for a, b in zip(again.parameters(), first.parameters(), strict=True))


def test_a_folder_of_several_runs_says_which_ones(tmp_path):
    for name in ("split-4", "split-7"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text("{}")
    with pytest.raises(InputError, match="several runs, each with its own report; give one of them: split-4, split-7"):
        read_run(tmp_path)
