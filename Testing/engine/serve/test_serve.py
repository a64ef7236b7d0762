"""Jobs of several clients on one server: results, queue, cancelling, loss of either side, and nothing left behind."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import serve_cases
from serve_cases import bare, brain, fake, gone, gzipped, served, until

from ZSADCLIPLib.errors import ServerError, UsageError
from ZSADCLIPLib.jobs.detect import Detect
from ZSADCLIPLib.progress import Cancelled
from ZSADCLIPLib.remote.settings import IMAGE, OUT, RESULTS
from ZSADCLIPLib.remote.tokens import add_token
from ZSADCLIPLib.volumes.reading import read_volume

ROOT = Path(__file__).resolve().parents[3]


def files_of(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file() and path.name[0] != "."}


def test_the_embedded_model_gives_the_same_files_as_on_this_computer(tmp_path):
    from ZSADCLIPLib.serve.engine import engine_command

    image = brain(tmp_path / "input.nii")
    mask = brain(tmp_path / "brain.nii", lesion=400)
    wanted = {"method": "vand", "backbone": "mini", "min_size_mm3": 5.0}
    local = Detect(
        (str(image),), str(tmp_path / "local"), pictures=False, compress=False, brain_mask=str(mask), **wanted
    )
    local.run()
    with served(tmp_path / "serve", command=engine_command, tls=True) as here:
        events = []
        told = here.job_of(image, tmp_path / "remote", brain_mask=mask, **wanted).run(report=events.append)
        until(lambda: not here.left())
    assert told["failed"] == 0 and [event["event"] for event in events if event["event"] == "case"] == ["case"]
    ours, theirs = files_of(tmp_path / "local"), files_of(tmp_path / "remote")
    assert theirs.keys() == set(RESULTS) and ours == theirs


def test_two_clients_at_once_get_their_own_results(tmp_path):
    first, second = brain(tmp_path / "first.nii", 900), brain(tmp_path / "second.nii", 700)
    with served(tmp_path / "serve", workers=2) as here:
        add_token(here.tokens)  # a client more, while the server runs
        other = tmp_path / "other"
        other.touch(0o600)
        other.write_text(here.tokens.read_text().splitlines()[1])
        jobs = [here.job_of(first, tmp_path / "a"), here.job_of(second, tmp_path / "b", token_file=other)]
        threads = [threading.Thread(target=job.run) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        until(lambda: not here.left())
    for name, lesion in (("a", 900), ("b", 700)):
        scores = read_volume(tmp_path / name / "input_anomaly.nii").array
        assert np.unique(scores).tolist() == pytest.approx([0, 400 / lesion, 1])


def test_one_job_a_client_and_no_more_than_the_queue_holds(tmp_path):
    image = brain(tmp_path / "input.nii")
    size = image.stat().st_size
    with served(tmp_path / "serve", "slow", queue=1) as here:
        tokens = [here.token, add_token(here.tokens), add_token(here.tokens)]
        job, _ = here.running(image)
        status, told = here.submit(input=size)
        assert status == 409 and "has a job already" in told["error"]
        waiting = here.start(image, tokens[1])
        assert here.ask("GET", f"/v1/jobs/{waiting}", token=tokens[1])[1] | {"id": ""} == {
            "id": "", "state": "queued", "position": 1, "events": [], "next": 0,
        }  # fmt: skip
        status, told = here.submit(token=tokens[2], input=size)
        assert status == 503 and "busy with 2 jobs" in told["error"]
        # No client sees another's job.
        for method, path in (("GET", ""), ("DELETE", ""), ("PUT", "/volume"), ("GET", "/files/input.json")):
            body = b"" if method == "PUT" else None
            assert here.ask(method, f"/v1/jobs/{job}{path}", body, tokens[2])[0] == 404
        assert here.ask("DELETE", f"/v1/jobs/{job}")[0] == 200
        until(lambda: here.ask("GET", f"/v1/jobs/{waiting}", token=tokens[1])[1]["state"] == "running")
        assert here.submit(input=size)[0] == 201  # the cancelled job counts no more
    assert not here.jobs.exists()


@pytest.mark.parametrize("behaviour", ["slow", "deaf"])
def test_a_cancel_ends_the_child_and_all_it_started_and_removes_the_files(tmp_path, monkeypatch, behaviour):
    from ZSADCLIPLib.serve.engine import Engine

    answered, stop = threading.Event(), Engine._cancel
    monkeypatch.setattr(Engine, "_cancel", lambda self: (answered.wait(), stop(self)))
    with served(tmp_path / "serve", behaviour) as here:
        job, child = here.running(brain(tmp_path / "input.nii"))
        family = [child, *child.children(recursive=True)]
        assert (IMAGE in here.left()) and len(family) == (2 if behaviour == "deaf" else 1)
        assert here.ask("DELETE", f"/v1/jobs/{job}")[0] == 200
        assert not gone(child)  # the answer does not wait for it
        answered.set()
        until(lambda: gone(*family) and not here.left())
        assert here.ask("GET", f"/v1/jobs/{job}")[0] == 404
        assert here.queue.status()["cancelled"] == 1


def test_the_grace_of_a_child_and_one_poll_are_less_than_a_second():
    from ZSADCLIPLib.remote.client import WAIT
    from ZSADCLIPLib.serve.engine import GRACE

    assert GRACE + WAIT < 1


def test_a_client_that_cancels_ends_the_servers_job(tmp_path):
    seen = []

    def progress(fraction, text, done=None, total=None):
        seen.append(text)
        if done:
            raise Cancelled("enough")

    with served(tmp_path / "serve", "slow") as here:
        with pytest.raises(Cancelled):
            here.job_of(brain(tmp_path / "input.nii"), tmp_path / "out").run(progress)
        until(lambda: not here.left())
        assert {"packing", "sending", "waiting"} <= set(seen) and not (tmp_path / "out").exists()


def test_a_client_that_disappears_costs_its_job(tmp_path, monkeypatch):
    with served(tmp_path / "serve", "slow") as here, monkeypatch.context() as patch:
        job, child = here.running(brain(tmp_path / "input.nii"))
        patch.setattr("ZSADCLIPLib.serve.queue.GONE_S", 0.5)
        here.ask("GET", f"/v1/jobs/{job}")  # its last call
        until(lambda: gone(child) and not here.left())
        assert "cancelled, its client is gone" in here.said[-1]
        assert here.ask("GET", f"/v1/jobs/{job}")[0] == 404


@pytest.mark.skipif(os.name != "posix", reason="ends a process by a signal")
def test_a_client_that_is_killed_costs_its_job_at_once(tmp_path):
    """Its call ends with it: nobody waits for the lease, and its next job is not refused."""
    with served(tmp_path / "serve", "slow", gone_s=0.5, lease_s=3600) as here:
        job = here.job_of(brain(tmp_path / "input.nii"), tmp_path / "out")
        (tmp_path / "job.json").write_text(
            json.dumps({"job": "remote", **json.loads(json.dumps(vars(job), default=vars))})
        )
        command = [sys.executable, "-m", "ZSADCLIPLib", "run", str(tmp_path / "job.json")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as client:
            until(lambda: json.loads(client.stdout.readline()).get("done"))
            client.kill()
        here.queue._command = fake()
        job.run()  # waits for the other to be noticed
        until(lambda: not here.left() and here.queue.status()["cancelled"] == 1)
    assert (tmp_path / "out" / "input.json").is_file()


def test_who_has_a_job_waits_a_moment_and_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("ZSADCLIPLib.remote.client.PATIENCE", 0.5)
    image, seen = brain(tmp_path / "input.nii"), []
    with served(tmp_path / "serve", "slow") as here:
        here.running(image)
        with pytest.raises(ServerError, match="has a job already"):
            here.job_of(image, tmp_path / "out").run(lambda fraction, text, *_: seen.append(text))
    assert "waiting" in seen


def test_a_client_that_disappears_while_it_sends(tmp_path):
    image = brain(tmp_path / "input.nii")
    body = gzipped(bare(image))
    with served(tmp_path / "serve") as here:
        _, told = here.submit(input=image.stat().st_size)
        head = f"PUT /v1/jobs/{told['id']}/volume HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {here.token}\r\n"
        with socket.create_connection(("127.0.0.1", here.port)) as call:
            call.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:100])
            until(lambda: here.left())
        until(lambda: IMAGE not in here.left() and here.queue.status()["failed"] == 1)
        here.job_of(image, tmp_path / "out").run()  # and the next job of the client goes well
    assert (tmp_path / "out" / "input.json").is_file()


def test_a_volume_is_gone_once_it_was_scored_and_results_once_they_expire(tmp_path):
    with served(tmp_path / "serve") as here:
        job = here.start(brain(tmp_path / "input.nii"))
        until(lambda: here.ask("GET", f"/v1/jobs/{job}")[1]["state"] == "done")
        assert IMAGE not in here.left() and OUT in here.left()
        here.queue._jobs[job].ended -= 60 * here.server.settings.keep_minutes
        until(lambda: not here.left())


@pytest.mark.parametrize("behaviour, words", [
    ("crash", "ended with code 3.*no module named wonder"),
    ("missing", "No module named 'wonder'"),
    ("memory-always", "out of memory"),
])  # fmt: skip
def test_a_child_that_fails_costs_its_job_only(tmp_path, behaviour, words):
    image = brain(tmp_path / "input.nii")
    with served(tmp_path / "serve", behaviour) as here:
        for _ in range(2):
            with pytest.raises(ServerError, match=words):
                here.job_of(image, tmp_path / "out").run()
        until(lambda: not here.left())


def test_a_child_that_takes_too_long_is_ended(tmp_path):
    with served(tmp_path / "serve", "deaf", time_out_s=1) as here:
        with pytest.raises(ServerError, match="not done within 1 s"):
            here.job_of(brain(tmp_path / "input.nii"), tmp_path / "out").run()
        until(lambda: not here.left())


def test_an_image_that_cannot_be_scored_is_a_failed_case_with_its_doubts(tmp_path):
    events = []
    with served(tmp_path / "serve", "doubtful") as here:
        told = here.job_of(brain(tmp_path / "input.nii"), tmp_path / "out").run(report=events.append)
    assert told["failed"] == 1 and events[-1]["doubts"] == ["extent"] and "2 m long" in events[-1]["error"]


def test_a_server_that_stops_leaves_nothing_and_its_client_gets_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("ZSADCLIPLib.remote.client.PATIENCE", 0.5)
    image, caught, events = brain(tmp_path / "input.nii"), [], []
    with served(tmp_path / "serve", "slow") as here:
        job = here.job_of(image, tmp_path / "out")

        def ask():
            try:
                job.run(lambda *told: events.append(told))
            except ServerError as error:
                caught.append(str(error))

        thread = threading.Thread(target=ask)
        thread.start()
        until(lambda: any(event[2:] for event in events if event[2:] and event[2]))
        child = next(iter(here.queue._jobs.values())).engine.pid
    thread.join(120)
    # By when the client asks again: nobody answers, the job was stopped, or it is gone.
    assert [text for text in caught if re.search("no answer of the server|stopped the job|no such job", text)]
    assert not here.jobs.exists() and not serve_cases.psutil.pid_exists(child)


SERVER = """
import sys
sys.path.append({support!r})
from serve_cases import fake
from ZSADCLIPLib.serve.config import ServeSettings
from ZSADCLIPLib.serve.run import serving
with serving(ServeSettings(folder={folder!r}, port=0), lambda text: print(text, flush=True), fake("slow")) as server:
    server.serve_forever()
