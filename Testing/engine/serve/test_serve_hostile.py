"""Callers that may not, ask for what is not offered, or send what they did not announce; and what nobody may learn."""

import http.client
import io
import json
import os
import random
import re
import socket
import struct
import threading
import zlib

import numpy as np
import pytest
from serve_cases import bare, brain, gzipped, served, until

from ZSADCLIPLib.errors import InputError, ServerError, UsageError
from ZSADCLIPLib.jobs.remote import RemoteDetect
from ZSADCLIPLib.remote.bare import LENGTH, bare_header
from ZSADCLIPLib.remote.client import PATIENCE, Address, parse_address, parse_fingerprint
from ZSADCLIPLib.remote.settings import API, HEADER, IMAGE
from ZSADCLIPLib.remote.tokens import Tokens, add_token, read_tokens

WRONG = "x" * 43


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    with served(tmp_path_factory.mktemp("serve"), "slow", max_mb=0.1) as server:
        yield server


def raw(here, text):
    """The answer to bytes as they are; a caller that sends no more waits for it."""
    with socket.create_connection(("127.0.0.1", here.port), timeout=600) as call:
        call.sendall(text.encode() if isinstance(text, str) else text)
        answer = http.client.HTTPResponse(call)
        answer.begin()
        return answer.status, answer.read().decode("latin-1")


def head(here, line, **headers):
    lines = {"Host": "localhost", "Authorization": f"Bearer {here.token}", **headers}
    return f"{line} HTTP/1.1\r\n" + "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in lines.items() if v) + "\r\n"


CALLS = [("GET", "/v1/jobs/" + "0" * 32), ("DELETE", "/v1/jobs/" + "0" * 32), ("POST", "/v1/jobs"), ("GET", "/nothing"),
         ("PUT", "/v1/jobs/" + "0" * 32 + "/volume"), ("GET", "/v1/jobs/" + "0" * 32 + "/files/input.json")]  # fmt: skip


@pytest.mark.parametrize("token", ["", "x", WRONG, "é" * 43])
def test_without_its_token_nobody_gets_anything(here, token):
    for method, path in CALLS:
        text = head(here, f"{method} {path}", Authorization=f"Bearer {token}").encode("latin-1")
        status, told = raw(here, text)
        assert status == 401 and "token is missing or wrong" in told
    assert here.ask("GET", "/v1/health", token=WRONG) == (200, {"service": "zsadclip", "api": API})
    assert raw(here, head(here, "GET /v1/jobs", Authorization=f"Basic {here.token}"))[0] == 401


