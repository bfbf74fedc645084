"""A hub that fails, lies or breaks off: resumed where it can be, refused where it must be, nothing wrong is kept."""

import hashlib
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from disks import fill, limited_file_size, small_disk
from hub_server import COMMIT, Repository
from published import LAION, NAME, WEIGHTS

from diptych.embed import load
from diptych.embed.hub import fetch, resumable_download
from diptych.errors import WeightsError

pytest.importorskip("huggingface_hub")

ROOT = Path(__file__).resolve().parents[3]


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()}


@pytest.fixture
def blobs(tmp_path) -> Path:
    return tmp_path / "hf" / "hub" / f"models--{LAION.replace('/', '--')}" / "blobs"


def test_a_cut_connection_is_taken_up_where_it_broke(hub):
    size = len(hub.repositories[LAION].files[WEIGHTS])
    hub.cuts[WEIGHTS] = [1000, 2000]
    load(NAME)
    assert hub.sent(WEIGHTS) == [None, "bytes=1000-", "bytes=3000-"]
    assert size > 3000


def test_a_later_command_resumes_what_an_earlier_one_left(hub, blobs):
    hub.cuts[WEIGHTS] = [1000, *[0] * 5]
    with pytest.raises(WeightsError, match=r"broke 5 times in a row after 1,000 bytes .* run the same command again"):
        load(NAME)
    assert [len(content) for name, content in files_below(blobs).items() if name.endswith("incomplete")] == [1000]
    hub.requests.clear()
    load(NAME)
    assert hub.sent(WEIGHTS) == ["bytes=1000-"]
    assert hub.sent("tokenizer.json") == []  # it had arrived


def test_what_a_dead_process_left_may_be_damaged(hub, blobs, caplog):
    content = hub.repositories[LAION].files[WEIGHTS]
    blobs.mkdir(parents=True)
    (blobs / f"{hashlib.sha256(content).hexdigest()}.diptych.incomplete").write_bytes(b"x" * 1000)
    with caplog.at_level(logging.WARNING, "diptych"):
        load(NAME)
    assert hub.sent(WEIGHTS) == ["bytes=1000-", None]
    assert "what an earlier download left is damaged; starting again" in caplog.text


def test_a_server_that_cannot_resume_sends_all_of_it_again(hub):
    hub.resumes = False
    hub.cuts[WEIGHTS] = [1000]
    load(NAME)
    assert hub.sent(WEIGHTS) == [None, "bytes=1000-"]


def test_a_busy_server_is_asked_again(hub):
    hub.busy = [503, 429]
    load(NAME)


