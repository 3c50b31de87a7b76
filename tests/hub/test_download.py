"""Fetching weights, from a real server that breaks off, lies, or is gone."""

import hashlib
import threading

import pytest

from striate.errors import CheckpointError, OfflineError
from striate.hub import download
from striate.hub.download import fetched

CONTENT = bytes(range(256)) * 20_000  # 5 MB
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def fetch(publisher, name="w.pth", sha256=DIGEST[:8], **settings):
    return fetched(publisher.url + name, name, sha256, spelling="net:w", **settings)


def test_fetched_once_and_checked_each_time(publisher, cache, heard):
    publisher.files["w.pth"] = CONTENT
    path = fetch(publisher, progress=heard)
    assert path == cache / "w.pth"
    assert path.read_bytes() == CONTENT
    assert sorted(one.name for one in cache.iterdir()) == ["w.pth"]
    assert publisher.url in heard.lines[0]
    assert fetch(publisher, offline=True) == path
    assert len(publisher.asked) == 1
    path.write_bytes(CONTENT[:-1] + b"!")  # a damaged file in the cache is noticed, and replaced
    with pytest.raises(OfflineError, match=rf"is damaged .*instead of {DIGEST[:8]}.*forbids fetching it again"):
        fetch(publisher, offline=True, progress=heard)
    assert heard.warnings == []  # nothing is fetched
    assert fetch(publisher, progress=heard).read_bytes() == CONTENT
    assert "checksum" in heard.warnings[0]


def test_a_download_that_breaks_off_goes_on_where_it_stopped(publisher, cache):
    publisher.files["w.pth"] = CONTENT
    publisher.cut = [1_000_000, 500_000]
    assert fetch(publisher).read_bytes() == CONTENT
    assert [wanted for _, wanted in publisher.asked] == [None, "bytes=1000000-", "bytes=1500000-"]


def test_a_server_that_cannot_start_in_the_middle(publisher, cache):
    publisher.files["w.pth"] = CONTENT
    publisher.cut, publisher.ranges = [1_000_000], False
    assert fetch(publisher).read_bytes() == CONTENT


def test_a_download_that_never_comes_whole_leaves_no_file_but_what_a_later_one_needs(publisher, cache):
    publisher.files["w.pth"] = CONTENT
    publisher.cut = [1000] * download.ATTEMPTS
    with pytest.raises(OfflineError, match=r"net:w could not be fetched.*ended after") as caught:
        fetch(publisher)
    assert not (cache / "w.pth").exists()
    for part in (publisher.url, str(cache / "w.pth"), "net:FILE"):
        assert part in (caught.value.hint or "")
    assert fetch(publisher).read_bytes() == CONTENT
    assert publisher.asked[-1][1] == f"bytes={1000 * download.ATTEMPTS}-"


def test_another_content_than_published_is_never_kept(publisher, cache):
    publisher.files["w.pth"] = b"<html>please sign in</html>"
    with pytest.raises(CheckpointError, match="not the published file"):
        fetch(publisher)
    assert list(cache.iterdir()) == []


def test_a_leftover_of_another_file_does_not_harm(publisher, cache):
    cache.mkdir(parents=True)
    (cache / ".w.pth.part").write_bytes(b"x" * (len(CONTENT) + 10))
    publisher.files["w.pth"] = CONTENT
    with pytest.raises(CheckpointError):  # the server sends nothing more, and what is there is not it
        fetch(publisher)
    assert fetch(publisher).read_bytes() == CONTENT


def test_not_found_and_gone(publisher, cache):
    with pytest.raises(OfflineError, match="404"):
        fetch(publisher)
    assert len(publisher.asked) == 1
    publisher.stop()
    with pytest.raises(OfflineError, match="could not be fetched"):
        fetch(publisher)
    with pytest.raises(OfflineError, match="--offline forbids"):
        fetch(publisher, offline=True)


def test_checksums_that_stand_beside_the_file(publisher, cache):
    """Hugging Face shows a large file's sha256 in place of the raw file."""
    publisher.files["org/net/resolve/main/model.safetensors"] = CONTENT
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{DIGEST}\nsize {len(CONTENT)}\n"
    publisher.files["org/net/raw/main/model.safetensors"] = pointer.encode()
    url = publisher.url + "org/net/resolve/main/model.safetensors"
    path = fetched(url, "net.safetensors", spelling="net:w")
    assert (cache / "net.safetensors.sha256").read_text().strip() == DIGEST
    path.write_bytes(b"other")
    with pytest.raises(OfflineError):
        fetched(url, "net.safetensors", spelling="net:w", offline=True)
    publisher.files["org/net/raw/main/model.safetensors"] = pointer.replace(DIGEST[:4], "0000").encode()
    (cache / "net.safetensors.sha256").unlink()
    path.unlink()
    with pytest.raises(CheckpointError, match="checksum"):
        fetched(url, "net.safetensors", spelling="net:w")


def test_two_at_once_both_get_the_whole_file(publisher, cache):
    publisher.files["w.pth"] = CONTENT
    results, errors = [], []

    def run():
        try:
            results.append(fetch(publisher).read_bytes() == CONTENT)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert results == [True] * 4


def test_a_cache_that_cannot_be_written(publisher, cache):
    cache.parent.mkdir()
    cache.write_text("a file in its place")
    publisher.files["w.pth"] = CONTENT
    with pytest.raises(CheckpointError, match="cannot keep the weights"):
        fetch(publisher)


def test_torch_s_own_cache_is_used_unless_another_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv(download.CACHE_VARIABLE)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    assert download.cache_folder() == tmp_path / "torch" / "hub" / "checkpoints"
