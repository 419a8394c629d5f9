"""Prepared clips in an object store: written there and read from there, as if it were a folder."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from helpers.small_footage import clip_of, content, movie, simple_tools

from handi.core.errors import InputError
from handi.core.executors import HERE
from handi.core.stores import url_of
from handi.data import shards
from handi.data.dataset import PreparedClips
from handi.data.prepare import write_shards
from handi.data.sources.common import SourceClips
from handi.data.stages import PrepareSettings
from handi.evaluation.folder import read_videos

SETTINGS = PrepareSettings(size=(32, 32), clips_per_shard=3)
# With `pip install 'moto[server]' s3fs` a local server of S3 takes part.
KINDS = ["memory", "file", *(["s3"] if importlib.util.find_spec("moto") else [])]


@pytest.fixture(params=KINDS)
def store(request, tmp_path, monkeypatch) -> Iterator[str]:
    """The address of an empty folder in a store."""
    monkeypatch.setenv("HANDI_CACHE", str(tmp_path / "cache"))
    if request.param == "memory":
        yield f"memory://{tmp_path.name}/data"
    elif request.param == "file":
        yield f"file://{tmp_path}/store/data"
    else:
        from moto.server import ThreadedMotoServer

        server = ThreadedMotoServer(port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "test")
        fsspec.filesystem("s3").mkdir("bucket")
        yield "s3://bucket/data"
        server.stop()


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> SourceClips:
    """Seven clips of one video in two splits, and a bad one."""
    home = tmp_path_factory.mktemp("footage")
    video = movie(home / "a.mp4", frames=60)
    dark = movie(home / "dark.mp4", brightness=0)
    splits = ("train", "train", "test")
    clips = [clip_of(video, f"a.{n}", start=n / 4, end=n / 4 + 3, split=splits[n % 3]) for n in range(7)]
    return SourceClips([*clips, clip_of(dark, split="train")], [])


@pytest.fixture(scope="module")
def whole(found, tmp_path_factory):
    """The same clips in a folder."""
    out = tmp_path_factory.mktemp("whole") / "out"
    write_shards(found, out, SETTINGS, simple_tools, HERE)
    return out


def stored(url: str) -> dict[str, bytes]:
    """Every file of a store's folder, by its path."""
    system, root = fsspec.url_to_fs(url)
    return {path[len(root.rstrip("/")) + 1 :]: system.cat_file(path) for path in system.find(root)}


def test_a_store_gets_the_same_files_and_gives_the_same_clips(store, found, whole, monkeypatch, tmp_path):
    write_shards(found, Path(store), SETTINGS, simple_tools, HERE)  # a command's Path has lost a slash
    assert stored(store) == content(whole)
    monkeypatch.setenv("HANDI_CACHE", str(tmp_path / "another machine"))
    there, here = PreparedClips(store), PreparedClips(whole)
    assert there.fingerprint() == here.fingerprint()
    for index in range(len(here)):
        np.testing.assert_array_equal(there[index].frames, here[index].frames)
    assert read_videos(store).keys() == read_videos(whole).keys()
    copies = [path for path in (tmp_path / "another machine").rglob("*") if path.suffix == ".tar"]
    assert not copies  # shards are read where they lie


def test_a_store_is_resumed_from_another_machine(store, found, whole, monkeypatch, tmp_path):
    def stops(number):
        tools, seen = simple_tools(number), []

        def detect(frames):
            seen.append(1)
            if len(seen) == 5:
                raise KeyboardInterrupt
            return tools.detect(frames)

        return type(tools)(detect, tools.encode)

    with pytest.raises(KeyboardInterrupt):
        write_shards(found, store, SETTINGS, stops, HERE)
    first = {name for name in stored(store) if name.endswith(".tar")}
    assert len(first) == 1
    with pytest.raises(InputError, match="is not finished"):
        PreparedClips(store)
    monkeypatch.setenv("HANDI_CACHE", str(tmp_path / "another machine"))
    made = []

    def counting(number):
        tools = simple_tools(number)
        return type(tools)(lambda frames: made.append(1) or tools.detect(frames), tools.encode)

    write_shards(found, store, SETTINGS, counting, HERE)
    assert stored(store) == content(whole)
    assert 0 < len(made) < 8  # what was there is kept


def test_what_is_damaged_or_not_there_is_named(store, found):
    with pytest.raises(InputError, match="holds no prepared clips"):
        shards.read_prepared(store)
    write_shards(found, store, SETTINGS, simple_tools, HERE)
    system, root = fsspec.url_to_fs(store)
    shard = f"{root.rstrip('/')}/shards/train-00000.tar"
    system.pipe_file(shard, system.cat_file(shard)[:1000])
    with pytest.raises(InputError, match=r"clip .* is damaged"):
        PreparedClips(store)[0]


def test_addresses():
    assert url_of(Path("s3://bucket/a b")) == "s3://bucket/a b"
    assert url_of("hf://datasets/owner/name/") == "hf://datasets/owner/name"
    assert url_of(Path("file:///tmp/x")) == "file:///tmp/x"
    for plain in ("data/epic", "/data/epic", "C:/data", "C:\\data", "a:b"):
        assert url_of(plain) is None
    with pytest.raises(InputError, match=r"nothing://x/y: cannot be read"):
        shards.read_prepared("nothing://x/y")