def test_the_right_token_is_told_what_the_server_offers(here):
    status, told = here.ask("GET", "/v1/health")
    assert status == 200 and told["max_bytes"] == 100_000 and "mini-mri" in told["models"]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8443", "localhost.evil.example", "", "[::1", "a\tb"])
def test_another_host_name_is_refused_even_with_the_token(here, host):
    status, told = raw(here, head(here, "GET /v1/health", Host=host))
    assert status == 403 and "--name" in told
    assert raw(here, head(here, "GET /v1/health", Host="localhost\r\nHost: evil.example"))[0] == 403
    for good in ("localhost", "127.0.0.1:9000", "LOCALHOST:1"):
        assert raw(here, head(here, "GET /v1/health", Host=good))[0] == 200


def test_a_server_is_known_by_the_names_it_was_given(tmp_path):
    with served(tmp_path, name=("Gpu.Example",)) as named:
        assert raw(named, head(named, "GET /", Host="gpu.example:8443"))[0] == 200


HOSTILE = [
    ({"checkpoint": "/etc/passwd"}, "no field 'checkpoint'"),
    ({"weights": "/tmp/evil.pt"}, "no field 'weights'"),
    ({"weights_dir": "/tmp"}, "no field"),
    ({"bank": "x.bank"}, "no field"),
    ({"inputs": ["/etc"]}, "no field"),
    ({"output": "../../out"}, "no field"),
    ({"settings": {"upsample": "centres"}}, "no field"),
    ({"reference": ["/a"]}, "no field"),
    ({"image_size": 100000}, "no field"),
    ({"workers": 64}, "no field"),
    ({"__class__": "os.system"}, "no field"),
    ({"x" * 5000: 1}, "no field"),
    ({"method": "bank"}, "choose one of vand"),
    ({"method": "os.system"}, "choose one of"),
    ({"method": None}, "expected one of"),
    ({"backbone": "../../etc/passwd"}, "choose one of auto"),
    ({"backbone": "hf-hub:evil/model"}, "choose one of auto"),
    ({"backbone": "own.json"}, "choose one of auto"),
    ({"prompts": "/etc/passwd"}, "choose one of"),
    ({"prompts": "../prompts/vand"}, "choose one of"),
    ({"object_name": "../../etc"}, "expected letters"),
    ({"object_name": "a" * 61}, "expected letters"),
    ({"object_name": "a\nb"}, "expected letters"),
    ({"object_name": 7}, "expected"),
    ({"plane": "oblique"}, "choose one of"),
    ({"planes": ["axial"] * 2 + ["/"]}, "choose one of"),
    ({"planes": "axial"}, "expected a list"),
    ({"planes": ["axial"] * 2}, "expected each once"),
    ({"smooth_mm": 1e300}, "expected 100 or less"),
    ({"smooth_mm": -1}, "expected 0 or more"),
    ({"smooth_mm": 10**400}, "expected a number"),
    ({"min_size_mm3": float("nan")}, "expected a number"),
    ({"min_size_mm3": float("inf")}, "expected a number"),
    ({"min_size_mm3": "1; rm -rf /"}, "expected a number"),
    ({"min_depth_mm": True}, "expected a number"),
    ({"batch_size": 10**9}, "choose one of 1, 2"),
    ({"batch_size": 0}, "choose one of"),
    ({"batch_size": "64"}, "auto"),
    ({"device": "cuda:7"}, "choose one of"),
    ({"threshold": "quantile:7"}, "expected checkpoint"),
    ({"threshold": "1e999"}, "expected checkpoint"),
    ({"threshold": "nan"}, "expected checkpoint"),
    ({"threshold": 0.5}, "expected a text"),
    ({"allow": ["everything"]}, "choose one of"),
    ([], "expected an object"),
    ("vand", "expected an object"),
    (None, "expected an object"),
]


@pytest.mark.parametrize("settings, words", HOSTILE, ids=lambda value: repr(value)[:30])
def test_settings_that_no_panel_offers_are_refused_by_name(here, settings, words):
    body = json.dumps({"api": API, "settings": settings, "sizes": {"input": 1000}})
    status, told = here.ask("POST", "/v1/jobs", body)
    assert status == 400 and words in told["error"] and len(told["error"]) < 600, told
    assert here.left() == []


@pytest.mark.parametrize("data, words", [
    ({"settings": {}, "sizes": {"input": 1}}, "update client or server"),
    ({"api": 99, "settings": {}, "sizes": {"input": 1}}, "version 1 and the client 99"),
    ({"api": API, "settings": {}, "sizes": {}}, "sizes"),
    ({"api": API, "settings": {}, "sizes": {"brain": 5}}, "sizes"),
    ({"api": API, "settings": {}, "sizes": {"input": -5}}, "sizes"),
    ({"api": API, "settings": {}, "sizes": {"input": 1.5}}, "sizes"),
    ({"api": API, "settings": {}, "sizes": {"input": 10**60}}, "sizes"),
    ({"api": API, "settings": {}, "sizes": {"input": True}}, "sizes"),
    ({"api": API, "settings": {}, "sizes": {"input": 5, "../../x": 5}}, "sizes"),
    ({"api": API, "settings": {}, "sizes": {"input": 5}, "folder": "/"}, "nothing else"),
    ([1, 2], "nothing else"),
    ("[" * 10_000, "no JSON"),
    ('{"api": 1', "no JSON"),
    ("\xff", "no JSON"),
])  # fmt: skip
def test_jobs_that_are_none_are_refused(here, data, words):
    body = data.encode("latin-1") if isinstance(data, str) else json.dumps(data)
    status, told = here.ask("POST", "/v1/jobs", body)
    assert status == 400 and words in told["error"], told


def test_too_large_is_refused_by_what_is_said_before_a_byte_is_read(here):
    status, told = here.submit(input=100_001)
    assert status == 413 and "0.1 MB and the server takes 0.1 MB" in told["error"]
    assert here.submit(input=60_000, brain=60_000)[0] == 413
    job = here.submit(input=1000)[1]["id"]
    # Only the header is sent: who waited for the body would never answer.
    status, told = raw(here, head(here, f"PUT /v1/jobs/{job}/volume", Content_Length=100_001))
    assert status == 413 and "takes 100000" in told
    status, told = raw(here, head(here, f"PUT /v1/jobs/{job}/volume", Content_Length=10**14, Expect="100-continue"))
    assert status == 413
    assert raw(here, head(here, "POST /v1/jobs", Content_Length=1 << 20))[0] == 413
    for lengths in ({}, {"Content_Length": "-5"}, {"Content_Length": "1e3"}, {"Content_Length": "5\r\nContent-Length: 6"},
                    {"Transfer_Encoding": "chunked"}, {"Content_Length": "5", "Transfer_Encoding": "chunked"}):  # fmt: skip
        status, told = raw(here, head(here, f"PUT /v1/jobs/{job}/volume", **lengths))
        assert status == 411 and "Content-Length" in told
    assert here.ask("GET", f"/v1/jobs/{job}")[1]["state"] == "receiving"
    here.ask("DELETE", f"/v1/jobs/{job}")


@pytest.fixture
def image(tmp_path):
    return brain(tmp_path / "input.nii")


def text_in(data):
    return data[:148] + b"DOE^JOHN 1970-01-01" + data[167:]


@pytest.mark.parametrize("change, size, words", [
    (lambda data: gzipped(data[:-1]), 0, "shorter"),
    (lambda data: gzipped(data + b"DOE^JOHN"), 0, "longer"),
    (lambda data: gzipped(data)[:-30], 0, "damaged"),
    (lambda data: gzipped(data) + b"DOE^JOHN", 0, "damaged"),
    (lambda data: gzipped(data)[:50] + bytes(20) + gzipped(data)[70:], 0, "damaged"),
    (lambda data: data, 0, "damaged"),
    (lambda data: gzipped(bytes(10_000_000)), 0, "longer|NIfTI"),
    (lambda data: gzipped(text_in(data)), 0, "more than geometry"),
    (lambda data: gzipped(data[:LENGTH - 4] + b"\1\0\0\0" + data[LENGTH:]), 0, "more than geometry"),
    (lambda data: gzipped(bytes(len(data))), 0, "NIfTI-1"),
    (lambda data: gzipped(data + b"DOE^JOHN"), 8, "header claims"),
    (lambda data: gzipped(data[:42] + struct.pack("<3h", 30000, 30000, 30000) + data[48:]), 0, "header claims"),
])  # fmt: skip
def test_a_body_that_is_not_what_was_announced_costs_its_job(here, image, change, size, words):
    data = bare(image)
    job = here.submit(input=len(data) + size)[1]["id"]
    status, told = here.ask("PUT", f"/v1/jobs/{job}/volume", change(data))
    assert status == 400 and re.search(words, told["error"]), told
    told = here.ask("GET", f"/v1/jobs/{job}")[1]
    assert told["state"] == "failed" and told["events"][0]["event"] == "error"
    assert IMAGE not in here.left()
    here.ask("DELETE", f"/v1/jobs/{job}")
    assert here.left() == []


def test_a_bomb_takes_no_room(tmp_path, image):
    """What unpacks to thousands of times more than was announced is stopped there."""
    from ZSADCLIPLib.serve.receive import receive

    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(32)) + packer.flush()
    with pytest.raises(InputError, match="NIfTI-1"):
        receive(io.BytesIO(bomb), len(bomb), {tmp_path / "x": 5000}, lambda: None)
    assert (tmp_path / "x").stat().st_size == 5000


