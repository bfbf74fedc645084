"""Nothing that is kept on disk is used for other data, another model or by halves."""

import dataclasses
import hashlib
import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from listed_sets import Counting, pictures
from miniatures import build
from shaded_sets import NAMES, Shades, png, write_folders, write_wds

from diptych.data import content
from diptych.data.open_source import open_source
from diptych.embed.library_encoder import LibraryEncoder
from diptych.evalsets.benchmark import open_benchmark
from diptych.evalsets.cards import get_card
from diptych.evalsets.opening import open_card
from diptych.evalsets.user_sets import own_card
from diptych.evaluate.encoded_set import encode_set
from diptych.evaluate.metrics.score import Score
from diptych.evaluate.scored_results import make_result
from diptych.evaluate.suite import fingerprint, read_all, run_suite
from diptych.evaluate.tasks.probe_tasks import LINEAR_PROBE
from diptych.evaluate.tasks.task import Measurement, Setting, Task
from diptych.evaluate.tasks.zero_shot import ZERO_SHOT
from diptych.paper.exhibits.probe_figures import FIGURE_8
from diptych.paper.exhibits.tables_10_11 import TABLE_11
from diptych.paper.numbers.measured import measured
from diptych.records import read_results

CARD = get_card("CIFAR10")


def zero_shot(data, out, encoder=None, tasks=(ZERO_SHOT,)):
    setting = Setting(data, cache=out / "cache")
    return run_suite(encoder or Shades(), tasks, [CARD], setting, out).results


def accuracy(results):
    (value,) = {one.value for one in results if (one.metric, one.protocol) == ("accuracy", "ensemble")}
    return value


def test_a_shard_of_equal_size_with_other_labels_is_measured_again(tmp_path):
    """Tar pads: the corrected labels of a set leave its size as it was."""
    data = write_wds(tmp_path / "data", [*range(10)] * 5)
    shard = data / "CIFAR10/test/0.tar"
    before = shard.stat()
    assert accuracy(zero_shot(data, tmp_path / "out")) == 1
    # The pictures of before, with the label 8 in the place of 9.
    shard.write_bytes(shard.read_bytes().replace(b"9" + bytes(511), b"8" + bytes(511)))
    assert shard.stat().st_size == before.st_size
    assert accuracy(zero_shot(data, tmp_path / "out")) == 0.9


def test_an_empty_class_more_shifts_the_labels_and_no_kept_ones_are_used(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "set/test" / name).mkdir(parents=True)
        (tmp_path / "set/test" / name / "0.png").write_bytes(png(len(name)))
    first = encode_set(Shades(), open_benchmark(tmp_path / "set"), cache=tmp_path / "cache")
    (tmp_path / "set/test/cow").mkdir()
    second = encode_set(Shades(), open_benchmark(tmp_path / "set"), cache=tmp_path / "cache")
    assert (first.labels.tolist(), second.labels.tolist()) == ([0, 1], [0, 2])
    assert open_benchmark(tmp_path / "set").source.fingerprint != first.fingerprint


def test_captions_written_anew_are_read_anew(tmp_path):
    folder = tmp_path / "pairs/test"
    folder.mkdir(parents=True)
    for number, name in enumerate(NAMES):
        (folder / f"{number}.png").write_bytes(png(25 * number))
        (folder / f"{number}.txt").write_text(name)
    card = own_card(tmp_path / "pairs")

    def texts():
        return encode_set(Shades(), open_card(card, tmp_path, "test"), cache=tmp_path / "cache").texts

    assert texts()[0] == ("airplane",)
    (folder / "0.txt").write_text("aircraft")  # of the same length
    os.utime(folder / "0.txt", ns=(0, 1))
    assert texts()[0] == ("aircraft",)


def test_two_sets_with_equal_files_do_not_share_vectors(tmp_path):
    encoder, one = Counting(), pictures()
    encode_set(encoder, one, cache=tmp_path)
    encode_set(encoder, dataclasses.replace(one, name="another"), cache=tmp_path)
    encode_set(encoder, dataclasses.replace(one, class_names=("cat", "dog", "fox")), cache=tmp_path)
    assert encoder.calls == 21
    encode_set(encoder, one, cache=tmp_path)
    assert encoder.calls == 21


