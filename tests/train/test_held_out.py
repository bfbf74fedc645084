"""The validation loss of a run: pairs that are kept apart, measured on the way; a run that does not learn says so."""

import dataclasses
import itertools
import json
import logging
import math
import shutil

import pytest
import torch
from training import SHORT, generated_pairs, tiny_config

from diptych.data.playground import Playground
from diptych.data.shards import write_shards
from diptych.data.source import Source
from diptych.errors import ConfigError, DataError
from diptych.records import Broken, Sample
from diptych.train import fit
from diptych.train.held_out import HeldOutPairs, Part, held_out_pairs, held_out_share, hold_out
from diptych.train.learning_check import ChanceWatch


class Truth:
    """An encoder whose pictures and captions are unit vectors of their numbers; `broken` ones cannot be decoded."""

    name, logit_scale = "truth", 100.0

    def __init__(self, broken: tuple[int, ...] = (), same: bool = False) -> None:
        self.broken, self.same = broken, same

    def encode_images(self, pictures, on_error):
        vectors = self.encode_texts([str(picture) for picture in pictures])
        vectors[list(self.broken), :2] = math.nan
        return vectors

    def encode_texts(self, texts, truncate=False):
        return torch.eye(64)[[0 if self.same else int(text) for text in texts]]


def numbered(number: int) -> list[Sample]:
    return [Sample(str(index), index, (str(index),)) for index in range(number)]


def values(results) -> dict[str, float]:
    return {result.metric: result.value for result in results}


def test_an_encoder_that_knows_the_truth_has_no_loss_and_one_that_knows_nothing_that_of_guessing():
    pairs = HeldOutPairs(numbered(64), at_a_time=16)
    assert values(pairs(Truth())) == {"loss_nats": pytest.approx(0, abs=1e-6), "recall_at_1": 1.0}
    assert values(pairs(Truth(same=True)))["loss_nats"] == pytest.approx(math.log(16), rel=1e-5)
    assert pairs.chance_loss == math.log(16)


def test_the_loss_and_the_recall_of_three_pairs_by_hand():
    pictures = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-0.6, -0.8]])
    captions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.96, -0.28]])

    class Fixed(Truth):
        logit_scale = 2.0

        def encode_images(self, numbers, on_error):
            return pictures[list(numbers)]

        def encode_texts(self, texts, truncate=False):
            assert truncate
            return captions[list(map(int, texts))]

    logits = [[2.0, 0.0, 1.92], [0.0, 2.0, -0.56], [-1.2, -1.6, -0.704]]  # 2 * cosine
    by_picture = [math.log(sum(map(math.exp, row))) - row[place] for place, row in enumerate(logits)]
    by_caption = [math.log(sum(map(math.exp, row))) - row[place] for place, row in enumerate(zip(*logits, strict=True))]
    [loss, recall] = HeldOutPairs(numbered(3))(Fixed())
    assert loss.value == pytest.approx((sum(by_picture) + sum(by_caption)) / 6, rel=1e-5)
    assert recall.value == pytest.approx(5 / 6)  # every picture finds its caption, caption 2 finds picture 0
    assert (loss.task, loss.dataset, loss.split, loss.n) == ("held_out_pairs", "training data", "held-out", 3)
    assert (loss.metric, recall.metric) == ("loss_nats", "recall_at_1")
    assert (recall.n, recall.protocol, recall.model) == (3, "single", "truth")


def test_a_broken_held_out_picture_is_passed_over():
    [loss, recall] = HeldOutPairs(numbered(64))(Truth(broken=(3, 5)))
    assert (loss.n, recall.n, recall.value) == (62, 62, 1.0)


def test_250_pairs_are_matched_at_a_time_unless_a_run_says_its_batch():
    assert HeldOutPairs(numbered(300)).chance_loss == math.log(250)
    assert HeldOutPairs(numbered(30)).chance_loss == math.log(30)


def held_out_config(share, batch_size):
    config = tiny_config("run", held_out=share)
    loader = dataclasses.replace(config.loader, global_batch_size=batch_size)
    return dataclasses.replace(config, loader=loader, num_pairs=10 * batch_size)


def test_what_is_held_out_is_not_trained_on():
    source = Playground(1000, size=32)
    training, validation = hold_out(source, held_out_config(0.1, 32))
    keys = {item.key for index in range(len(training.shards)) for item in training.read(index)}
    held = {item.key for item in held_out_pairs(source, 0.1)}
    assert held and not keys & held
    assert len(keys) + len(held) == 1000
    assert validation.at_a_time == 32
    assert len(validation.captions) == len(held) // 32 * 32  # whole batches: the loss compares with training's


@dataclasses.dataclass(frozen=True)
class Listed(Source):
    """A source whose shards are lists; notes which ones are read."""

    shards: tuple[tuple, ...] = ()
    fingerprint: str = "listed"
    read_ones: list[int] = dataclasses.field(default_factory=list)

    def read(self, index):
        self.read_ones.append(index)
        return iter(self.shards[index])