PATHS = ["..", "../../tokens", "..%2f..%2ftokens", "%2e%2e/%2e%2e/tokens", "....//tokens", "/etc/passwd", "input.nii",
         "..\\..\\tokens", "input.json/../../job.json", "job.json", "input.json%00.txt", ".zsadclip.lock"]  # fmt: skip


def test_names_lead_nowhere_else(tmp_path, image):
    with served(tmp_path / "serve") as quick:
        job = quick.start(image)
        until(lambda: quick.ask("GET", f"/v1/jobs/{job}")[1]["state"] == "done")
        assert quick.ask("GET", f"/v1/jobs/{job}/files/input.json")[0] == 200
        for name in PATHS:
            status, told = raw(quick, head(quick, f"GET /v1/jobs/{job}/files/{name}"))
            assert status == 404 and quick.token not in told, name
        for path in (
            "/v1/jobs/../jobs",
            "/v1/jobs/" + "%30" * 32,
            "/v1/jobs/" + "0" * 33,
            "//etc/passwd",
            "/v1/jobs/..",
        ):
            assert raw(quick, head(quick, f"GET {path}"))[0] == 404, path
        for query in ("from=-1", "from=1e9", "from=99999999", "wait=1000", "wait=inf", "from=0&wait=x"):
            assert quick.ask("GET", f"/v1/jobs/{job}?{query}")[0] == 400, query