def test_of_two_processes_that_encode_one_set_the_second_leaves_the_first_one_s_vectors(tmp_path):
    class Slow(Counting):
        """While it encodes another process ends."""

        def encode_images(self, images):
            if not (tmp_path / "pictures").exists() or not list((tmp_path / "pictures").glob("[!.]*")):
                self.first = encode_set(Counting(), pictures(), cache=tmp_path)
                [folder] = (tmp_path / "pictures").glob("[!.]*")
                (folder / "beside.f32").write_bytes(b"projected")
            return super().encode_images(images)

    slow = Slow()
    found = encode_set(slow, pictures(), cache=tmp_path)
    assert np.array_equal(found.vectors, slow.first.vectors)
    [folder] = (tmp_path / "pictures").iterdir()
    assert (folder / "beside.f32").exists()


def test_another_model_of_the_same_name_does_not_fill_its_rows(tmp_path, caplog):
    """A model trained further, measured by one task alone, must not stand beside its former self's numbers."""
    data, out = write_folders(tmp_path / "data", ("train", "test")), tmp_path / "out"
    zero_shot(data, out, tasks=(ZERO_SHOT, LINEAR_PROBE))
    assert {one.task for one in read_results(out / "results.jsonl")} == {"zero_shot", "linear_probe"}
    zero_shot(data, out, Shades("trained further"))
    assert "2 measurements of another model called shades" in caplog.text
    assert (
        {one.task for one in read_results(out / "results.jsonl")}
        == {one.task for one in read_all(out)}
        == {"zero_shot"}
    )
    assert len(list(out.rglob("*.json.old"))) == 2


def test_a_published_division_that_appears_later_is_measured(tmp_path):
    """Without its list of folds STL-10 is measured on all training pictures; with it the mean over folds is due."""
    base = tmp_path / "STL10/stl10_binary"
    base.mkdir(parents=True)
    card, encoder, setting = get_card("STL10"), Shades(), Setting(tmp_path)
    (base / "class_names.txt").write_text("airplane\nbird\ncar\ncat\ndeer\ndog\nhorse\nmonkey\nship\ntruck\n")
    for split in ("train", "test"):
        (base / f"{split}_X.bin").write_bytes(bytes(20 * 3 * 96 * 96))
        (base / f"{split}_y.bin").write_bytes(bytes([*range(1, 11)] * 2))
    before = fingerprint(encoder, LINEAR_PROBE, card, setting)
    assert fingerprint(encoder, LINEAR_PROBE, card, setting) == before and card.folds == 10
    (base / "fold_indices.txt").write_text("\n".join(" ".join(map(str, range(10))) for _ in range(10)))
    after = fingerprint(encoder, LINEAR_PROBE, card, setting)
    (base / "fold_indices.txt").write_text("\n".join(" ".join(map(str, range(10, 20))) for _ in range(10)))
    assert len({before, after, fingerprint(encoder, LINEAR_PROBE, card, setting)}) == 3


class Tiny(torch.nn.Module):
    def __init__(self, activation):
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.activation = torch.nn.Linear(3, 4), activation

    def forward(self, pixels):
        return self.activation(self.linear(pixels.mean(dim=(2, 3))))


def foreign(activation, tokenizing="words", features=None):
    network = Tiny(activation)
    return LibraryEncoder(
        network,
        "tiny",
        prepare=lambda picture: torch.tensor(np.asarray(picture), dtype=torch.float32).permute(2, 0, 1),
        images=network,
        texts=None,
        features=features,
        preprocessing="as they are <function _convert at 0x7f3a>",
        tokenizing=tokenizing,
    )


def test_equal_weights_with_another_activation_or_tokenizer_are_another_model():
    one = foreign(torch.nn.GELU())
    assert one.image_fingerprint == foreign(torch.nn.GELU()).image_fingerprint
    assert one.image_fingerprint != foreign(torch.nn.SiLU()).image_fingerprint
    other = foreign(torch.nn.GELU(), "letters")
    assert (one.image_fingerprint, one.fingerprint != other.fingerprint) == (other.image_fingerprint, True)


