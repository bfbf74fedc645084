"""Fetching sets from a server on this machine that answers as the Hugging Face hub does."""

import contextlib
import hashlib
import io
import json
import re
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from test_cards_parquet import DIGITS, picture, read, write

from diptych.data.decoding import decode_image
from diptych.errors import DataError
from diptych.evalsets import hub_download as hub
from diptych.evalsets.benchmark import open_benchmark
from diptych.evalsets.cards import CARDS
from diptych.evalsets.opening import open_card
from diptych.evaluate.suite import run_suite
from diptych.evaluate.tasks.registry import TASKS
from diptych.evaluate.tasks.task import Setting

pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """The endpoints of the hub that a download of a whole data set uses."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes], repo: str = "tests/digits") -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.repo = repo
        self.files = files
        self.sent: list[str] = []
        self.refused: set[str] = set()  # answered with status 500
        self.cut: set[str] = set()  # the connection breaks off half way, once

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answers(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        about = re.fullmatch(rf"/api/datasets/{self.server.repo}(?:/(revision|tree)/(\w+))?", path)
        file = re.fullmatch(rf"/datasets/{self.server.repo}/resolve/{COMMIT}/(.+)", path)
        if about and about[2] not in (None, "main", COMMIT):
            self.answer(404, headers={"X-Error-Code": "RevisionNotFound"})
        elif about and about[1] == "tree":
            files = self.server.files
            self.answer(200, json.dumps([entry(name, data) for name, data in files.items()]).encode())
        elif about:
            siblings = [{"rfilename": name} for name in self.server.files]
            self.answer(200, json.dumps({"id": self.server.repo, "sha": COMMIT, "siblings": siblings}).encode())
        elif file and file[1] in self.server.files:
            self.send_file(file[1], self.server.files[file[1]])
        else:
            self.answer(404, headers={"X-Error-Code": "EntryNotFound" if file else "RepoNotFound"})

    def send_file(self, name: str, data: bytes) -> None:
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(data).hexdigest()}"', "Accept-Ranges": "bytes"}
        if self.command == "HEAD":
            return self.answer(200, data, headers)
        if name in self.server.refused:
            return self.answer(500)
        first = int((re.match(r"bytes=(\d+)-", self.headers.get("Range", "")) or ["", "0"])[1])
        self.server.sent.append(f"{name}@{first}" if first else name)
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
        half = len(data) // 2 if name in self.server.cut else None
        self.server.cut.discard(name)
        return self.answer(206 if first else 200, data[first:], headers, half)

    def answer(self, status: int, data: bytes = b"", headers: dict[str, str] | None = None, cut: int | None = None):
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(data)), "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data[:cut])
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def entry(name: str, data: bytes) -> dict:
    return {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}


@pytest.fixture
def server(tmp_path) -> Iterator[Hub]:
    for split in ("train", "test"):
        write(tmp_path / "there" / "data" / f"{split}-00000-of-00001.parquet", list(range(10)), DIGITS)
    files = {path.relative_to(tmp_path / "there").as_posix(): path.read_bytes() for path in tmp_path.rglob("*.parquet")}
    with serving(
        Hub({**files, "README.md": b"# digits", "loading.py": b"raise SystemExit", "info.json": b"{}"})
    ) as running:
        yield running


@contextlib.contextmanager
def serving(running: Hub) -> Iterator[Hub]:
    thread = threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


def fetch(server: Hub, folder: Path, repo_id: str = "tests/digits", **settings) -> Path:
    return hub.fetch(repo_id, folder, endpoint=server.url, **settings)


def test_a_set_is_fetched_and_opened_under_its_card(server, tmp_path):
    folder = tmp_path / "sets" / "wds_mnist"
    assert fetch(server, folder) == folder
    assert sorted(server.sent) == ["data/test-00000-of-00001.parquet", "data/train-00000-of-00001.parquet", "info.json"]
    assert [item.label for item in read(open_card(CARDS["MNIST"], tmp_path / "sets"))] == list(range(10))
    server.sent.clear()
    fetch(server, folder)
    assert server.sent == []  # all of it is there


def test_a_connection_that_breaks_off_half_way_is_taken_up_again(server, tmp_path):
    name = "data/test-00000-of-00001.parquet"
    server.cut.add(name)
    fetch(server, tmp_path / "mnist")
    assert len([sent for sent in server.sent if sent.startswith(name)]) == 2
    assert (tmp_path / "mnist" / name).read_bytes() == server.files[name]


def test_a_fetch_that_failed_keeps_what_arrived(server, tmp_path):
    name = "data/train-00000-of-00001.parquet"
    server.refused.add(name)
    with pytest.raises(DataError, match=r"could not be fetched whole .* repeat the download to resume"):
        fetch(server, tmp_path / "mnist")
    assert not (tmp_path / "mnist" / name).exists()
    fetched = set(server.sent)
    server.refused.clear()
    server.sent.clear()
    fetch(server, tmp_path / "mnist")
    assert name in server.sent and not fetched.intersection(server.sent)


def test_sets_and_revisions_that_do_not_exist(server, tmp_path):
    with pytest.raises(DataError, match="has no data set tests/letters, or it is private"):
        fetch(server, tmp_path / "a", "tests/letters")
    with pytest.raises(DataError, match="tests/digits has no revision older"):
        fetch(server, tmp_path / "a", revision="older")
    with pytest.raises(DataError, match="is no name of a data set"):
        fetch(server, tmp_path / "a", "not a name")
    assert not (tmp_path / "a").exists()


def test_no_network(server, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:\d+ did not answer for tests/digits: \S"):
        fetch(server, tmp_path / "mnist")


def test_sets_without_pictures_and_names_that_leave_the_folder(server, tmp_path):
    server.files = {"README.md": b"#", "info.json": b"{}"}
    with pytest.raises(DataError, match=r"neither parquet files nor tar shards.*it has README\.md, info\.json"):
        fetch(server, tmp_path / "a")
    server.files = {"../../evil.parquet": b"x"}
    with pytest.raises(DataError, match="would leave its folder"):
        fetch(server, tmp_path / "a")
    assert not list(tmp_path.rglob("evil*"))


class Captions:
    """Knows which picture a caption is of: both have its number."""

    name = "captions"
    table = torch.nn.functional.normalize(torch.randn(64, 16, generator=torch.Generator().manual_seed(0)), dim=1)

    def encode_images(self, pictures):
        return self.table[[int(np.asarray(decode_image(one))[0, 0, 0]) for one in pictures]]

    def encode_texts(self, texts):
        return self.table[[int(text.rsplit(" ", 1)[1]) for text in texts]]


@pytest.mark.parametrize(("name", "captions"), [("Flickr30k", 5), ("MSCOCO", 7)])
def test_sets_for_retrieval_lie_on_the_hub_without_class_names(name, captions, tmp_path):
    """clip-benchmark's layout: {split}/{n}.tar of pictures with a line per caption, nshards.txt, dataset_type.txt."""
    files = {"dataset_type.txt": b"retrieval\n", "README.md": b"#"}
    for split, first in (("train", 0), ("test", 20)):
        files[f"{split}/nshards.txt"] = b"2\n"
        for shard in range(2):
            stream = io.BytesIO()
            with tarfile.open(fileobj=stream, mode="w") as tar:
                for number in range(first + 10 * shard, first + 10 * shard + 10):
                    texts = [f"caption {place} of picture {number}" for place in range(captions)]
                    for suffix, data in (("png", picture(number)), ("txt", "\n".join(texts).encode())):
                        member = tarfile.TarInfo(f"s{number:07d}.{suffix}")
                        member.size = len(data)
                        tar.addfile(member, io.BytesIO(data))
            files[f"{split}/{shard}.tar"] = stream.getvalue()
    card = CARDS[name]
    with serving(Hub(files, card.hub)) as running:
        folder = fetch(running, tmp_path / "sets" / card.hub.split("/")[1], card.hub)
    found = run_suite(Captions(), [TASKS["retrieval"]], [card], Setting(tmp_path / "sets"), tmp_path / "out")
    assert not found.skipped and len(found.results) == 12 and all(one.value == 1 for one in found.results)
    assert {one.n for one in found.results if one.metric.startswith("text")} == {20}
    assert {one.n for one in found.results if one.metric.startswith("image")} == {100}  # the first five count
    with pytest.raises(DataError, match="captions instead of classes: diptych suite --task retrieval"):
        open_benchmark(folder)
    (folder / "test" / "1.tar").unlink()
    with pytest.raises(DataError, match="says 2 shards, but"):
        open_card(card, tmp_path / "sets")