def test_a_second_upload_and_files_before_their_time_are_refused(here, image):
    job = here.start(image)
    status, told = here.ask("PUT", f"/v1/jobs/{job}/volume", gzipped(bare(image)))
    assert status == 409 and "is here" in told["error"]
    assert here.ask("GET", f"/v1/jobs/{job}/files/input.json")[0] == 404
    here.ask("DELETE", f"/v1/jobs/{job}")
    until(lambda: not here.left())


def test_nonsense_is_answered_and_the_server_lives(here):
    draw = random.Random(5)
    words = ["GET", "PUT", "POST", "DELETE", "HEAD", "PATCH", "/v1/jobs", "/v1/health", "/", "HTTP/1.1", "HTTP/9.9"]
    words += ["\0", "é", ":", "{}", " "]
    words += ["\r\n", "\r\n\r\n", "Host: localhost", "Content-Length: 5", "Authorization: Bearer x", "A" * 70000]
    for _ in range(150):
        text = "".join(draw.choice(words) + draw.choice(["", " ", "\r\n"]) for _ in range(draw.randrange(1, 12)))
        with socket.create_connection(("127.0.0.1", here.port), timeout=600) as call:
            try:
                call.sendall(text.encode("latin-1"))
                call.shutdown(socket.SHUT_WR)
                answer = call.recv(1 << 16)
            except OSError:  # it has ended the call already
                continue
            assert b" 500 " not in answer[:20] and b"Traceback" not in answer
    assert here.ask("GET", "/v1/health")[0] == 200


def test_nobody_learns_of_patients_tokens_or_folders(tmp_path):
    image = brain(tmp_path / "DOE^JOHN.nii")
    image.write_bytes(text_in(image.read_bytes()))
    events = []
    with served(tmp_path / "serve") as quick:
        add_token(quick.tokens)
        job = quick.job_of(image, tmp_path / "out")
        job.run(report=events.append)
        one = quick.start(image)
        until(lambda: quick.ask("GET", f"/v1/jobs/{one}")[1]["state"] == "done")
        told = json.dumps(quick.ask("GET", f"/v1/jobs/{one}")[1])
        names, page = quick.left(), quick.ask("GET", "/", token="")[1]
        said = [line for line in quick.said if not line.startswith("token file")]
        everything = "\n".join([*said, *names, page, told, json.dumps(events)])
        secrets = read_tokens(quick.tokens)
    assert "done" in page and "2" in page
    assert not [word for word in ("DOE", "JOHN", str(tmp_path), *secrets) if word in everything]
    assert one not in "\n".join([*said, page])  # an id is a key to a job
    results = b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir())
    assert b"DOE" not in results and b"JOHN" not in results


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_folder_token_and_key_are_for_their_owner_alone(tmp_path):
    with served(tmp_path / "serve", tls=True) as quick:
        modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "serve").iterdir()}
        assert (modes["tokens"], modes["key.pem"], modes["jobs"]) == (0o600, 0o600, 0o700)
        assert (tmp_path / "serve").stat().st_mode & 0o777 == 0o700
        # A token file that others can read lets nobody in.
        token = quick.token
        quick.tokens.chmod(0o644)
        job = RemoteDetect(f"https://127.0.0.1:{quick.port}", str(tmp_path / "mine"), str(brain(tmp_path / "i.nii")),
                           str(tmp_path / "out"), quick.fingerprint)  # fmt: skip
        (tmp_path / "mine").touch(0o600)
        (tmp_path / "mine").write_text(token)
        with pytest.raises(ServerError, match="token is missing or wrong"):
            job.run()
        with pytest.raises(InputError, match="can be read by others.*chmod 600"):
            read_tokens(quick.tokens)
        assert token not in "".join(quick.said)
        quick.tokens.chmod(0o600)


