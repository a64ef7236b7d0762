"""A job that kills its own process when it is about to put a file in place."""

import os
import signal

import torch
from forked import run

from ZSADCLIPLib.files import atomic
from ZSADCLIPLib.jobs.registry import read_job


def _run_or_die(count: int, job: str, threads: int) -> None:
    left, put = [count], atomic.put_in_place

    def put_or_die(temporary, path):
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        put(temporary, path)

    atomic.put_in_place = put_or_die
    torch.set_num_threads(threads)
    read_job(job).run()


def killed_after(count: int, job: os.PathLike) -> bool:
    """Whether a job's process was killed when it had put `count` files in place; the next is written and not yet there."""
    return run(_run_or_die, count, str(job), torch.get_num_threads()) == -signal.SIGKILL