def test_a_foreign_model_without_features_is_probed_on_its_embeddings(tmp_path):
    assert foreign(torch.nn.GELU(), features=lambda pixels: pixels).about.probe_vectors == "features"
    data = write_folders(tmp_path / "data", ("train", "test"))
    [found] = zero_shot(data, tmp_path / "out", foreign(torch.nn.GELU()), [LINEAR_PROBE])
    assert found.protocol == "projected"


def _measure_many(data, out, name):
    encoder = Shades()
    encoder.name = name

    def measure(encoder, card, setting):
        where = ("quick", card.name, "test", "accuracy", Score(0.5, 10))
        return Measurement([make_result(*where, protocol="none", encoder=encoder, fingerprint=None)] * 20)

    tasks = [Task(f"quick-{number}", lambda card: True, lambda card: (), measure) for number in range(8)]
    run_suite(encoder, tasks, [CARD], Setting(data), out)


def test_processes_may_write_into_one_folder(tmp_path):
    data = write_folders(tmp_path / "data", ("test",), per_class=1)
    context = multiprocessing.get_context("fork")
    running = [context.Process(target=_measure_many, args=(data, tmp_path / "out", name)) for name in "abc"]
    for one in running:
        one.start()
    for one in running:
        one.join()
    assert [one.exitcode for one in running] == [0, 0, 0]
    found = read_results(tmp_path / "out/results.jsonl")
    assert len(found) == 3 * 8 * 20 and found == read_all(tmp_path / "out")


def test_files_of_two_processes_do_not_meet(tmp_path, monkeypatch):
    from diptych.files import whole

    used, write = [], Path.write_bytes
    monkeypatch.setattr(Path, "write_bytes", lambda path, content: used.append(path.name) or write(path, content))
    for process in (1, 2):
        monkeypatch.setattr(whole.os, "getpid", lambda process=process: process)
        whole.write_whole(tmp_path / "new" / "one.parquet", b"whole")
    assert len(set(used)) == 2 and [path.name for path in (tmp_path / "new").iterdir()] == ["one.parquet"]


@pytest.mark.parametrize("split", ["train", "val"])
def test_numbers_of_other_splits_are_none_of_the_paper_s_tables(split):
    encoder = Shades()
    where = ("zero_shot", "CIFAR10", split, "accuracy", Score(0.9, 10))
    wrong = make_result(*where, protocol="ensemble", encoder=encoder, fingerprint=None)
    right = dataclasses.replace(wrong, split="test", value=0.5)
    assert measured([right, wrong], "zero_shot", "ensemble") == {"shades": {"CIFAR10": right}}


def test_sets_beside_the_paper_s_27_are_in_no_mean_of_them():
    where = ("zero_shot", "SVHN", "test", "accuracy", Score(0.9, 26032))
    other = make_result(*where, protocol="ensemble", encoder=Shades(), fingerprint=None)
    assert measured([other], "zero_shot", "ensemble") == {}
    for exhibit in (TABLE_11, FIGURE_8):
        shown = exhibit.build([other, *(dataclasses.replace(other, dataset=name) for name in ("CIFAR10.1", "aYahoo"))])
        assert "shades" not in shown.title and not any("shades" in note for note in shown.notes)


def test_pixels_of_equal_size_in_one_file_are_encoded_again(tmp_path):
    build("MNIST", tmp_path / "MNIST")
    before = open_card(get_card("MNIST"), tmp_path)
    kept = encode_set(Shades(), before, cache=tmp_path / "cache")
    [path] = [one for one in before.source.files() if "images" in one.name]
    old = path.read_bytes()
    path.write_bytes(old[:16] + bytes(255 - value for value in old[16:]))
    again = encode_set(Shades(), open_card(get_card("MNIST"), tmp_path), cache=tmp_path / "cache")
    assert before.fingerprint == open_card(get_card("MNIST"), tmp_path).fingerprint  # names and sizes are equal
    assert (np.asarray(again.vectors) != np.asarray(kept.vectors)).any()