def test_a_token_that_is_taken_away_is_of_no_use(tmp_path):
    with served(tmp_path / "serve") as quick:
        token, second = quick.token, add_token(quick.tokens)
        assert "models" in quick.ask("GET", "/v1/health", token=second)[1]
        quick.tokens.write_text(f"# Anna\n{token}\n")
        assert "models" not in quick.ask("GET", "/v1/health", token=second)[1]
        assert "models" in quick.ask("GET", "/v1/health", token=token)[1]


@pytest.mark.parametrize("text, words", [
    ("", "expected one token"), ("short\n", "32 letters"), ("a" * 40 + " b\n", "expected one token"), ("é" * 40, "plain text"),
])  # fmt: skip
def test_a_token_file_that_will_not_do_is_named(tmp_path, text, words):
    path = tmp_path / "tokens"
    path.touch(0o600)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=words) as caught:
        Tokens(path)
    assert str(path) in str(caught.value) and "short" not in str(caught.value)
    with pytest.raises(InputError, match="No such file"):
        read_tokens(tmp_path / "none")


def test_a_wrong_fingerprint_ends_the_call_before_anything_is_sent(tmp_path, image):
    with served(tmp_path / "serve", tls=True) as quick:
        job = quick.job_of(image, tmp_path / "out")
        wrong = RemoteDetect(**{**vars(job), "fingerprint": "AB" * 32})
        with pytest.raises(ServerError, match="fingerprint.*expected AB:AB.*Nothing was sent") as caught:
            wrong.run()
        assert quick.fingerprint in str(caught.value) and quick.left() == [] and len(quick.said) == 3
        unknown = RemoteDetect(**{**vars(job), "fingerprint": ""})
        with pytest.raises(ServerError, match="certificate is not known here.*give its fingerprint"):
            unknown.run()
        plain = RemoteDetect(**{**vars(job), "fingerprint": "", "address": f"http://127.0.0.1:{quick.port}"})
        with pytest.raises(ServerError, match="does the address begin with https"):
            plain.run()
        quick.job_of(image, tmp_path / "out").run()
        first = quick.fingerprint
    with served(tmp_path / "serve", tls=True) as again:
        assert again.fingerprint == first  # the certificate is kept
    with served(
        tmp_path / "other", cert=str(tmp_path / "serve" / "cert.pem"), key=str(tmp_path / "serve" / "key.pem")
    ) as given:
        assert given.fingerprint == first and not (tmp_path / "other" / "cert.pem").exists()


def test_a_silent_caller_holds_up_nobody(tmp_path):
    with served(tmp_path / "serve", tls=True) as quick:
        silent = [socket.create_connection(("127.0.0.1", quick.port)) for _ in range(5)]
        from ZSADCLIPLib.remote.client import Server

        address = parse_address(f"https://127.0.0.1:{quick.port}")
        with Server(address, quick.token, parse_fingerprint(quick.fingerprint)) as server:
            assert server.health()["service"] == "zsadclip"
        for each in silent:
            each.close()


