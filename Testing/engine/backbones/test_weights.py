"""Downloads from a real server: verified, resumed, https only, through proxies, and clear when there is no network."""

import os
import shutil
import threading

import pytest
from hub import CONTENT, SHA, Hub, Proxy, make_certificate

from ZSADCLIPLib.backbones import weights
from ZSADCLIPLib.backbones.download import git_sha1
from ZSADCLIPLib.backbones.registry import BACKBONES, BackboneInfo
from ZSADCLIPLib.errors import WeightsError

OTHER = "0" * 64


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if not shutil.which("openssl"):
        said = "a certificate for the loopback server needs the openssl command"
        pytest.fail(said) if os.environ.get("CI") else pytest.skip(said)
    return make_certificate(tmp_path_factory.mktemp("certificate"))


def serving(server):
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


@pytest.fixture
def hub(certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server = serving(Hub(certificate))
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def entry(monkeypatch):
    def make(url, sha=SHA):
        info = BackboneInfo("Test", files={"w.pt": (url, sha)}, licence="MIT", source="test", size_bytes=1)
        monkeypatch.setitem(BACKBONES, "test", info)

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    make("https://127.0.0.1:9/w.pt")
    return make


def files(folder):
    return [p for p in folder.rglob("*") if p.is_file()]


def test_download_is_verified_and_located(hub, entry, tmp_path):
    entry(f"{hub.url}/w.pt")
    told = []
    (path,) = weights.download("test", tmp_path, lambda fraction, text, *count: told.append(fraction))
    assert path.read_bytes() == CONTENT and weights.locate("test", tmp_path) == {"w.pt": path}
    assert files(tmp_path) == [path] and told[-1] == 1
    row = next(r for r in weights.status(tmp_path) if r["name"] == "test")
    assert row["state"] == "installed"


@pytest.mark.parametrize("honours_range", [True, False])
def test_an_interrupted_download_goes_on(hub, entry, tmp_path, honours_range):
    entry(f"{hub.url}/w.pt")
    hub.cut, hub.honours_range = 1000, honours_range
    with pytest.raises(WeightsError, match="ended after 1,000 of 10,240 bytes; run the same command again"):
        weights.download("test", tmp_path)
    assert [p.name for p in files(tmp_path)] == ["w.pt.part"]
    hub.cut = 0
    (path,) = weights.download("test", tmp_path)
    assert hub.ranges == [None, "bytes=1000-"] and path.read_bytes() == CONTENT


@pytest.mark.parametrize("whole", [True, False])
def test_a_download_that_only_lacks_its_name(hub, entry, tmp_path, whole):
    entry(f"{hub.url}/w.pt")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "w.pt.part").write_bytes(CONTENT if whole else CONTENT[:-1] + b"x")
    if whole:
        assert weights.download("test", tmp_path)[0].read_bytes() == CONTENT
    else:
        with pytest.raises(WeightsError, match="arrived damaged"):
            weights.download("test", tmp_path)
        assert not files(tmp_path)
    assert hub.ranges == ["bytes=10240-"]


def test_damage_is_refused(hub, entry, tmp_path):
    entry(f"{hub.url}/w.pt")
    hub.body = CONTENT[:-1] + b"x"
    with pytest.raises(WeightsError, match="arrived damaged"):
        weights.download("test", tmp_path)
    assert not files(tmp_path)


def test_the_hubs_own_checksum_counts_when_none_is_pinned(hub, entry, tmp_path):
    entry(f"{hub.url}/moved", sha="")
    hub.redirect, hub.redirect_headers = f"{hub.url}/store/w", {"X-Linked-ETag": f'"{OTHER}"'}
    hub.headers = {"ETag": f'"{SHA}"'}
    with pytest.raises(WeightsError, match=f"expected {OTHER}"):
        weights.download("test", tmp_path)
    hub.redirect_headers = {"X-Linked-ETag": f'"{SHA}"'}
    hub.headers = {"ETag": '"not a checksum"'}
    assert weights.download("test", tmp_path)[0].read_bytes() == CONTENT


def test_small_files_of_a_hub_have_gits_checksum(hub, entry, tmp_path):
    (tmp_path / "blob").write_bytes(b"hello\n")
    assert git_sha1(tmp_path / "blob") == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object
    entry(f"{hub.url}/w.pt", sha="")
    hub.body, hub.headers = b"hello\n", {"ETag": '"ce013625030ba8dba906f756967f9e9ca394464a"'}
    assert weights.download("test", tmp_path)[0].read_bytes() == b"hello\n"


def test_nothing_is_fetched_without_any_checksum(hub, entry, tmp_path):
    entry(f"{hub.url}/w.pt", sha="")
    with pytest.raises(WeightsError, match="no checksum is pinned and the server states none"):
        weights.download("test", tmp_path)
    assert not files(tmp_path)


def test_only_https(hub, entry, tmp_path):
    entry("http://example.org/w.pt")
    with pytest.raises(WeightsError, match="only https"):
        weights.download("test", tmp_path)
    entry(f"{hub.url}/moved")
    hub.redirect = "http://127.0.0.1:9/w.pt"
    with pytest.raises(WeightsError, match="leads to http://127.0.0.1:9/w.pt, only https"):
        weights.download("test", tmp_path)
    assert not files(tmp_path)


def test_a_server_nobody_vouches_for_is_refused(hub, entry, tmp_path, monkeypatch):
    entry(f"{hub.url}/w.pt")
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(WeightsError, match="CERTIFICATE_VERIFY_FAILED"):
        weights.download("test", tmp_path)
    assert hub.ranges == [] and not files(tmp_path)


def test_proxies_of_the_environment_are_used(hub, entry, tmp_path, monkeypatch):
    entry(f"{hub.url}/w.pt")
    proxy = serving(Proxy())
    monkeypatch.setenv("https_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", "")
    assert weights.download("test", tmp_path)[0].read_bytes() == CONTENT
    assert proxy.targets == [hub.url.removeprefix("https://")]
    proxy.shutdown()
    proxy.server_close()


def test_offline_says_what_to_put_where(entry, monkeypatch, tmp_path):
    with pytest.raises(WeightsError, match=f"w.pt .sha256 {SHA}.*put the file into"):
        weights.download("test", tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError, match="offline"):
        weights.download("test", tmp_path)


def test_changed_files_are_noticed(tmp_path):
    path = tmp_path / "w.pt"
    path.write_bytes(b"other")
    with pytest.raises(WeightsError, match="fetch it again"):
        weights.verify(path, SHA)
    weights.verify(path, "")


def test_embedded_and_unknown_names_cannot_be_downloaded():
    with pytest.raises(WeightsError, match="part of the package"):
        weights.download("mini")
    with pytest.raises(WeightsError, match="known are"):
        weights.download("nothing")
