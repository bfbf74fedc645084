"""Names that file systems allow and text formats do not: bytes that are no UTF-8, 255 of them, NUL in a table."""

import os
import shutil
import sys

import pytest
from shaded_sets import Shades, write_folders
from training import generated_pairs, tiny_config

from diptych.data.content import content_fingerprint, files_state
from diptych.data.open_source import open_source
from diptych.embed import load
from diptych.evalsets.cards import get_card
from diptych.evaluate import read_predictions
from diptych.evaluate.probe.task import LINEAR_PROBE
from diptych.evaluate.suite import run_suite
from diptych.evaluate.tasks.task import Setting
from diptych.evaluate.tasks.zero_shot import ZERO_SHOT
from diptych.records import Broken, Sample, read_results
from diptych.train import fit

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
STRANGE = os.fsdecode(b"\xff\xfe")


def test_a_set_with_names_that_are_no_utf8_is_measured_and_kept(tmp_path):
    data = write_folders(tmp_path / f"data{STRANGE}", ("train", "test"))
    plain = write_folders(tmp_path / "plain", ("train", "test"))
    for path in sorted((data / "CIFAR10").rglob("*0.png")):
        path.rename(path.with_name(f"{path.stem}{STRANGE}.png"))
    numbers = []
    for root, out in ((data, tmp_path / f"out{STRANGE}"), (plain, tmp_path / "out")):
        for cache in (out / "cache", None, out / "cache"):
            setting = Setting(root, cache=cache, predictions=out / "predictions")
            done = run_suite(Shades(), [ZERO_SHOT, LINEAR_PROBE], [get_card("CIFAR10")], setting, out)
            assert not done.skipped
            numbers.append([(one.task, one.protocol, one.metric, one.value) for one in done.results])
            shutil.rmtree(out / "parts")
        assert len(read_results(out / "results.jsonl")) == len(numbers[0])
    assert numbers == numbers[:1] * 6
    [path, *_] = sorted((tmp_path / f"out{STRANGE}" / "predictions").rglob("*.parquet"))
    keys = read_predictions(path).keys
    assert len(set(keys)) == 50 and sum(r"\udcff\udcfe.png" in key for key in keys) == 10


def test_a_run_with_names_that_are_no_utf8_is_saved(tmp_path):
    folder = tmp_path / f"data{STRANGE}"
    folder.mkdir()
    for number, pair in enumerate(generated_pairs(40)):
        (folder / f"{number}{STRANGE}.png").write_bytes(pair.image)
        (folder / f"{number}{STRANGE}.txt").write_text(pair.texts[0])
    config = tiny_config(tmp_path / f"run{STRANGE}", 2, data=(str(folder),), held_out=0.4)
    run = fit(config)
    assert run.finished and fit(config, resume=True).step == 2
    kept = tmp_path / f"kept{STRANGE}"
    run.model.save(kept)
    assert r"# kept\udcff\udcfe" in (kept / "README.md").read_text(encoding="utf-8")
    assert load(kept).fingerprint == run.model.fingerprint


def test_the_longest_name_has_a_caption_beside_it(tmp_path):
    """Suffixes that are looked for may be longer than the file's own."""
    pair = generated_pairs(1)[0]
    (tmp_path / ("a" * 251 + ".png")).write_bytes(pair.image)
    (tmp_path / ("a" * 251 + ".txt")).write_text("a red star")
    [sample] = open_source(tmp_path).read(0)
    assert sample.texts == ("a red star",)


def test_rows_that_name_what_no_file_can_be_called_are_broken(tmp_path):
    (tmp_path / "a.png").write_bytes(generated_pairs(1)[0].image)
    names = ["a.png", r"a\u0000.png", r"\ud800.png", "x" * 5000]
    rows = [f'{{"file_name": "{name}", "text": "a red star"}}\n' for name in names]
    (tmp_path / "metadata.jsonl").write_text("".join(rows))
    source = open_source(tmp_path)
    assert [type(item) for item in source.read(0)] == [Sample, Broken, Broken, Broken]
    assert content_fingerprint(source) and files_state(source)  # what --resume and caches ask
