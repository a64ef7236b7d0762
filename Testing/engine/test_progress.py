"""Progress tells what is done of what as numbers, and nothing reads them out of the text."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import torch

from ZSADCLIPLib.datasets.audit import audit
from ZSADCLIPLib.detection.batches import run_batches
from ZSADCLIPLib.progress import sub_progress
from ZSADCLIPLib.synthetic.brains import write_dataset


class Told(list):
    """A progress callable that remembers (fraction, text, done, total)."""

    def __call__(self, fraction, text, done=None, total=None):
        self.append((fraction, text, done, total))


def test_a_sub_progress_scales_the_fraction_and_passes_the_numbers_on():
    told = Told()
    inner = sub_progress(sub_progress(told, 0.5, 1.0, "test: "), 0.0, 0.5)
    inner(0.0, "begin")
    inner(0.5, "three", 3, 10)
    inner(1.0, "end", done=10, total=10)
    assert told == [(0.5, "test: begin", None, None), (0.625, "test: three", 3, 10), (0.75, "test: end", 10, 10)]


def test_slices_are_counted_and_a_message_between_them_is_not():
    def score(images):
        if len(images) > 2:
            raise MemoryError("out of memory")
        return (images,)

    told, images = Told(), np.zeros((5, 2, 2), np.uint8)
    backbone = SimpleNamespace(device=torch.device("cpu"), preprocess=lambda images: images.float())
    run_batches(backbone, images, np.arange(5), 4, score, lambda rows, results: None, told, (2, 7))
    assert [line[2:] for line in told] == [(2, 7), (None, None), (2, 7), (4, 7), (6, 7), (7, 7)]


def test_cases_are_counted_as_they_are_finished(tmp_path):
    made, read = Told(), Told()
    write_dataset(tmp_path, cases=3, seed=4, domain="industrial", progress=made)
    audit(tmp_path, "image", progress=read)
    assert [line[2:] for line in made] == [line[2:] for line in read] == [(n, 3) for n in range(4)]


CHILD = """
import sys
import ZSADCLIPLib.jobs.child as child

class Job:
    def run(self, progress, report):
        progress(0.25, "test: slice 7 of 9")
        progress(0.5, "words without a number", 3, 10)
        return {}

child.read_job = lambda path: Job()
sys.exit(child.run("none.json"))
"""


def test_the_child_process_writes_the_numbers_it_was_given():
    pipe = subprocess.PIPE  # an input that ends would cancel
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=pipe, stdout=pipe, text=True) as child:
        events = [json.loads(line) for line in child.stdout]
    assert child.returncode == 0
    spoken = [event for event in events if event["event"] == "progress"]
    assert [set(event) for event in spoken] == [{"event", "fraction", "text", "done", "total", "eta"}] * 2
    assert [(event["done"], event["total"]) for event in spoken] == [(None, None), (3, 10)]
    assert all(event["eta"] >= 0 for event in spoken)
