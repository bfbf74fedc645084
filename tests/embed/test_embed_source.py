"""A source encoded into a store: the same bits for any number of processes and after any interruption."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from made_sources import Means, Noise, digests
from PIL import Image

from diptych.embed.broken_samples import BrokenSamples, all_broken_samples, broken_samples
from diptych.embed.embed_source import embed_source
from diptych.embed.neighbours import nearest_neighbours
from diptych.embed.shard_writer import NAMED_PER_SHARD
from diptych.embed.store import open_store, read_json, write_json
from diptych.errors import ConfigError, DataError, InputError
from diptych.files import unfinished_name
from diptych.records import Broken, Sample
from tests.embedding import make_vit

SMALL = {"batch_size": 4, "rows_per_shard": 16}


def contents(store):
    """The bytes of every file."""
    paths = sorted(path for path in store.folder.rglob("*") if path.is_file())
    return {path.relative_to(store.folder): path.read_bytes() for path in paths}


def samples_of(source):
    return [item for index in range(len(source.shards)) for item in source.read(index) if isinstance(item, Sample)]


def test_a_store_holds_the_source_in_its_order(tmp_path):
    source, encoder = Noise(), Means()
    store = embed_source(source, encoder, tmp_path / "store", **SMALL)
    samples, rows = samples_of(source), np.arange(len(store))
    assert store.is_complete and len(store) == len(samples) and store.num_broken == 260 - len(samples)
    assert store.keys(rows) == [sample.key for sample in samples]
    assert store.labels(rows).tolist() == [-1 if one.label is None else one.label for one in samples]
    expected = encoder.encode_images([Image.fromarray(sample.image) for sample in samples]).numpy()
    assert np.array_equal(store.vectors(rows), expected)
    assert np.array_equal(np.concatenate(list(store.vector_shards())), expected)
    texts = [text for shard in store.shards for text in shard.samples().column("texts").to_pylist()]
    assert texts == [list(sample.texts) for sample in samples]
    records = list(store.embeddings())
    assert [key for record in records for key in record.keys] == store.keys(rows)
    assert records[0].manifest["model"] == "means" and records[0].vectors.shape == (14, 48)
    found = nearest_neighbours(expected[::10], store.vector_shards(), 1)
    assert found.rows[:, 0].tolist() == list(range(0, len(store), 10))
    store.check()


@pytest.mark.parametrize("num_processes", [2, 3])
def test_the_number_of_processes_changes_nothing(tmp_path, num_processes):
    one = embed_source(Noise(), Means(), tmp_path / "one", **SMALL)
    several = embed_source(Noise(), Means(), tmp_path / "several", **SMALL, num_processes=num_processes)
    assert digests(one) == digests(several) and several.is_complete


def test_decoding_processes_change_nothing(tmp_path):
    torch.manual_seed(0)
    model = make_vit()
    stores = [
        embed_source(Noise(2, 20), model, tmp_path / f"{n}", **SMALL, num_workers=n, kind="features") for n in (0, 2)
    ]
    assert digests(stores[0]) == digests(stores[1])
    with pytest.raises(ConfigError, match="features, not embeddings"):
        stores[0].embeddings()


@pytest.mark.parametrize("lost", [slice(2, None, 3), slice(0, 1), slice(None), slice(-1, None), slice(0, 0)])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, lost):
    whole = embed_source(Noise(), Means(), tmp_path / "whole", **SMALL)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for shard in whole.shards[lost]:
        shutil.rmtree(tmp_path / "cut" / shard.folder.name)
    encoder = Means()
    again = embed_source(Noise(), encoder, tmp_path / "cut", **SMALL)
    assert digests(again) == digests(whole) and contents(again) == contents(whole)
    if lost == slice(0, 0):
        assert encoder.calls == 1  # the image that asks for the width
    if lost == slice(-1, None):
        assert encoder.calls == 1 + whole.shards[-1].num_rows


@pytest.mark.parametrize("make", [Means, make_vit])
@pytest.mark.parametrize("lost", [slice(0, 0), slice(2, None, 3)])
def test_a_store_names_its_broken_samples(tmp_path, make, lost):
    folder, encoder = tmp_path / "store", make()
    shards = embed_source(Noise(3, 30), encoder, folder, **SMALL).shards
    for shard in shards[lost]:  # a resumed run names those that it counts again
        shutil.rmtree(shard.folder)
    store = embed_source(Noise(3, 30), encoder, folder, **SMALL)
    expected = [f"{index}/{number} ä" for index in range(3) for number in range(3, 30 + index, 7)]
    assert broken_samples([store], 100) == dict.fromkeys(expected, "made so") and store.num_broken == len(expected)
    assert list(broken_samples([store, store], 2)) == expected[:2]


def test_a_broken_sample_that_a_shard_before_its_own_names_is_found(tmp_path):
    class OneBroken(Noise):  # in the first batch of the second shard, which is read before the first shard ends
        def read(self, index):
            for number, item in enumerate(super().read(index)):
                pixels = np.full((8, 8, 3), number, np.uint8)
                yield Broken("seventeen", "0", "made so") if number == 17 else Sample(item.key, pixels)

    store = embed_source(OneBroken(1, 40), Means(), tmp_path / "store", **SMALL)
    assert store.num_broken == 1 and broken_samples([store], 20) == {"seventeen": "made so"}


def test_broken_samples_keep_their_part_and_the_last_reason():
    broken = BrokenSamples()
    for number in range(5):
        broken.add(Broken(f"{number}", "0", "no image"), number // 2)
    broken.add(Broken("0", "0", "a truncated image", instead_of="no image"), 0)
    assert broken.take(0) == {"0": "a truncated image", "1": "no image"}
    assert list(broken.take(1, is_last=True)) == ["2", "3", "4"] and not broken.take(2)


def test_a_manifest_names_the_first_broken_samples_and_a_list_names_all(tmp_path):
    class AllBroken(Noise):
        def read(self, index):
            return (Broken(f"{number}\n", "0", f"reason {number}") for number in range(2 * NAMED_PER_SHARD))

    store = embed_source(AllBroken(1), Means(), tmp_path / "store", batch_size=8, rows_per_shard=64)
    expected = [(f"{number}\n", f"reason {number}") for number in range(2 * NAMED_PER_SHARD)]
    assert list(all_broken_samples(store)) == expected and len(store) == 0
    assert list(broken_samples([store], 100).items()) == expected[:NAMED_PER_SHARD]
    (store.shards[0].folder / "broken.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match="cannot read"):
        list(all_broken_samples(store))
    with pytest.raises(DataError, match=r"broken\.jsonl was changed"):
        store.check()


def test_a_store_of_an_earlier_version_counts_without_names(tmp_path):
    store = embed_source(Noise(1, 20), Means(), tmp_path / "store", **SMALL)
    for shard in store.shards:
        content = read_json(shard.folder / "shard.json", "")
        content.pop("broken", None)
        write_json(shard.folder / "shard.json", content)
    store = open_store(tmp_path / "store")
    assert store.num_broken == 3 and not broken_samples([store], 20)


def test_shards_of_a_source_that_are_small_share_a_unit(tmp_path):
    class Counted(Noise):
        num_samples = 260

    store = embed_source(Counted(), Means(), tmp_path / "store", batch_size=64, rows_per_shard=128)
    plain = embed_source(Noise(), Means(), tmp_path / "plain", batch_size=64, rows_per_shard=128)
    assert (store.manifest.num_units, plain.manifest.num_units) == (3, 5)
    rows = np.arange(len(store))
    assert store.keys(rows) == plain.keys(rows) and np.array_equal(store.vectors(rows), plain.vectors(rows))


def test_units_without_a_usable_sample_are_empty_shards(tmp_path):
    class Holes(Noise):
        def read(self, index):
            if index == 1:
                return iter(())
            items = super().read(index)
            return (
                items if index else (Broken(item.key, "0", "cut off", rest_lost=item.key == "0/49 ä") for item in items)
            )

    store = embed_source(Holes(3), Means(), tmp_path / "store", **SMALL)
    assert [(shard.unit, shard.num_rows, shard.num_items) for shard in store.shards][:2] == [(0, 0, 50), (1, 0, 0)]
    assert store.is_complete and store.num_broken == 50 + 7
    assert nearest_neighbours(np.ones((1, 48)), store.vector_shards(), 3).rows.shape == (1, 3)
    assert embed_source(Holes(3), Means(), tmp_path / "store", **SMALL).is_complete


def test_another_model_or_other_data_do_not_go_into_a_store(tmp_path):
    embed_source(Noise(), Means(), tmp_path / "store", **SMALL)
    with pytest.raises(
        DataError, match=r"something else: model_fingerprint: means there, trained furt here; choose another folder$"
    ):
        embed_source(Noise(), Means("trained further"), tmp_path / "store", **SMALL)
    with pytest.raises(DataError, match="the data differ"):
        embed_source(Noise(name="other"), Means(), tmp_path / "store", **SMALL)
    with pytest.raises(DataError, match="batch_size or rows_per_shard differ"):
        embed_source(Noise(), Means(), tmp_path / "store", batch_size=8, rows_per_shard=16)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").touch()
    with pytest.raises(DataError, match="holds something else; choose a new folder"):
        embed_source(Noise(), Means(), tmp_path / "photos", **SMALL)


def test_a_model_without_a_fingerprint_is_not_resumed(tmp_path):
    embed_source(Noise(), Means(None), tmp_path / "store", **SMALL)
    with pytest.raises(ConfigError, match="means has no image_fingerprint"):
        embed_source(Noise(), Means(None), tmp_path / "store", **SMALL)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kind": "thoughts"}, "not 'thoughts'"),
        ({"kind": "features"}, "means gives no features"),
        ({"rows_per_shard": 18}, "must be a multiple of batch_size"),
        ({"num_processes": 0}, "num_processes must be"),
    ],
)
def test_settings_that_contradict(tmp_path, options, words):
    with pytest.raises(ConfigError, match=words):
        embed_source(Noise(), Means(), tmp_path / "store", **{**SMALL, **options})


@dataclasses.dataclass
class Broken3(Means):
    name = image_fingerprint = "broken"
    calls: int = 0

    def encode_images(self, images):
        vectors = super().encode_images(images)
        return vectors * torch.nan if self.calls > 60 else vectors


@pytest.mark.parametrize("num_processes", [1, 2])
def test_an_error_ends_the_run_and_finished_shards_stay(tmp_path, num_processes):
    with pytest.raises(InputError, match="are NaN or infinite"):
        embed_source(Noise(), Broken3(), tmp_path / "store", **SMALL, num_processes=num_processes)
    assert 3 <= len(open_store(tmp_path / "store").shards) < 20
    assert not list((tmp_path / "store").glob(".*"))


def test_what_killed_processes_were_writing_goes_when_the_run_ends(tmp_path):
    """An error ends the other processes wherever they are; here one has ended in the middle of a shard."""

    def executor(function, units, **_):
        if not (child := os.fork()):
            (function.store.folder / unfinished_name("000000-000000")).mkdir()
            os._exit(0)
        os.waitpid(child, 0)
        raise InputError("some other process fails")

    with pytest.raises(InputError, match="some other process fails"):
        embed_source(Noise(), Means(), tmp_path / "store", **SMALL, num_processes=2, executor=executor)
    assert not list((tmp_path / "store").glob(".*"))


SLOW = """
import sys, time
sys.path[:0] = ["tests/embed"]
from made_sources import Means, Noise
from diptych.embed.embed_source import embed_source