@pytest.mark.parametrize("text, found", [
    ("https://gpu:9000", Address(True, "gpu", 9000)), ("gpu.example.org", Address(True, "gpu.example.org", 8443)),
    (" https://gpu/ ", Address(True, "gpu", 8443)), ("127.0.0.1:5", Address(False, "127.0.0.1", 5)),
    ("http://localhost:5", Address(False, "localhost", 5)), ("https://[::1]:5", Address(True, "::1", 5)),
])  # fmt: skip
def test_addresses(text, found):
    assert parse_address(text) == found and parse_address(str(found)) == found


@pytest.mark.parametrize("text", ["", "ftp://gpu", "http://gpu:8443", "https://gpu:99999", "https://user:pass@gpu", "gpu/path",
                                  "https://gpu?x=1", "https://g u", "file:///etc/passwd", "https://[::1"])  # fmt: skip
def test_addresses_that_are_none_are_told(text):
    with pytest.raises(UsageError, match="expected https://HOST:PORT"):
        parse_address(text)


def test_fingerprints():
    assert parse_fingerprint("SHA256=" + ":".join(["0A"] * 32)) == "0a" * 32 and parse_fingerprint(" ") == ""
    with pytest.raises(UsageError, match="64 hex digits"):
        parse_fingerprint("AB:CD")


@pytest.mark.parametrize("change, words", [
    (lambda data: data[:200], "NIfTI-1"), (lambda data: b"\0\0\1\x5c" + data[4:], "little-endian"),
    (lambda data: data[:40] + struct.pack("<8h", 4, 20, 24, 16, 2, 1, 1, 1) + data[56:], "single volume"),
    (lambda data: data[:70] + struct.pack("<2h", 64, 64) + data[74:], "type 64"),
    (lambda data: data[:108] + struct.pack("<f", 400) + data[112:], "right after the header"),
    (lambda data: data[:42] + struct.pack("<h", -4) + data[44:], "dimensions"),
])  # fmt: skip
def test_volumes_that_cannot_be_sent_are_told(image, change, words):
    data = change(image.read_bytes())
    with pytest.raises(InputError, match=words):
        bare_header(data[:LENGTH], len(data))


def test_what_is_sent_is_geometry_and_voxels(image):
    import nibabel

    before, data = nibabel.load(image), bare(image)
    image.write_bytes(text_in(image.read_bytes()))
    assert bare(image) == data and bare_header(data[:LENGTH], len(data)) == data[:LENGTH]
    image.write_bytes(data)
    after = nibabel.load(image)
    assert np.array_equal(before.affine, after.affine) and np.array_equal(before.get_fdata(), after.get_fdata())
    assert before.header.get_xyzt_units() == after.header.get_xyzt_units()


@pytest.mark.parametrize("answer, words", [
    ("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "502 Bad Gateway, but not as zsadclip serve.*proxy"),
    (f"HTTP/1.1 200 OK\r\n{HEADER}: 9\r\nContent-Length: 10\r\n\r\n{{\"api\": 9}}", "version 9 and this client 1: update"),
    (f"HTTP/1.1 200 OK\r\n{HEADER}: 1\r\nContent-Length: 2\r\n\r\nno", "no JSON"),
    ("SSH-2.0-OpenSSH\r\n", "broke the call off"),
    ("", "no answer of the server"),
])  # fmt: skip
def test_what_is_no_server_of_ours_is_told_so(tmp_path, image, answer, words):
    add_token(tmp_path / "token")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def reply():
            call, _ = listener.accept()
            call.recv(1 << 16)
            call.sendall(answer.encode())
            call.close()

        thread = threading.Thread(target=reply)
        thread.start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ServerError, match=words):
            RemoteDetect(address, str(tmp_path / "token"), str(image), str(tmp_path / "out")).run()
        thread.join()
    assert PATIENCE < 20
    with pytest.raises(ServerError, match="no answer of the server.*does it run"):
        RemoteDetect(address, str(tmp_path / "token"), str(image), str(tmp_path / "out")).run()
