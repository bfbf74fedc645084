"""diptych embed as a user runs it: images, texts and URLs; resumed after kill -9 and after a full disk."""

import contextlib
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import disks
import numpy as np
import pytest
import torch
from pictures import noise

from diptych.embed.store import open_store
from tests.embedding import make_compact

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def home(tmp_path):
    """A folder with images and a model, where the command runs."""
    torch.manual_seed(0)
    make_compact().save(tmp_path / "tiny")
    (tmp_path / "photos").mkdir()
    for index in range(12):
        noise(40, 50, index).save(tmp_path / "photos" / f"{index:02d}.jpg")
    return tmp_path


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_images_become_vectors_and_the_end_tells_the_rate(home, command):
    (home / "photos" / "bad.jpg").write_bytes((home / "photos" / "00.jpg").read_bytes()[:500])
    views = ("--parquet", "v.parquet", "--npy", "v.npy")
    words = ("embed", "photos", "--model", "tiny", "--out", "vectors", "--backend", "torch", *views)
    done = command(*words, "--progress", "lines")
    assert done.status == 0, done.err
    assert "vectors: 12 images, 64 numbers each, tiny torch" in done.out
    assert "images/s: " in done.out and "computing" in done.out
    assert "1 images are broken; all are listed in vectors/*/broken.jsonl\n  bad.jpg: the image cannot" in done.out
    assert np.array_equal(np.load("v.npy"), open_store("vectors").vectors(np.arange(12)))
    [line] = Path("vectors/000000-000000/broken.jsonl").read_text().splitlines()
    assert json.loads(line)["key"] == "bad.jpg"
    before = contents(home / "vectors")
    again = command(*words)
    assert again.status == 0 and "images/s" not in again.out and contents(home / "vectors") == before


def test_texts_become_vectors(home, command):
    Path("texts.csv").write_text("n,satz\n1,a cat\n2,a dog\n")
    done = command("embed", "--texts", "texts.csv", "--text-column", "satz", "--model", "tiny", "--out", "vectors")
    assert done.status == 0 and "vectors: 2 texts, 64 numbers each" in done.out
    assert open_store("vectors").manifest.kind == "text embeddings"


def test_urls_become_vectors_if_their_addresses_may_be_fetched(home, command):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *words):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=home / "photos")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        urls = [f"http://127.0.0.1:{server.server_port}/{name}" for name in ("00.jpg", "none.jpg", "01.jpg")]
        Path("urls.txt").write_text("\n".join(urls))
        words = ("embed", "--urls", "urls.txt", "--model", "tiny")
        refused = command(*words, "--out", "refused")
        allowed = command(*words, "--out", "vectors", "--allow-private")
        server.shutdown()
    assert refused.status == 1 and "which is not public" in refused.out and "--allow-private" in refused.out
    assert allowed.status == 0 and open_store("vectors").keys(np.arange(2)) == [urls[0], urls[2]]
    assert f"{urls[1]}: the server answers 404" in allowed.out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "name images"),
        (("photos", "--texts", "a.txt"), "one of the three"),
        (("empty",), "no images in empty"),
        (("photos", "--progress", "loud"), "--progress is auto or lines"),
        (("photos", "--kind", "thoughts"), "kind must be"),
        (("photos", "--model", "nowhere"), "nowhere"),
        (("--texts", "none.txt"), "No such file"),
        (("--urls", "none.txt"), "No such file"),
    ],
)
def test_mistakes_have_one_line(home, command, words, expected):
    (home / "empty").mkdir()
    model = () if "--model" in words else ("--model", "tiny")
    command("embed", *words, *model, "--out", "vectors").is_error(expected)


def test_a_store_continues_with_its_own_back_end_and_refuses_another_one(home, command):
    pytest.importorskip("onnxruntime")
    words = ("embed", "photos", "--model", "tiny", "--out", "vectors")
    assert command(*words, "--backend", "onnx", "--precision", "fp32").status == 0
    assert command(*words).status == 0  # "auto" is what the store says
    wrong = command(*words, "--backend", "torch", "--precision", "fp32")
    wrong.is_error("backend: onnxruntime", "there, torch", "here", "choose another folder")


KILLED = """
import sys, time
from diptych.cli import main
from diptych.embed.model import Model
encode = Model.encode_pixels
def slow(self, *arguments, **options):
    time.sleep(0.05)
    return encode(self, *arguments, **options)
if "SLOW" in sys.argv: Model.encode_pixels = slow; sys.argv.remove("SLOW")
import diptych.embed.embed_inputs as inputs
inputs.ROWS_PER_SHARD = 8
main()
"""


def start(home, *words):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, "embed", "photos", "--model", "tiny", "--batch-size", "4", *words]
    return subprocess.Popen(
        [*command, "--backend", "torch", "--precision", "fp32"],
        cwd=home,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_after_kill_9_the_same_command_ends_with_the_same_bytes(home):
    for index in range(12, 60):
        noise(40, 50, index).save(home / "photos" / f"{index:02d}.jpg")
    (home / "photos" / "33.jpg").write_bytes(b"broken")
    (home / "photos" / "34.jpg").write_bytes(b"broken too")
    output, _ = start(home, "--out", "whole").communicate(timeout=120)
    assert "58 images" in output, output
    with start(home, "--out", "killed", "SLOW") as process:
        deadline = time.monotonic() + 120
        while len(list((home / "killed").glob("[0-9]*"))) < 2:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
    finished = len(list((home / "killed").glob("[0-9]*")))
    assert 2 <= finished < 8 and not open_store(home / "killed").is_complete
    output, _ = start(home, "--out", "killed").communicate(timeout=120)
    assert "58 images" in output, output
    assert contents(home / "killed") == contents(home / "whole")


def test_a_full_disk_is_named_and_the_command_resumes_once_there_is_space(home, command):
    words = ("embed", "photos", "--model", "tiny", "--backend", "torch", "--batch-size", "4")
    assert command(*words, "--out", "whole").status == 0
    with disks.small_disk(home / "disk", 1 << 20) as disk, contextlib.ExitStack():
        filler = disks.fill(disk)
        with filler.open("r+b") as file:
            file.truncate(filler.stat().st_size - 8192)  # room for the manifest alone
        full = command(*words, "--out", disk / "vectors")
        full.is_error("cannot write", "No space left on device", "free some space")
        filler.unlink()
        assert command(*words, "--out", disk / "vectors").status == 0
        assert contents(disk / "vectors") == contents(home / "whole")