def test_a_wrong_content_is_refused_and_nothing_of_it_is_kept(hub, blobs):
    repository = hub.repositories[LAION]
    right = repository.files[WEIGHTS]
    repository.sent_instead[WEIGHTS] = right[:-1] + bytes([right[-1] ^ 1])
    with pytest.raises(WeightsError, match=r"is not the published file: its hash is [0-9a-f]{64}, not [0-9a-f]{64}"):
        load(NAME)
    assert not [content for content in files_below(blobs).values() if len(content) == len(right)]
    assert not (blobs.parent / "snapshots" / COMMIT / WEIGHTS).exists()
    with pytest.raises(WeightsError, match="is not in the cache"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIPTYCH_OFFLINE", "1")
        load(NAME)
    repository.sent_instead.clear()
    load(NAME)


@pytest.mark.parametrize("name", [WEIGHTS, "open_clip_config.json"])
@pytest.mark.parametrize("change", [-1, 1])
def test_a_wrong_size_is_refused_before_anything_is_read(hub, blobs, name, change):
    repository = hub.repositories[LAION]
    content = repository.files[name]
    repository.sent_instead[name] = content[:-1] if change < 0 else content + b"x"
    with pytest.raises(WeightsError, match=rf"sends {len(content) + change:,} bytes, and its publisher states"):
        load(NAME)
    assert not [name for name in files_below(blobs) if name.endswith("incomplete")]


def test_a_false_hash_in_the_list_is_refused(hub, blobs):
    hub.repositories[LAION].false_hashes[WEIGHTS] = "0" * 64
    with pytest.raises(WeightsError, match=f"not {'0' * 64}"):
        load(NAME)
    assert "0" * 64 not in files_below(blobs)


@pytest.mark.parametrize(
    ("lie", "says"),
    [
        ({"false_sizes": {WEIGHTS: 2_000_000_000}}, r"has 2,000,000,000 bytes on .*at most 1,007,663,878 are expected"),
        ({"false_sizes": {"tokenizer.json": 10**12}}, "it is not fetched"),
        ({"false_sizes": {WEIGHTS: -1}}, "states no size or no hash"),
        ({"false_hashes": {WEIGHTS: "../../../evil"}}, "states no size or no hash"),
        ({"commit": "../../evil"}, "states no commit"),
    ],
)
def test_a_list_that_makes_no_sense_is_refused(hub, tmp_path, lie, says):
    for field, value in lie.items():
        setattr(hub.repositories[LAION], field, value)
    with pytest.raises(WeightsError, match=says):
        load(NAME)
    assert not list(tmp_path.rglob("*evil*"))


def test_names_that_would_leave_the_folder_are_not_fetched(hub, tmp_path):
    files = hub.repositories[LAION].files
    hub.repositories[LAION] = Repository(files | {"../tokenizer_config.json": b"{}", "/etc/vocab.json": b"{}"})
    names = {path.name for path in fetch(NAME).path.iterdir()}
    assert names == {"open_clip_config.json", WEIGHTS, "tokenizer.json"}


def test_a_file_that_changed_in_the_cache_is_noticed(hub, blobs, caplog):
    fetch(NAME)
    content = hub.repositories[LAION].files[WEIGHTS]
    blob = blobs / hashlib.sha256(content).hexdigest()
    blob.write_bytes(b"\0" * len(content))
    with pytest.raises(WeightsError, match="is damaged: its hash is not"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        fetch(NAME)
    with caplog.at_level(logging.WARNING, "diptych"):
        fetch(NAME)
    assert "is damaged or belongs to another version; fetching it again" in caplog.text
    assert blob.read_bytes() == content


def test_a_redirect_to_a_file_of_this_machine_is_not_followed(hub, monkeypatch, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    monkeypatch.setattr(type(hub), "content_url", f"file://{tmp_path}/secret?")
    with pytest.raises(WeightsError, match=r"Redirection to url .* is not allowed"):
        load(NAME)


def test_a_redirect_from_https_to_http_is_not_followed():
    with pytest.raises(WeightsError, match="which is not followed"):
        resumable_download._check_scheme("http://somewhere/file", before="https://somewhere/file")
    resumable_download._check_scheme("https://elsewhere/file", before="https://somewhere/file")


# ---- the disk


def test_a_disk_that_is_too_small_is_noticed_before_the_download(hub, tmp_path, monkeypatch):
    with small_disk(tmp_path / "disk", 6 << 20) as disk:
        monkeypatch.setenv("HF_HOME", str(disk))
        size = len(hub.repositories[LAION].files[WEIGHTS])
        assert size < 6 << 20, "the test needs a smaller disk"
        filler = fill(disk)
        with pytest.raises(WeightsError, match=r"(needs .* MB more|cannot be written).*free some space"):
            load(NAME)
        assert hub.sent(WEIGHTS) == []
        filler.unlink()
        load(NAME)


def test_a_disk_that_fills_during_the_download(hub, blobs):
    with (
        limited_file_size(1_000_000),
        pytest.raises(WeightsError, match=r"cannot be written .*free some space.*resume"),
    ):
        load(NAME)
    hub.requests.clear()
    load(NAME)
    assert hub.sent(WEIGHTS) == ["bytes=1000000-"]


def test_a_cache_that_may_not_be_written(hub, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match=r"cannot be written into .*move the cache \(HF_HOME"):
        load(NAME)


# ---- several processes


def test_two_processes_fetch_a_model_once(hub):
    code = f"from diptych.embed.hub import fetch; print(fetch({NAME!r}).path)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    runs = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert len({run.communicate(timeout=60)[0] for run in runs}) == 1
    assert [run.returncode for run in runs] == [0, 0]
    assert len(hub.sent(WEIGHTS)) == 1


def test_a_process_that_is_killed_leaves_what_the_next_one_resumes(hub, blobs):
    hub.cuts[WEIGHTS] = [100_000, *[0] * 5]
    code = f"from diptych.embed.hub import fetch; fetch({NAME!r})"
    run = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)})
    deadline = time.monotonic() + 60
    while len(hub.sent(WEIGHTS)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    run.kill()
    run.wait()
    hub.cuts.clear()
    hub.requests.clear()
    load(NAME)
    assert hub.sent(WEIGHTS) == ["bytes=100000-"]


def test_a_waiting_thread_finds_the_finished_file(hub, tmp_path):
    content = b"abc" * 100_000
    hub.files["a.bin"] = content
    target = tmp_path / "a.bin"
    file = resumable_download.RemoteFile(
        url=f"{hub.url}/files/a.bin", path=target, label="a.bin", sha256=hashlib.sha256(content).hexdigest()
    )
    threads = [threading.Thread(target=resumable_download.download, args=(file,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() == content
    assert len(hub.sent("a.bin")) == 1
    assert list(tmp_path.glob("a.bin*")) == [target]