def encoded_again(data: Path, cache: Path) -> bool:
    """Whether a look at the split costs an encoding."""
    encoder = Counting()
    encode_set(encoder, open_benchmark(data / "CIFAR10"), cache=cache)
    return encoder.calls > 0


@pytest.mark.parametrize("max_bytes", [256 << 20, 4096], ids=["read whole", "sampled"])
def test_content_decides_where_size_and_time_were_restored(tmp_path, monkeypatch, max_bytes):
    """`rsync -t` and `tar x` put a new file in the place of an old one with its time. Of a set too large to be read
    whole, inode and ctime tell, which nothing restores.
    """
    monkeypatch.setattr(content, "MAX_BYTES", max_bytes)
    data = write_wds(tmp_path / "data", [*range(10)] * 5)
    assert encoded_again(data, tmp_path / "cache")
    assert not encoded_again(data, tmp_path / "cache")
    shard = data / "CIFAR10/test/0.tar"
    before, old = shard.stat(), shard.read_bytes()
    changed = bytearray(old)
    changed[len(old) // 3] ^= 1
    for way in (shard.write_bytes, lambda new: (shard.unlink(), shard.write_bytes(new))):
        way(old)
        os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))
        encoded_again(data, tmp_path / "cache")
        way(bytes(changed))
        os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))
        marks = content.files_state(open_benchmark(data / "CIFAR10").source)
        way(old)
        os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert marks != content.files_state(open_benchmark(data / "CIFAR10").source)


def test_a_set_that_was_copied_or_moved_is_not_encoded_again(tmp_path):
    data = write_wds(tmp_path / "data", [*range(10)] * 5)
    assert encoded_again(data, tmp_path / "cache")
    shutil.copytree(data, tmp_path / "copy", copy_function=shutil.copyfile)  # new times
    assert not encoded_again(tmp_path / "copy", tmp_path / "cache")
    data.rename(tmp_path / "moved")
    assert not encoded_again(tmp_path / "moved", tmp_path / "cache")


def test_of_large_files_blocks_from_begin_to_end_are_read(tmp_path, monkeypatch):
    """At most so many bytes, whatever the size; another content throughout is another fingerprint without any stat."""
    monkeypatch.setattr(content, "MAX_BYTES", 1 << 20)
    one, other = tmp_path / "one.tar", tmp_path / "other.tar"
    rng = np.random.default_rng(0)
    one.write_bytes(rng.bytes(8 << 20))
    other.write_bytes(one.read_bytes())
    read = []
    real = hashlib.sha256

    class Counted:
        def __init__(self, data=b""):
            self.inner = real(data)
            read.append(len(data))

        def update(self, data):
            read.append(len(data))
            self.inner.update(data)

        def __getattr__(self, name):
            return getattr(self.inner, name)

    monkeypatch.setattr(content.hashlib, "sha256", Counted)
    before = content.path_fingerprint(one)
    assert 1 << 19 < sum(read) <= (1 << 20) + 4096
    assert content.path_fingerprint(other) == before
    changed = bytearray(one.read_bytes())
    for place in (0, len(changed) - 1):  # first and last byte
        other.write_bytes(changed[:place] + bytes([changed[place] ^ 1]) + changed[place + 1 :])
        assert content.path_fingerprint(other) != before
    other.write_bytes(rng.bytes(8 << 20))
    assert content.path_fingerprint(other) != before


def test_a_picture_that_a_table_names_is_part_of_its_set(tmp_path):
    folder = tmp_path / "pairs/test"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(png(10))
    (folder / "captions.csv").write_text("filepath,caption\na.png,a cat\n")
    source = open_source(folder / "captions.csv")
    before = content.content_fingerprint(source)
    picture = (folder / "a.png").read_bytes()
    (folder / "a.png").write_bytes(picture[:-1] + b"?")
    assert content.content_fingerprint(open_source(folder / "captions.csv")) != before
