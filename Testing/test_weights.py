"""Downloads: verified, resumed, https only, and clear when there is no network."""

import hashlib
import io
import urllib.error
import urllib.request

import pytest

from ZSADCLIPLib.backbones import weights
from ZSADCLIPLib.backbones.registry import BACKBONES, BackboneInfo
from ZSADCLIPLib.errors import WeightsError

CONTENT = bytes(range(256)) * 40
SHA = hashlib.sha256(CONTENT).hexdigest()


class Answer(io.BytesIO):
    def __init__(self, body, status, headers=None):
        super().__init__(body)
        self.status, self.headers = status, {"Content-Length": str(len(body)), **(headers or {})}


@pytest.fixture
def entry(monkeypatch):
    def make(url="https://example.org/w.pt", sha=SHA):
        info = BackboneInfo("Test", "ViT-B-32", files={"w.pt": (url, sha)}, licence="MIT", source="test", size_bytes=1)
        monkeypatch.setitem(BACKBONES, "test", info)

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    make()
    return make


def serve(monkeypatch, body=CONTENT, headers=None, honours_range=True):
    asked = []

    def urlopen(request, timeout):
        start = request.headers.get("Range")
        asked.append(start)
        if start and honours_range:
            return Answer(body[int(start.split("=")[1].rstrip("-")) :], 206, headers)
        return Answer(body, 200, headers)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return asked


def test_download_is_verified_and_located(entry, monkeypatch, tmp_path):
    serve(monkeypatch)
    (path,) = weights.download("test", tmp_path)
    assert path.read_bytes() == CONTENT and weights.locate("test", tmp_path) == {"w.pt": path}
    assert not list(tmp_path.rglob("*.part"))
    row = next(r for r in weights.status(tmp_path) if r["name"] == "test")
    assert row["state"] == "installed"


@pytest.mark.parametrize("honours_range", [True, False])
def test_an_interrupted_download_goes_on(entry, monkeypatch, tmp_path, honours_range):
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "w.pt.part").write_bytes(CONTENT[:1000])
    asked = serve(monkeypatch, honours_range=honours_range)
    (path,) = weights.download("test", tmp_path)
    assert asked == ["bytes=1000-"] and path.read_bytes() == CONTENT


def test_damage_is_refused(entry, monkeypatch, tmp_path):
    serve(monkeypatch, body=CONTENT[:-1] + b"x")
    with pytest.raises(WeightsError, match="arrived damaged"):
        weights.download("test", tmp_path)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_the_hubs_own_checksum_counts_when_none_is_pinned(entry, monkeypatch, tmp_path):
    entry(sha="")
    serve(monkeypatch, headers={"X-Linked-ETag": f'"{"0" * 64}"'})
    with pytest.raises(WeightsError, match="arrived damaged"):
        weights.download("test", tmp_path)


def test_only_https(entry, tmp_path):
    entry(url="http://example.org/w.pt")
    with pytest.raises(WeightsError, match="only https"):
        weights.download("test", tmp_path)


def test_offline_says_what_to_put_where(entry, monkeypatch, tmp_path):
    def unreachable(request, timeout):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    with pytest.raises(WeightsError, match=f"w.pt .sha256 {SHA}.*put the file into"):
        weights.download("test", tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError, match="offline"):
        weights.download("test", tmp_path)


def test_changed_files_are_noticed(entry, tmp_path):
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
