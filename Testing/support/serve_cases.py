"""A server in this process over the fake engine, small volumes to send, and clients that do as they like."""

import http.client
import json
import os
import sys
import threading
import time
import zlib
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import psutil

from ZSADCLIPLib.jobs.remote import RemoteDetect
from ZSADCLIPLib.remote.settings import API, RemoteSettings
from ZSADCLIPLib.remote.tokens import read_tokens
from ZSADCLIPLib.serve import queue
from ZSADCLIPLib.serve.config import ServeSettings
from ZSADCLIPLib.serve.run import serving
from ZSADCLIPLib.volume import Volume
from ZSADCLIPLib.volumes.reading import write_volume

FAKE = Path(__file__).resolve().parent / "fake_engine.py"


def fake(behaviour="quick"):
    """The command of a server that runs the fake engine."""
    return lambda job: [sys.executable, "-u", str(FAKE), str(job), behaviour]


def brain(path, lesion=900, shape=(20, 24, 16)):
    """A NIfTI-1 file as Slicer sends it: a ball of 400 with a lesion, mm, no texts."""
    ijk = np.stack(np.meshgrid(*[np.linspace(-1.3, 1.3, n) for n in shape], indexing="ij"), -1)
    array = np.where((ijk**2).sum(-1) < 1, 400, 0).astype(np.int16)
    array[((ijk - 0.3) ** 2).sum(-1) < 0.1] = lesion
    affine = np.diag([-2.0, -2.0, 2.0, 1.0])
    affine[:3, 3] = [20, 20, -15]
    write_volume(path, Volume(array, affine), "int16")
    return path


class Served:
    """A server that listens, with what it said."""

    def __init__(self, server, said):
        self.server, self.said, self.queue = server, said, server.queue
        self.tokens = server.settings.tokens
        self.port, self.jobs = server.server_port, server.settings.root / "jobs"

    @property
    def token(self):
        return read_tokens(self.tokens)[0]

    @property
    def fingerprint(self):
        return next((line.partition(" ")[2] for line in self.said if line.startswith("fingerprint")), "")

    def ask(self, method, path, body=None, token=None, headers=None):
        """(status, JSON or text) of one call."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        sent = {"Authorization": f"Bearer {self.token if token is None else token}", **(headers or {})}
        body = json.dumps(body) if isinstance(body, (dict, list)) else body
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        try:
            return answer.status, json.loads(data)
        except ValueError:
            return answer.status, data.decode("latin-1")

    def submit(self, settings=None, token=None, **sizes):
        return self.ask("POST", "/v1/jobs", {"api": API, "settings": settings or {}, "sizes": sizes}, token)

    def start(self, image, token=None):
        """A job over an image whose volume is here; its id."""
        status, told = self.submit(token=token, input=image.stat().st_size)
        assert status == 201, told
        status, _ = self.ask("PUT", f"/v1/jobs/{told['id']}/volume", gzipped(bare(image)), token)
        assert status == 202
        return told["id"]

    def running(self, image, token=None):
        """A job whose child has said something; (id, child)."""
        job = self.start(image, token)
        until(lambda: self.ask("GET", f"/v1/jobs/{job}", token=token)[1]["events"])
        return job, psutil.Process(self.queue._jobs[job].engine.pid)

    def job_of(self, image, output, token_file=None, brain_mask=None, address=None, **settings):
        """The client's job."""
        scheme = "https" if self.server.context else "http"
        return RemoteDetect(
            address=address or f"{scheme}://127.0.0.1:{self.port}",
            token_file=str(token_file or self.tokens),
            image=str(image),
            output=str(output),
            fingerprint=self.fingerprint,
            brain_mask=brain_mask and str(brain_mask),
            settings=RemoteSettings(**settings),
        )

    def left(self):
        """What lies in the folder of jobs."""
        # Walking passes over what is removed meanwhile.
        return sorted(name for _, folders, files in os.walk(self.jobs) for name in (*folders, *files))


@contextmanager
def served(folder, behaviour="quick", command=None, gone_s=10_000.0, **settings):
    """A server over the fake engine; everything about it goes when the block ends.

    Callers of these tests may hang up and come back whenever they like, unless a test says `gone_s`.
    """
    said = []
    chosen = ServeSettings(**{"folder": str(folder), "port": 0, **settings})
    with patch.object(queue, "GONE_S", gone_s), serving(chosen, said.append, command or fake(behaviour)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield Served(server, said)
        finally:
            server.shutdown()
            thread.join()


def bare(image):
    """The bytes of a volume as a client sends them."""
    from ZSADCLIPLib.remote.bare import LENGTH, bare_header

    data = Path(image).read_bytes()
    return bare_header(data[:LENGTH], len(data)) + data[LENGTH:]


def gzipped(data):
    packer = zlib.compressobj(1, wbits=31)
    return packer.compress(data) + packer.flush()


def until(true, seconds=600):
    """Wait for something that takes so long only when it never comes."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)


def gone(*processes):
    """True when processes have ended."""
    return not [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
