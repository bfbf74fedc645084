"""The validation loss of a run: pairs that are kept apart, measured on the way; a run that does not learn says so."""

import dataclasses
import json
import logging
import math
import shutil

import pytest
import torch
from training import SHORT, generated_pairs, tiny_config

from diptych.data.playground import Playground
from diptych.data.shards import write_shards
from diptych.errors import ConfigError
from diptych.records import Sample
from diptych.train import fit
from diptych.train.held_out import HeldOutPairs, Part, held_out_pairs, held_out_share, hold_out
from diptych.train.progress import ChanceWatch


class Truth:
    """An encoder whose pictures and captions are unit vectors of their numbers; `broken` ones cannot be decoded."""

    name, logit_scale = "truth", 100.0

    def __init__(self, broken: tuple[int, ...] = (), same: bool = False) -> None:
        self.broken, self.same = broken, same

    def encode_images(self, pictures, on_error):
        vectors = self.encode_texts([str(picture) for picture in pictures])
        vectors[list(self.broken)] = math.nan
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


def test_a_broken_held_out_picture_is_passed_over():
    [loss, recall] = HeldOutPairs(numbered(64))(Truth(broken=(3, 5)))
    assert (loss.n, recall.n, recall.value) == (62, 62, 1.0)


def test_what_is_held_out_is_not_trained_on():
    source = Playground(1000, size=32)
    training, validation = hold_out(source, 0.1, batch_size=32)
    keys = {item.key for index in range(len(training.shards)) for item in training.read(index)}
    held = {item.key for item in held_out_pairs(source, 0.1)}
    assert held and not keys & held
    assert len(keys) + len(held) == 1000
    assert validation.at_a_time == 32
    assert len(validation.captions) == len(held) // 32 * 32  # whole batches: the loss compares with training's


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
        assert hold_out(source, 0.01, 16) == (source, None)
    assert "no validation loss" in caplog.text
    assert hold_out(source, None, 16) == (source, None)
    assert hold_out(source, 0, 16) == (source, None)


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
