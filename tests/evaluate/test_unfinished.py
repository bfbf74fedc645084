"""Vectors that a killed process did not finish are deleted, those of a living one never."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from listed_sets import Counting, pictures

from diptych.evaluate.encoded_set import encode_set
from diptych.files import remove_unfinished, unfinished_name

ROOT = Path(__file__).resolve().parents[2]
# Stops for good in the midst of encoding a set.
ENCODES = """
import sys, time
sys.path.append("tests")
from pathlib import Path
from listed_sets import Counting, pictures
from diptych.evaluate.encoded_set import encode_set

class Sleeping(Counting):
    def encode_images(self, images):
        print("encoding", flush=True)
        time.sleep(600)

encode_set(Sleeping("other weights"), pictures(), cache=Path(sys.argv[1]))
"""


@pytest.fixture
def encoding(tmp_path):
    """A process in the midst of encoding, and the folder it writes into."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", ENCODES, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "encoding\n"
        [part] = (tmp_path / "pictures").iterdir()
        yield process, part
        process.kill()


def test_a_living_process_keeps_what_it_writes_and_a_killed_one_does_not(tmp_path, encoding):
    process, part = encoding
    assert f".{process.pid}@" in part.name
    encode_set(Counting(), pictures(), cache=tmp_path)
    assert part.is_dir() and len(list((tmp_path / "pictures").iterdir())) == 2
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert part.is_dir()
    encode_set(Counting(), pictures(), cache=tmp_path)  # nothing is encoded, nothing is deleted
    assert part.is_dir()
    encode_set(Counting("a third"), pictures(), cache=tmp_path)
    assert not part.exists() and len(list((tmp_path / "pictures").iterdir())) == 2


def dead_process():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def of_process(name, process):
    return re.sub(r"\.\d+@", f".{process}@", unfinished_name(name))


def test_unfinished_embeddings_beside_kept_features_go_too(tmp_path):
    for name in (stale := of_process("a.f32", dead_process()), own := unfinished_name("a.f32")):
        (tmp_path / name).touch()
    remove_unfinished(tmp_path)
    assert not (tmp_path / stale).exists() and (tmp_path / own).exists()


def test_what_nobody_here_can_judge_stays(tmp_path):
    process = dead_process()
    names = [
        f".a.{process}@another-machine.x1",  # its processes are not ours
        f".a.{process}",
        f"a.{process}@{of_process('a', process).partition('@')[2]}",  # not hidden
        of_process("a", 0),
        of_process("a", 9999999999),
        of_process("a", 1),  # another user's, unless these tests are root's
        ".gitkeep",
    ]
    for name in names:
        (tmp_path / name).mkdir()
    remove_unfinished(tmp_path)
    assert sorted(names) == sorted(path.name for path in tmp_path.iterdir())


def test_a_link_is_deleted_and_not_what_it_leads_to(tmp_path):
    target = tmp_path / "kept"
    target.mkdir()
    (target / "file").touch()
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / of_process("a", dead_process())).symlink_to(target)
    remove_unfinished(folder)
    assert not list(folder.iterdir()) and (target / "file").exists()
