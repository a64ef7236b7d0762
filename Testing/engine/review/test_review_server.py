"""The review server: who gets in, what is served, what may be written."""

import http.client
import json
import threading
from contextlib import contextmanager

import pytest
from review_run import opinion, review, review_run

from ZSADCLIPLib.errors import InputError
from ZSADCLIPLib.jobs.review import Review
from ZSADCLIPLib.review.finished import finished_cases
from ZSADCLIPLib.review.server import LARGEST, ReviewServer
from ZSADCLIPLib.review.verdicts import read_review, to_dict


@contextmanager
def serving(out):
    with ReviewServer(out, out / "review", finished_cases(out)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    out, images = review_run(tmp_path_factory.mktemp("run"))
    Review(str(out), (str(images["first"].parent),)).run()
    with serving(out) as server:
        yield server


def ask(server, method, path, body=None, **headers):
    """(status, headers, body) of a request by somebody with the cookie, unless `headers` say else; None leaves one out."""
    host = f"127.0.0.1:{server.server_port}"
    usual = {"Host": host, "Cookie": f"{server.cookie}={server.token}", "Origin": f"http://{host}"}
    usual |= {"Content-Type": "application/json"} if body is not None else {}
    sent = {name: value for name, value in {**usual, **headers}.items() if value is not None}
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=600)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    if body is not None and "Content-Length" not in sent and "Transfer-Encoding" not in sent:
        sent["Content-Length"] = str(len(body))
    for name, value in sent.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def said(server, name="first", reader="AB", verdicts=None) -> bytes:
    case = server.cases[name]
    return json.dumps(to_dict(review(reader, opinion(case, verdicts or {1: "accept"})))).encode()


def written(server) -> list[str]:
    folder = server.out / "reviews"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_token_becomes_a_cookie(served):
    status, headers, _ = ask(served, "GET", f"/?token={served.token}", Cookie=None)
    assert (status, headers["Location"]) == (303, "/")
    assert "HttpOnly" in headers["Set-Cookie"] and "SameSite=Strict" in headers["Set-Cookie"]
    assert served.server_address[0] == "127.0.0.1" and len(served.token) >= 32


def test_the_page_is_served_with_a_policy(served):
    status, headers, body = ask(served, "GET", "/")
    assert status == 200 and b"ZSADCLIP review" in body
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "script-src 'self' blob:;" in policy
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Cache-Control"] == "no-store"
    assert b"served: true" in ask(served, "GET", "/mode.js")[2]
    assert ask(served, "GET", "/cases/first.js")[0] == 200


@pytest.mark.parametrize(
    "headers",
    [{"Cookie": None}, {"Cookie": "zsadclip=x"}, {"Host": "evil.example"}, {"Host": None}, {"Host": "127.0.0.1"}],
)
def test_strangers_get_nothing(served, headers):
    for method, path, body in (
        ("GET", "/", None),
        ("GET", "/cases/first.js", None),
        ("PUT", "/review/first", said(served)),
    ):
        assert ask(served, method, path, body, **headers)[0] == 403
    assert ask(served, "GET", "/?token=wrong", Cookie=None)[0] == 403
    assert not written(served)


@pytest.mark.parametrize(
    "path",
    [
        "/../first.json",
        "/..%2ffirst.json",
        "/%2e%2e/first.json",
        "/cases/../../first.json",
        "//etc/passwd",
        "/first.json",
        "/niivue",
    ],
)
def test_only_the_pages_files_are_served(served, path):
    assert ask(served, "GET", path)[0] == 404


@pytest.mark.parametrize(
    "status, path, body, headers",
    [
        (404, "/review/third", None, {}),
        (404, "/review/../first", None, {}),
        (404, "/review/first?x=1", None, {}),
        (404, "/first", None, {}),
        (403, "/review/first", None, {"Origin": "http://evil.example"}),
        (403, "/review/first", None, {"Origin": None}),
        (403, "/review/first", None, {"Sec-Fetch-Site": "cross-site"}),
        (413, "/review/first", b"", {"Content-Length": str(LARGEST + 1)}),
        (411, "/review/first", b"0\r\n\r\n", {"Transfer-Encoding": "chunked"}),
        (411, "/review/first", b"", {"Content-Length": "-1"}),
        (415, "/review/first", None, {"Content-Type": "text/plain"}),
        (400, "/review/first", b"{", {}),
        (400, "/review/first", b"[" * 100_000, {}),
        (400, "/review/second", None, {}),
    ],
)
def test_what_is_no_review_is_not_written(served, status, path, body, headers):
    assert ask(served, "PUT", path, said(served) if body is None else body, **headers)[0] == status
    assert not written(served)


@pytest.mark.parametrize("method", ["POST", "DELETE", "OPTIONS", "HEAD", "PATCH"])
def test_other_methods_do_nothing(served, method):
    assert ask(served, method, "/review/first")[0] == 501


def test_a_review_of_another_result_is_refused(served):
    data = json.loads(said(served))
    data["cases"][0]["seal"] = "0" * 64
    status, _, body = ask(served, "PUT", "/review/first", json.dumps(data).encode())
    assert status == 400 and b"another result" in body
    data = json.loads(said(served))
    data["cases"][0]["findings"][0]["label"] = 99
    assert ask(served, "PUT", "/review/first", json.dumps(data).encode())[0] == 400
    assert not written(served)


def test_verdicts_go_into_the_run_and_come_back(tmp_path):
    out, images = review_run(tmp_path)
    Review(str(out), (str(images["first"].parent),)).run()
    with serving(out) as server:
        assert json.loads(ask(server, "GET", "/reviews?reader=A%20B")[2]) is None
        assert ask(server, "PUT", "/review/first", said(server, reader="A B"))[0] == 200
        assert ask(server, "PUT", "/review/first", said(server, reader="A B", verdicts={1: "reject"}))[0] == 200
        assert ask(server, "PUT", "/review/second", said(server, "second", "../x"))[0] == 200
        back = json.loads(ask(server, "GET", "/reviews?reader=A%20B")[2])
        assert back["cases"][0]["findings"][0]["verdict"] == "reject"
        assert ask(server, "PUT", "/review/first", said(server, reader="A_B"))[0] == 400  # its folder is another's
        assert written(server) == ["A_B/first_review.json", "_x/second_review.json"]
    assert read_review(out / "reviews" / "A_B" / "first_review.json").reviewer == "A B"


def test_without_a_page_there_is_nothing_to_serve(tmp_path):
    out, _ = review_run(tmp_path, ("one",))
    (out / "review").mkdir()
    with pytest.raises(InputError, match="holds no review page"):
        ReviewServer(out, out / "review", finished_cases(out))