def held_keys(number: int, share: float = 0.5) -> list[str]:
    """So many keys that are held out, found by asking key by key."""
    asked = (f"key {index}" for index in range(10_000))
    return list(itertools.islice((key for key in asked if keys_of(Part(Listed(((one(key),),)), share, True))), number))


def keys_of(part: Part) -> list[str]:
    return [item.key for index in range(len(part.shards)) for item in part.read(index)]


def one(key: str, texts: tuple[str, ...] = ("a caption",)) -> Sample:
    return Sample(key, 0, texts)


def taken(shards: list[list[str]], limit: int) -> tuple[list[str], list[int]]:
    """Keys that are held out of shards of such keys, and the shards that were read."""
    source = Listed(tuple(tuple(map(one, keys)) for keys in shards))
    return [sample.key for sample in held_out_pairs(source, 0.5, limit)], source.read_ones


def test_the_same_number_is_taken_from_each_shard_and_the_rest_where_one_has_too_few():
    keys = held_keys(30)
    first, second, third = keys[:10], keys[10:20], keys[20:]
    assert taken([first, second, third], 12)[0] == first[:4] + second[:4] + third[:4]
    assert taken([first, second, third], 10)[0] == first[:4] + second[:4] + third[:2]  # rounded up, then cut
    assert taken([first[:1], second, third], 12)[0] == first[:1] + second[:4] + third[:4] + second[4:7]
    assert taken([first, [], []], 12)[0] == first
    assert len(taken([first, second, third], 1000)[0]) == 30


