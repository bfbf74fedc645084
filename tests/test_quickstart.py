"""The main job, on a hundredth of its pairs: it leaves a model, every number, and a page."""

import re
from pathlib import Path

import pytest
from training import SHORT

from diptych.embed import load
from diptych.evalsets.playground_tasks import playground_tasks
from diptych.records import read_results


def test_a_short_quickstart_leaves_everything(command):
    outcome = command("quickstart", "--pairs", 640, "--out", "run")
    assert outcome.status == 0, outcome.err
    tasks = {task.name: len(task.class_names) for task in playground_tasks(num_samples=1)}
    accuracies = {(r.dataset, r.protocol): r for r in read_results("run/results.jsonl") if r.metric == "accuracy"}
    assert accuracies.keys() == {(name, protocol) for name in tasks for protocol in ("single", "ensemble")}
    assert all(row.low <= row.value <= row.high and row.n == 1000 for row in accuracies.values())
    assert all(f"{name}/test" in outcome.out for name in tasks)
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert "640 pairs are few" in outcome.log and "after 640 captions: it takes 60,000" in page
    assert all(words in page for words in ("Held-out colour shape", "quickstart --pairs 640 --seed 0", "</html>"))
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", page)
    assert re.search(r'class="lead"><strong>[^<]+</strong> <b><bdi>Held-out colour shape</bdi>', page)
    assert load("run/model").encode_texts(["a red star"]).norm().item() == pytest.approx(1)


def test_another_run_s_folder_is_left_alone(command):
    assert command("train", "playground:64", *SHORT, "--recipe", "tiny-rn", "--out", "mine").status == 0
    before = {path: path.read_bytes() for path in Path("mine/model").iterdir()}
    command("quickstart", "--pairs", 640, "--out", "mine").is_error("mine holds a run already", "--out")
    assert {path: path.read_bytes() for path in Path("mine/model").iterdir()} == before