class Slow(Means):
    def encode_images(self, images):
        time.sleep(0.02)
        return super().encode_images(images)

embed_source(Noise(), Slow(), sys.argv[1], batch_size=4, rows_per_shard=16, num_processes=int(sys.argv[2]))
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="counts processes in /proc")
@pytest.mark.parametrize("num_processes", [1, 3])
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_a_killed_run_loses_at_most_the_shards_in_hand(tmp_path, name, num_processes):
    whole = embed_source(Noise(), Means(), tmp_path / "whole", **SMALL)
    root, folder = Path(__file__).resolve().parents[2], tmp_path / "store"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", SLOW, str(folder), str(num_processes)]
    for finished in (2, 7, 12):
        with subprocess.Popen(command, cwd=root, env=environment, stderr=subprocess.DEVNULL) as process:
            while len(list(folder.glob("[0-9]*"))) < finished:
                assert process.poll() is None
                time.sleep(0.01)
            process.send_signal(getattr(signal, name))
            process.wait()
        deadline = time.monotonic() + 10
        while _with_argument(str(folder)) or _writers(folder):
            assert time.monotonic() < deadline, "a process outlives the one that started it"
            time.sleep(0.1)
        assert len(open_store(folder).shards) >= finished
    assert digests(embed_source(Noise(), Means(), folder, **SMALL)) == digests(whole)
    assert not list(folder.glob(".*"))


def _writers(folder):
    """Processes that left something unfinished and are not reaped yet: they count as living."""
    return [path for path in folder.glob(".*@*") if Path("/proc", path.name.split("@")[0].split(".")[-1]).exists()]


def _with_argument(text):
    """Processes that have it on their command line, forked children included; zombies have none."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            content = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        found += [path.parent.name] if text in content else []
    return found