"""


@pytest.mark.skipif(os.name != "posix", reason="ends a process by a signal")
def test_what_a_killed_server_left_goes_at_the_next_start(tmp_path):
    image, folder = brain(tmp_path / "input.nii"), tmp_path / "serve"
    code = SERVER.format(support=str(ROOT / "Testing" / "support"), folder=str(folder))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    port = int(process.stdout.readline().rpartition(":")[2])
    here = serve_cases.Served.__new__(serve_cases.Served)
    here.tokens, here.port, here.jobs = folder / "tokens", port, folder / "jobs"
    job = here.start(image)
    until(lambda: here.ask("GET", f"/v1/jobs/{job}")[1]["events"])
    (child,) = serve_cases.psutil.Process(process.pid).children()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert IMAGE in here.left()
    until(lambda: gone(child))  # it saw its standard input close
    with served(folder) as again:
        assert again.left() == []
        (again.jobs / ("0" * 32)).mkdir()  # of a child that ended after its server
        again.queue.sweep()
        assert again.left() == []
        again.job_of(image, tmp_path / "out").run()
    assert (tmp_path / "out" / "input.json").is_file()


def test_many_jobs_in_a_row_leave_nothing_in_folder_or_memory(tmp_path):
    image = brain(tmp_path / "input.nii")
    command = [sys.executable, "-c", 'print(\'{"event": "result", "cases": 1}\')']
    with served(tmp_path / "serve", command=lambda job: command) as here:
        for _ in range(8):
            assert here.job_of(image, tmp_path / "out").run()["failed"] == 1  # it has no files
        until(lambda: not here.left())
        assert not here.queue._jobs and here.queue.status()["failed"] == 8
        assert len(threading.enumerate()) < 30


def test_files_of_others_are_left_alone(tmp_path):
    from ZSADCLIPLib.errors import OutputError

    mine = tmp_path / "jobs" / "thesis.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(OutputError, match="holds files that are no jobs; choose another --folder"), served(tmp_path):
        pass
    assert mine.read_text() == "mine"


def test_two_servers_do_not_share_a_folder(tmp_path):
    from ZSADCLIPLib.errors import OutputError

    with served(tmp_path / "serve"), pytest.raises(OutputError, match="another run"), served(tmp_path / "serve"):
        pass


def test_a_model_that_the_server_has_not_is_named_with_those_it_has(tmp_path):
    with served(tmp_path / "serve") as here, pytest.raises(ServerError, match="no model PMC-CLIP; choose mini-mri"):
        here.job_of(brain(tmp_path / "input.nii"), tmp_path / "out", backbone="PMC-CLIP").run()


def test_beyond_this_computer_there_is_always_tls(tmp_path):
    from ZSADCLIPLib.serve.config import ServeSettings

    assert not ServeSettings(folder="x").secure and not ServeSettings(host="localhost").secure
    assert (
        ServeSettings(host="0.0.0.0").secure
        and ServeSettings(host="10.1.2.3").secure
        and ServeSettings(tls=True).secure
    )
    with pytest.raises(UsageError, match="--cert and --key belong together"):
        ServeSettings(cert="a.pem")


def test_the_command_line_admits_clients(tmp_path, capsys):
    from ZSADCLIPLib.cli import main
    from ZSADCLIPLib.remote.tokens import read_tokens

    arguments = ["serve", "--folder", str(tmp_path / "serve"), "--new-token"]
    assert main([*arguments, str(tmp_path / "anna")]) == 0
    assert main([*arguments, str(tmp_path / "ben")]) == 0
    assert main([*arguments, str(tmp_path / "ben")]) == 1
    mine = [read_tokens(tmp_path / name)[0] for name in ("anna", "ben")]
    assert read_tokens(tmp_path / "serve" / "tokens") == mine
    told = capsys.readouterr()
    assert not [token for token in mine if token in told.out + told.err] and "is there already" in told.err


def test_a_job_file_says_it_all(tmp_path):
    """As Slicer writes it: the same lines as a local child's."""
    with served(tmp_path / "serve") as here:
        job = here.job_of(brain(tmp_path / "input.nii"), tmp_path / "out")
        text = json.dumps({"job": "remote", **json.loads(json.dumps(vars(job), default=vars))})
        (tmp_path / "job.json").write_text(text)
        command = [sys.executable, "-m", "ZSADCLIPLib", "run", str(tmp_path / "job.json")]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as child:
            lines = [json.loads(line) for line in child.stdout]
    assert [lines[0]["event"], lines[-1]["event"], child.returncode] == ["started", "result", 0]
    assert {line["event"] for line in lines} == {"started", "progress", "case", "result"}
    assert (tmp_path / "out" / "input.json").is_file() and here.token not in text
