"""Files and folders that are whole or not there: after errors, kills, full disks, and writers at the same time."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from disks import small_disk

from diptych.files import new_file, new_folder, old_place, write_whole


def hidden(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    with new_file(path, durable=True) as unfinished:
        unfinished.write_text("half")
        assert not path.exists() and unfinished.parent == tmp_path
    assert path.read_text() == "half" and not hidden(tmp_path)


def test_an_error_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), new_file(path) as unfinished:
        unfinished.write_text("new")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and not hidden(tmp_path)


def test_a_file_that_was_never_written_is_an_error_and_replaces_nothing(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), new_file(path):
        pass
    assert path.read_text() == "old"


def test_a_link_stays_one(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "a.txt").symlink_to(tmp_path / "far" / "b.txt")
    with new_file(tmp_path / "a.txt") as unfinished:
        unfinished.write_text("new")
    assert (tmp_path / "a.txt").is_symlink() and (tmp_path / "far/b.txt").read_text() == "new"


def test_a_new_file_may_be_read_by_those_whom_the_umask_allows(tmp_path):
    before = os.umask(0o027)
    try:
        with new_file(tmp_path / "a.txt") as unfinished:
            unfinished.write_text("new")
        with new_folder(tmp_path / "b") as folder:
            (folder / "c").touch()
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o750


def test_a_folder_in_the_place_of_a_file_of_the_cache_is_renamed(tmp_path):
    (tmp_path / "a" / "kept").mkdir(parents=True)
    write_whole(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new" and (tmp_path / "a.old" / "kept").is_dir()


def test_a_folder_has_its_name_only_when_it_is_whole(tmp_path):
    with new_folder(tmp_path / "in" / "a") as unfinished:
        (unfinished / "b").write_text("content")
        assert not (tmp_path / "in" / "a").exists()
    assert (tmp_path / "in" / "a" / "b").read_text() == "content" and not hidden(tmp_path / "in")


def test_a_folder_that_is_there_is_replaced_only_where_that_is_asked_for(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").touch()
    with pytest.raises(OSError), new_folder(tmp_path / "a") as unfinished:
        (unfinished / "new").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["old"]
    with new_folder(tmp_path / "a", replace=True) as unfinished:
        (unfinished / "new").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["new"] and not hidden(tmp_path)


def test_an_error_leaves_the_folder_as_it_was(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").touch()
    with pytest.raises(ValueError), new_folder(tmp_path / "a", replace=True) as unfinished:
        (unfinished / "new").touch()
        raise ValueError
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["old"] and not hidden(tmp_path)


def test_where_the_second_rename_fails_the_old_folder_is_put_back(tmp_path, monkeypatch):
    place = tmp_path / "a"
    place.mkdir()
    (place / "old").touch()
    rename = type(place).rename

    def failing(self, target):
        if target == place and self != old_place(place):
            raise OSError("the disk is gone")
        return rename(self, target)

    monkeypatch.setattr(type(place), "rename", failing)
    with pytest.raises(OSError, match="gone"), new_folder(place, replace=True):
        pass
    assert (place / "old").exists() and not hidden(tmp_path)


@pytest.mark.parametrize("sound", [True, False])
def test_what_another_process_has_finished_meanwhile_stays_where_it_is_sound(tmp_path, sound):
    with new_folder(tmp_path / "a", stays=lambda: (tmp_path / "a" / "sound").exists()) as unfinished:
        (unfinished / "sound").write_text("mine")
        (tmp_path / "a").mkdir()
        if sound:
            (tmp_path / "a" / "sound").write_text("the other's")
    assert (tmp_path / "a" / "sound").read_text() == ("the other's" if sound else "mine") and not hidden(tmp_path)


def test_a_killed_process_leaves_no_half_file_and_the_next_folder_clears_what_it_left(tmp_path):
    program = (
        "import os, sys; from pathlib import Path; from diptych.files import new_folder\n"
        "with new_folder(Path(sys.argv[1]) / 'a') as unfinished:\n"
        "    (unfinished / 'half').touch(); print(flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL and not (tmp_path / "a").exists() and hidden(tmp_path)
    with new_folder(tmp_path / "b") as unfinished:
        (unfinished / "c").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_writers_at_the_same_time_leave_one_whole_file(tmp_path):
    def write(letter):
        for _ in range(30):
            with new_file(tmp_path / "a") as unfinished, unfinished.open("w") as file:
                file.writelines([letter] * 10_000)

    threads = [threading.Thread(target=write, args=(letter,)) for letter in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    content = (tmp_path / "a").read_text()
    assert len(content) == 10_000 and len(set(content)) == 1 and not hidden(tmp_path)


def test_a_full_disk_leaves_what_was_there(tmp_path):
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        (disk / "a").write_text("old")
        with pytest.raises(OSError, match="space"), new_file(disk / "a") as unfinished:
            unfinished.write_bytes(bytes(2 << 20))
        assert (disk / "a").read_text() == "old" and not hidden(disk)
