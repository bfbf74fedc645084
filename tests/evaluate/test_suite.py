"""The suite: every task on every set, resumed, and never with another model's or set's numbers."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from diptych.errors import ConfigError, DataError
from diptych.evalsets.archive_registry import LAYOUTS, Layout
from diptych.evalsets.cards import get_card
from diptych.evalsets.user_sets import own_cards
from diptych.evaluate.probe import probe_cache
from diptych.evaluate.suite import part_path, read_all, run_suite
from diptych.evaluate.tasks import few_shot_tasks
from diptych.evaluate.tasks.registry import TASKS
from diptych.evaluate.tasks.task import Setting, Task
from diptych.evaluate.tasks.zero_shot import PROTOCOLS, ZERO_SHOT
from diptych.records import read_results

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
UNUSUAL = ("ImageNet-Vid", "Youtube-BB", "RareAct", "UCF101")
SHADES = {name: 25 * index for index, name in enumerate(NAMES)}


class Shades:
    """Sees how bright a picture is, and reads how bright a class is; other words turn the point a little."""

    name = "shades"
    logit_scale = 100.0

    def __init__(self, mark="weights"):
        self.image_fingerprint = self.fingerprint = mark
        self.pictures_seen = self.texts_seen = 0

    def encode_images(self, pictures):
        self.pictures_seen += len(pictures)
        return self._points([float(np.asarray(picture.convert("L")).mean()) for picture in pictures])

    def encode_texts(self, texts):
        self.texts_seen += len(texts)
        shades = [next((SHADES[name] for name in NAMES if name in text), 0) for text in texts]
        return self._points([shade + len(text) % 3 for shade, text in zip(shades, texts, strict=True)])

    def _points(self, shades):
        angles = torch.tensor(shades) / 300
        return torch.stack([angles.cos(), angles.sin()], dim=1)


def write_set(root, name="CIFAR10", split="test", per_class=3):
    for label, shade in SHADES.items():
        folder = root / name / split / label
        folder.mkdir(parents=True)
        for number in range(per_class):
            Image.new("L", (8, 8), shade + number).convert("RGB").save(folder / f"{number}.png")


@pytest.fixture
def data(tmp_path):
    write_set(tmp_path / "data")
    return tmp_path / "data"


def measure(data, out, encoder=None, cards=("CIFAR10",), tasks=(ZERO_SHOT,), **options):
    encoder = encoder or Shades()
    lines = []
    setting = Setting(data, cache=out / "cache", **options)
    found = run_suite(encoder, tasks, [get_card(name) for name in cards], setting, out, announce=lines.append)
    return found, encoder, lines


def test_a_set_is_measured_by_every_protocol_and_every_number_has_its_interval(data, tmp_path):
    found, _, lines = measure(data, tmp_path / "out", predictions=tmp_path / "out/predictions")
    assert lines == ["[1/1] zero_shot on CIFAR-10"] and found.skipped == []
    assert {one.protocol for one in found.results} == set(PROTOCOLS)
    first = {one.protocol: one for one in found.results if one.metric == "accuracy"}
    assert {protocol: one.value for protocol, one in first.items()} == dict.fromkeys(PROTOCOLS, 1.0)
    assert all(one.n == 30 and one.low < 1 == one.high for one in first.values())
    assert first["names"].interval == "clopper-pearson 99.5%"
    assert read_results(tmp_path / "out/results.jsonl") == found.results
    assert len(list((tmp_path / "out/predictions").rglob("*.parquet"))) == len(PROTOCOLS)


def test_a_second_run_measures_nothing_and_says_the_same(data, tmp_path):
    first, *_ = measure(data, tmp_path / "out")
    second, encoder, lines = measure(data, tmp_path / "out")
    assert second.results == first.results
    assert (encoder.pictures_seen, encoder.texts_seen, lines) == (0, 0, [])


def test_predictions_that_are_gone_are_written_again(data, tmp_path):
    kept = tmp_path / "out/predictions"
    first, *_ = measure(data, tmp_path / "out", predictions=kept)
    assert measure(data, tmp_path / "out", predictions=kept)[2] == []
    written = {path: path.read_bytes() for path in kept.rglob("*.parquet")}
    next(iter(written)).unlink()
    again, encoder, lines = measure(data, tmp_path / "out", predictions=kept)
    assert again.results == first.results and len(lines) == 1 and encoder.pictures_seen == 0
    assert {path: path.read_bytes() for path in kept.rglob("*.parquet")} == written


def test_other_weights_or_data_or_task_versions_are_measured_again(data, tmp_path):
    measure(data, tmp_path / "out")
    assert measure(data, tmp_path / "out", Shades("others"))[1].pictures_seen == 30
    assert measure(data, tmp_path / "out", Shades("others"))[1].pictures_seen == 0
    newer = dataclasses.replace(ZERO_SHOT, version=ZERO_SHOT.version + 1)
    _, encoder, lines = measure(data, tmp_path / "out", Shades("others"), tasks=[newer])
    assert len(lines) == 1 and encoder.pictures_seen == 0  # the vectors still hold
    (data / "CIFAR10/test/cat/9.png").write_bytes((data / "CIFAR10/test/cat/0.png").read_bytes())
    assert measure(data, tmp_path / "out", Shades("others"))[1].pictures_seen == 31


def test_another_own_set_of_the_same_name_does_not_take_the_place_of_the_first(tmp_path):
    def run(root):
        [card] = own_cards(root)
        encoder, setting = Shades(), Setting(root, predictions=tmp_path / "out/predictions")
        return run_suite(encoder, [ZERO_SHOT], [card], setting, tmp_path / "out"), encoder

    write_set(tmp_path / "a", "snaps")
    write_set(tmp_path / "c", "snaps", per_class=2)
    first, _ = run(tmp_path / "a")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    second, encoder = run(tmp_path / "c")
    assert second.results == [] and encoder.pictures_seen == 0
    assert "another set called snaps, measured in " in (reason := second.skipped[0].reason)
    assert str(tmp_path / "a/snaps") in reason and str(tmp_path / "c/snaps") in reason
    after = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert after == before and read_results(tmp_path / "out/results.jsonl") == first.results
    (tmp_path / "a/snaps/test/cat/0.png").unlink()  # the same set, changed
    assert {one.n for one in run(tmp_path / "a")[0].results} == {29}
    (tmp_path / "a").rename(tmp_path / "moved")  # the same set, moved
    assert run(tmp_path / "moved")[0].kept == 1


def test_a_set_of_the_paper_is_the_same_set_in_another_root(data, tmp_path):
    measure(data, tmp_path / "out")
    write_set(tmp_path / "again", per_class=2)
    found, _, _ = measure(tmp_path / "again", tmp_path / "out")
    assert {one.n for one in found.results} == {20} and found.skipped == []


def test_the_versions_of_tasks_never_go_back():
    """Numbers that an older version kept would be taken for those of today."""
    least = dict.fromkeys(TASKS, 1) | {"geolocation": 2, "video": 2}
    least |= dict.fromkeys(("few_shot", "few_shot_from_texts", "linear_probe", "projected_probe", "imagenet_probe"), 3)
    assert {name: version for name, version in least.items() if TASKS[name].version < version} == {}
    assert few_shot_tasks.VERSION >= 3 and probe_cache.VERSION >= 3


def test_an_encoder_without_a_fingerprint_is_measured_each_time(data, tmp_path):
    for _ in range(2):
        assert measure(data, tmp_path / "out", Shades(None))[1].pictures_seen == 30


def test_missing_sets_are_named_with_where_to_get_them_and_the_others_go_on(data, tmp_path):
    found, *_ = measure(data, tmp_path / "out", cards=("Food101", "CIFAR10"))
    [skipped] = found.skipped
    assert skipped.absent and skipped.dataset == "Food101" and "get it from http" in skipped.reason
    assert {one.dataset for one in found.results} == {"CIFAR10"}


def test_a_broken_set_is_named_and_the_others_go_on(data, tmp_path):
    write_set(data, "STL10")
    shutil.rmtree(data / "STL10/test/cat")
    found, *_ = measure(data, tmp_path / "out", cards=("STL10", "CIFAR10"))
    [skipped] = found.skipped
    assert not skipped.absent and "STL-10 has 10 classes" in skipped.reason
    assert {one.dataset for one in found.results} == {"CIFAR10"}


def test_a_reader_that_fails_costs_its_own_set_alone(data, tmp_path, monkeypatch):
    def archive(folder, split):
        raise KeyError(split)

    (data / "STL10").mkdir()
    (data / "STL10/list.txt").touch()
    monkeypatch.setitem(LAYOUTS, "STL10", (Layout(archive, ("list.txt",)),))
    found, *_ = measure(data, tmp_path / "out", cards=("STL10", "CIFAR10"))
    [skipped] = found.skipped
    assert "its reader failed: KeyError: 'test'" in skipped.reason and "please report it" in skipped.reason
    assert {one.dataset for one in found.results} == {"CIFAR10"}


def test_an_error_of_the_measurement_itself_keeps_its_traceback(data, tmp_path):
    def fail(encoder, card, setting):
        raise KeyError("ours")

    task = Task("failing", lambda card: True, lambda card: ("test",), fail)
    with pytest.raises(KeyError, match="ours"):
        measure(data, tmp_path / "out", tasks=[task])


def test_a_picture_in_thirty_that_is_broken_is_no_number(data, tmp_path):
    (data / "CIFAR10/test/cat/0.png").write_bytes(b"no picture")
    found, *_ = measure(data, tmp_path / "out")
    assert not found.results and "1 of 30 samples are broken" in found.skipped[0].reason


def test_a_few_broken_pictures_are_counted_and_n_shows_it(tmp_path):
    write_set(tmp_path / "data", per_class=15)
    (tmp_path / "data/CIFAR10/test/cat/0.png").write_bytes(b"no picture")
    found, *_ = measure(tmp_path / "data", tmp_path / "out")
    assert {one.n for one in found.results} == {149}
    assert {one.run["settings"]["broken"] for one in found.results} == {1}


def test_image_only_encoders_are_skipped_where_texts_are_needed(data, tmp_path):
    class Pictures:
        name, image_fingerprint = "pictures", "weights"
        encode_images = Shades.encode_images

    found, *_ = measure(data, tmp_path / "out", Pictures())
    assert not found.results and found.skipped[0].reason == "pictures encodes no texts"


def test_models_share_a_folder(data, tmp_path):
    other = Shades("others")
    other.name = "others/1"
    measure(data, tmp_path / "out")
    measure(data, tmp_path / "out", other)
    assert {one.model for one in read_results(tmp_path / "out/results.jsonl")} == {"shades", "others/1"}


def test_a_broken_part_is_measured_again_and_another_version_s_is_an_error(data, tmp_path, caplog):
    measure(data, tmp_path / "out")
    path = part_path(tmp_path / "out", "shades", "CIFAR10", "zero_shot")
    path.write_text(path.read_text()[:-9])
    assert len(measure(data, tmp_path / "out")[2]) == 1 and "measured again" in caplog.text
    part = json.loads(path.read_text()) | {"format": 99}
    del part["digest"]  # it would not be true of that format
    path.write_text(json.dumps(part))
    with pytest.raises(ConfigError, match="another version of Diptych"):
        measure(data, tmp_path / "out")


def test_stopped_in_the_middle_nothing_is_lost(data, tmp_path):
    write_set(data, "STL10")

    def stop(encoder, card, setting):
        raise KeyboardInterrupt

    stopping = Task("stopping", lambda card: card.name == "STL10", lambda card: ("test",), stop)
    with pytest.raises(KeyboardInterrupt):
        measure(data, tmp_path / "out", cards=("CIFAR10", "STL10"), tasks=(ZERO_SHOT, stopping))
    assert {one.dataset for one in read_all(tmp_path / "out")} == {"CIFAR10", "STL10"}


def test_nothing_to_measure_and_a_missing_root_are_errors(data, tmp_path):
    with pytest.raises(ConfigError, match="none of these tasks"):
        measure(data, tmp_path / "out", cards=("Flickr30k",))
    with pytest.raises(DataError, match="there is no folder"):
        measure(tmp_path / "nowhere", tmp_path / "out")


def test_tasks_are_offered_only_where_they_can_measure():
    """Frames of the video shifts may show several classes, and RareAct's metric is of clips."""
    offered = {name: [task.name for task in TASKS.values() if task.applies(get_card(name))] for name in UNUSUAL}
    assert offered["ImageNet-Vid"] == offered["Youtube-BB"]
    assert not {"zero_shot", "video", "linear_probe"} & set(offered["ImageNet-Vid"])
    assert "robustness" in offered["ImageNet-Vid"] and offered["RareAct"] == ["video"]
    assert {"zero_shot", "video", "linear_probe"} <= set(offered["UCF101"])
