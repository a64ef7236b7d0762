"""Put on PYTHONPATH by tests: volumes whose name says so kill, stop or slow down the process that reads them."""

import os
import signal
import time
from pathlib import Path

import ZSADCLIPLib.volumes.reading as io

_read_volume = io.read_volume


def read_volume(path, *choices):
    """`io.read_volume`, but "poison" kills the process, "hang" never ends, and every case can be made slower."""
    name = Path(path).name
    if name.startswith("poison"):
        os.kill(os.getpid(), signal.SIGKILL)
    if name.startswith("hang"):
        time.sleep(3600)
    time.sleep(float(os.environ.get("ZSADCLIP_TEST_SLOW", 0)))
    return _read_volume(path, *choices)


io.read_volume = read_volume
