"""Measurements and sets whose disk fills up: an error that names a file, nothing half written, later the same."""

import shutil
from pathlib import Path

import pytest
from disks import fill, limited_file_size, small_disk
from shaded_sets import Shades, write_folders
from training import generated_pairs

from diptych.data.shards import write_shards
from diptych.errors import DataError, DiptychError
from diptych.evalsets import preparing
from diptych.evalsets.cards import get_card
from diptych.evalsets.embedded import write_embedded
from diptych.evaluate.suite import run_suite
from diptych.evaluate.tasks.probe_tasks import LINEAR_PROBE
from diptych.evaluate.tasks.task import Setting
from diptych.evaluate.tasks.zero_shot import ZERO_SHOT
from diptych.paper.exhibit_table import EXHIBITS
from diptych.paper.run import make_exhibits


def measure(data: Path, out: Path):
    """The numbers, or the words of what went wrong."""
    setting = Setting(data, cache=out / "cache", predictions=out / "predictions")
    done = run_suite(Shades(), (ZERO_SHOT, LINEAR_PROBE), [get_card("CIFAR10")], setting, out)
    if done.skipped:
        raise DataError("; ".join(one.reason for one in done.skipped))
    return [(one.task, one.metric, one.protocol, one.value) for one in done.results]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    data = write_folders(root / "data", ("train", "test"))
    return data, root / "out", measure(data, root / "out")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_suite_names_the_file_that_no_longer_fits_and_goes_on_later(whole, tmp_path):
    """Whatever file it is whose end does not fit, from the first byte to the last one."""
    data, before, numbers = whole
    sizes = sorted({path.stat().st_size for path in before.rglob("*") if path.is_file()})
    assert len(sizes) > 5
    named = set()
    for limit in [0, *(size - 1 for size in sizes)]:
        out = tmp_path / str(limit)
        try:
            with limited_file_size(limit):
                assert measure(data, out) == numbers  # what is kept to save time may be missing
        except DataError as error:
            assert str(out) in str(error) and "File too large" in str(error), error
            named.add(str(error).split(str(out))[1].split("/")[1].split(":")[0])
        assert not [path for path in out.rglob(".*") if path.is_file()], "something half written"
        assert measure(data, out) == numbers
        shutil.rmtree(out)
    assert {"cache", "predictions", "parts"} <= named


def test_what_was_measured_stays_when_the_disk_is_full(whole, tmp_path):
    data, before, numbers = whole
    with small_disk(tmp_path / "disk", 4 << 20) as disk:
        out = disk / "out"
        shutil.copytree(before, out)
        shutil.rmtree(out / "cache")
        kept = next((out / "parts").rglob("*linear_probe.json"))
        kept.unlink()
        fill(disk)
        stay = files(out)
        with pytest.raises(DataError, match=rf"cannot \w+ .*{out}.*No space left"):
            measure(data, out)
        assert files(out) == stay
        (disk / "filler").unlink()
        assert measure(data, out) == numbers


def test_exhibits_name_the_file(whole, tmp_path):
    data, before, _ = whole
    with small_disk(tmp_path / "disk", 4 << 20) as disk:
        shutil.copytree(before, disk / "out")
        fill(disk)
        with pytest.raises(DiptychError, match=r"cannot write .*/disk/out/.*No space left.*repeat"):
            make_exhibits([EXHIBITS["table11"]], [], Setting(data), disk / "out")
        assert files(disk / "out") == files(before)


@pytest.mark.parametrize("free", [0, 1, 9])
def test_shards_and_embedded_sets_name_their_file(tmp_path, free):
    with small_disk(tmp_path / "disk", 32 * 4096) as disk:
        filler = fill(disk)
        with filler.open("r+b") as file:
            file.truncate(filler.stat().st_size - free * 4096)
        with pytest.raises(DataError, match=rf"cannot write {disk}/shards.*No space left.*repeat the command"):
            write_shards(generated_pairs(100), disk / "shards", 10)
        assert not list(disk.rglob("*.part"))
        shutil.rmtree(disk / "shards", ignore_errors=True)
        with pytest.raises(DataError, match=rf"cannot write {disk}/\S+.*No space left"):
            write_embedded(disk, num_train=20, num_test=20)
        assert [path.name for path in disk.iterdir()] == ["filler"]


def test_a_set_that_cannot_be_prepared_names_its_place(tmp_path):
    """Also where the folder itself cannot be made."""
    source = tmp_path / "sst"
    source.mkdir()
    for name in ("train", "dev", "test"):
        (source / f"{name}.tsv").write_text("sentence\tlabel\n" + "a fine film\t1\na dull film\t0\n" * 4)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot write .*/file/RenderedSST2: (Not a directory|File exists)"):
        preparing.prepare("RenderedSST2", source, tmp_path / "file" / "RenderedSST2")
    with small_disk(tmp_path / "disk", 32 * 4096) as disk:
        for free in (0, 2, 20):
            (disk / "filler").unlink(missing_ok=True)
            filler = fill(disk)
            with filler.open("r+b") as file:
                file.truncate(filler.stat().st_size - free * 4096)
            with pytest.raises(DataError, match=rf"cannot write {disk}/\S+: No space left"):
                preparing.prepare("RenderedSST2", source, disk / "RenderedSST2")
            assert [path.name for path in disk.iterdir()] == ["filler"]