def test_sixteen_shards_are_read_over_all_and_others_only_where_those_hold_too_few():
    keys = held_keys(64)
    spread = [number * 32 // 16 for number in range(16)]  # 0, 2, 4, ... 30
    full = [keys[2 * index : 2 * index + 2] for index in range(32)]
    assert taken(full, 32) == ([key for index in spread for key in full[index]], spread)
    alternate = [shard if index % 2 else shard[:1] for index, shard in enumerate(full)]
    found, read = taken(alternate, 20)
    assert read == [*spread, 1, 3]  # one pair each of sixteen, and two each of two more
    assert found == [full[index][0] for index in spread] + full[1] + full[3]


def test_samples_without_a_caption_are_not_held_out_and_one_pair_is_too_few():
    keys = held_keys(3)
    bare = Listed(((one(keys[0], ()), one(keys[1]), one(keys[2])),))
    assert [sample.key for sample in held_out_pairs(bare, 0.5)] == keys[1:]
    with pytest.raises(DataError, match="1 pairs are held out"):
        held_out_pairs(Listed(((one(keys[0]),),)), 0.5)


def test_the_two_sides_of_a_cut_make_up_the_whole_in_their_share():
    keys = [f"key {index}" for index in range(10_000)]
    source = Listed((tuple(map(one, keys[:5000])), (*map(one, keys[5000:]), Broken("broken", "shard", "torn"))))
    held, kept = (Part(source, 0.1, side) for side in (True, False))
    assert abs(len(keys_of(held)) - 1000) < 5 * math.sqrt(10_000 * 0.1 * 0.9)  # five standard deviations
    assert "broken" in keys_of(kept)  # where the training meets it
    assert sorted([*keys_of(held), *keys_of(kept)]) == sorted([*keys, "broken"])
    assert set(keys_of(Part(source, 0.05, True))) < set(keys_of(held))  # a smaller share is a part of a larger one
    prints = {part.fingerprint for part in (held, kept, Part(source, 0.2, True))} | {source.fingerprint}
    assert len(prints) == 4
    odd = Part(Listed(((one("\udcff"),),)), 0.5, True), Part(Listed(((one("\udcff"),),)), 0.5, False)
    assert [*keys_of(odd[0]), *keys_of(odd[1])] == ["\udcff"]  # a file name that is no text
    other = dataclasses.replace(source, fingerprint="other")
    assert Part(other, 0.1, True).fingerprint not in prints
    for share in (0, 1, -0.5, math.nan):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            Part(source, share, True)


def test_fewer_than_twenty_pairs_are_trained_on():
    for number in (19, 20):
        source = Listed((tuple(map(one, held_keys(number))),))
        training, validation = hold_out(source, held_out_config(0.5, 16))
        assert (validation is None) == (number == 19)
        assert (training is source) == (number == 19)
    assert len(validation.captions) == 16
    assert len(hold_out(source, held_out_config(0.5, 64))[1].captions) == 20  # one batch of all


def test_of_many_shards_few_are_read(monkeypatch):
    read = []
    monkeypatch.setattr(Part, "read", lambda self, index: read.append(index) or iter(numbered(64)))
    many = dataclasses.make_dataclass("Many", ["shards"])(["shard"] * 1000)
    assert len(held_out_pairs(many, 0.01)) == 1000
    assert len(read) <= 16
    assert max(read) > 900  # spread over all of them


def test_little_data_is_trained_on_whole(caplog):
    source = Playground(100, size=32)
    with caplog.at_level(logging.INFO):
        assert hold_out(source, held_out_config(0.01, 16)) == (source, None)
    assert "no validation loss" in caplog.text
    assert hold_out(source, held_out_config(None, 16)) == (source, None)
    assert hold_out(source, held_out_config(0, 16)) == (source, None)


@pytest.mark.parametrize("share", [-0.1, 0.6, math.nan])
def test_an_absurd_share_is_refused(tmp_path, share):
    with pytest.raises(ConfigError, match="held_out"):
        tiny_config(tmp_path, held_out=share)


def test_a_run_measures_its_validation_loss_ten_times_and_the_same_after_a_resume(tmp_path):
    whole = fit(tiny_config(tmp_path / "whole", held_out=0.2))
    rows = [json.loads(line) for line in (tmp_path / "whole" / "evaluations.jsonl").read_text().splitlines()]
    losses = {row["step"]: row["value"] for row in rows if row["metric"] == "loss_nats"}
    assert list(losses) == list(range(1, 13))
    assert losses[12] == values(whole.results)["loss_nats"]
    # As if it had been killed after update 8.
    shutil.rmtree(tmp_path / "whole" / "model")
    max((tmp_path / "whole" / "checkpoints").iterdir()).unlink()
    again = fit(tiny_config(tmp_path / "whole", held_out=0.2), resume=True)
    repeated = [json.loads(line) for line in (tmp_path / "whole" / "evaluations.jsonl").read_text().splitlines()]
    assert (again.step, repeated) == (12, rows)
    with pytest.raises(ConfigError, match="held_out"):
        fit(tiny_config(tmp_path / "whole", held_out=0.1), resume=True)


def test_the_share_is_that_of_the_run_that_is_resumed(tmp_path):
    assert held_out_share(None, tmp_path, resume=False) == 0.01
    assert held_out_share(0.0, tmp_path, resume=True) == 0.0
    assert held_out_share(None, tmp_path, resume=True) is None  # a run of an earlier version
    (tmp_path / "config.json").write_text(json.dumps({"held_out": 0.2}))
    assert held_out_share(None, tmp_path, resume=True) == 0.2
    for damaged in ("true", '"much"', "[]"):
        (tmp_path / "config.json").write_text(f'{{"held_out": {damaged}}}')
        with pytest.raises(DataError, match="held_out is"):
            held_out_share(None, tmp_path, resume=True)
    assert held_out_share(None, tmp_path, resume=False) == 0.01


# ---- a run that does not learn


def watched(caplog, losses, **changes) -> str:
    watch = ChanceWatch(tiny_config("out", num_steps=1000, **changes))
    caplog.clear()
    for number, loss in enumerate(losses):
        watch.add(10 * (number + 1), loss)
    return caplog.text


def test_a_loss_that_stays_at_that_of_guessing_is_said_once(caplog):
    text = watched(caplog, [math.log(16)] * 50)
    assert text.count("that of guessing") == 1
    assert "after 100 updates" in text


@pytest.mark.parametrize("losses", [[2.77 - 0.02 * step for step in range(50)], [math.log(16)] * 9, [5.0] * 50])
def test_a_run_that_learns_or_has_only_begun_is_not_warned_about(caplog, losses):
    assert not watched(caplog, losses)


def test_captions_that_belong_to_other_pictures_are_noticed_in_a_real_run(tmp_path, caplog):
    pairs = generated_pairs(100)
    shifted = [dataclasses.replace(one, texts=("the same text",)) for one in pairs]
    write_shards(shifted, tmp_path / "pairs", shard_size=100)
    fit(tiny_config(tmp_path / "run", num_steps=110, data=(str(tmp_path / "pairs"),), checkpoint=no_checkpoints()))
    assert "that of guessing" in caplog.text


def no_checkpoints():
    from diptych.train import CheckpointConfig

    return CheckpointConfig(every_steps=10_000, every_minutes=60.0)


# ---- the page


def test_every_run_leaves_a_page(command, tmp_path):
    often = ("--set", "log_steps=2")
    done = command("train", "playground:400", *SHORT, *often, "--out", "run", "--held-out", 0.2)
    assert done.status == 0, done.err
    assert "the report: run/report.html" in done.out
    page = (tmp_path / "run" / "report.html").read_text()
    assert "validation loss" in page.lower()
    assert 'class="held-out"' in page
    assert "diptych train playground:400" in page
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["held_out"] == 0.2
    again = command("train", "playground:400", *SHORT, *often, "--out", "run", "--resume")
    assert again.status == 0, again.err
