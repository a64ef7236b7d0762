"""The GPU's ways, forced on the CPU with fakes: pinned memory, copies that arrive later, memory that runs out."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ZSADCLIPLib.detection import batches, devices
from ZSADCLIPLib.detection.batches import run_batches

SLICES = np.arange(7 * 4, dtype=np.uint8).reshape(7, 2, 2)
CPU = SimpleNamespace(device=torch.device("cpu"), preprocess=lambda images: images.float())


class FakeTensor:
    """A result that says it is on a GPU."""

    device = torch.device("cuda:1")

    def __init__(self, values, log):
        self.values, self.log, self.shape, self.dtype = values, log, values.shape, values.dtype


class FakePinned:
    def __init__(self, log):
        self.log, self.values = log, None

    def copy_(self, source, non_blocking):
        assert non_blocking
        self.log.append(f"copy {int(source.values.flatten()[0])}")
        self.values = source.values
        return self

    def numpy(self):
        return self.values.numpy()


class FakeEvent:
    def __init__(self, log):
        self.log = log

    def record(self, stream):
        assert stream == "stream of cuda:1"
        self.log.append("record")

    def synchronize(self):
        self.log.append("wait")


@pytest.fixture
def gpu(monkeypatch):
    log = []
    monkeypatch.setattr(batches, "_pinned", lambda like: FakePinned(log))
    monkeypatch.setattr(torch.cuda, "Event", lambda: FakeEvent(log))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: log.append("empty"))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: log.append("pin") or self)
    backbone = SimpleNamespace(device=torch.device("cuda:1"), preprocess=lambda images: images.float())
    return backbone, log


def collect(backbone, score, batch=3):
    out, texts = {}, []

    def keep(rows, results):
        out.update(zip(rows.tolist(), results[0], strict=True))

    size = run_batches(backbone, SLICES, np.arange(7), batch, score, keep, lambda f, t, *count: texts.append(t))
    return out, texts, size


def test_results_arrive_while_the_next_batch_is_computed(gpu):
    backbone, log = gpu

    def score(images):
        log.append(f"score {int(images.flatten()[0])}")
        return (FakeTensor(images * 2, log),)

    out, _, _ = collect(backbone, score)
    assert sorted(out) == list(range(7)) and all(np.array_equal(out[i], SLICES[i] * 2.0) for i in out)
    # The host waits for batch 1 only after batch 2 was queued; nothing waits in between.
    assert log[:9] == ["pin", "score 0", "copy 0", "record", "pin", "score 12", "copy 24", "record", "wait"]
    assert log.count("wait") == log.count("record") == 3


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
)
def test_memory_that_runs_out_on_the_gpu_empties_its_cache_and_halves(gpu, error):
    backbone, log = gpu

    def score(images):
        if len(images) > 1:
            raise error
        return (FakeTensor(images, log),)

    out, texts, size = collect(backbone, score, batch=4)
    assert size == 1 and log.count("empty") == 2 and len(out) == 7
    assert [t for t in texts if "out of memory" in t][-1].endswith("batches of 1")


def test_one_slice_that_does_not_fit_is_an_error():
    def score(images):
        raise RuntimeError("MPS backend out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        collect(CPU, score)


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    calls = []

    def score(images):
        calls.append(1)
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        collect(CPU, score)
    assert len(calls) == 1


def test_no_slices_are_no_batches():
    assert run_batches(CPU, SLICES, np.arange(0), 3, None, None) == 3


@pytest.mark.parametrize(("free", "expected"), [(64 << 30, 64), (2 << 30, 9), (1, 1)])
def test_batch_size_follows_the_free_memory(monkeypatch, free, expected):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 80 << 30))
    vision = SimpleNamespace(grid=lambda size: 17, width=1024)
    model = SimpleNamespace(device=torch.device("cuda"), dtype=torch.float32, vision=vision)
    assert devices.default_batch_size(model, 240) == expected
    assert devices.default_batch_size(CPU, 240) == devices.CPU_BATCH


@pytest.fixture
def asked():
    devices.has_fast_bfloat16.cache_clear()
    yield
    devices.has_fast_bfloat16.cache_clear()


def test_auto_precision_on_a_cpu_without_bfloat16(asked, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert devices.choose_dtype("auto", "cpu", "vand") == "float32"
    with pytest.warns(UserWarning, match="emulated.*float32"):
        assert devices.choose_dtype("bfloat16", "cpu", "vand") == "bfloat16"


@pytest.mark.parametrize(("has", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_auto_precision_follows_the_instructions_of_the_cpu(asked, monkeypatch, has, expected):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert devices.choose_dtype("auto", "cpu", "vand") == expected
    assert devices.choose_dtype("auto", "cpu", "anovl") == "float32"


@pytest.mark.parametrize(("capability", "expected"), [((9, 0), "bfloat16"), ((7, 5), "float32")])
def test_auto_precision_on_a_gpu(asked, monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert devices.choose_dtype("auto", "cuda", "adaclip") == expected
