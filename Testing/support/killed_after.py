"""Runs a job file and kills its own process when it is about to put a file in place: killed_after.py COUNT JOB.json."""

import os
import signal
import sys

from ZSADCLIPLib.files import atomic
from ZSADCLIPLib.jobs.registry import read_job

left, put = int(sys.argv[1]), atomic.put_in_place


def put_or_die(temporary, path):
    """`atomic.put_in_place`, COUNT times; then the file is written and not yet there."""
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    put(temporary, path)


if __name__ == "__main__":
    atomic.put_in_place = put_or_die
    read_job(sys.argv[2]).run()
