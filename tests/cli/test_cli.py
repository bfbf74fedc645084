"""The commands on good input, in this process and in others."""

import importlib.metadata
import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from colours import write_set
from embedding import make_vit
from pictures import noise
from training import SHORT, generated_pairs

from diptych.cli.common import _resuming
from diptych.data.shards import write_shards
from diptych.errors import ConfigError
from diptych.evaluate import read_predictions
from diptych.records import Sample, read_results
from diptych.train import read_log

COMMANDS = ("quickstart", "train", "evaluate", "classify")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    make_vit().save(folder)
    return folder


@pytest.fixture(scope="module")
def pairs() -> list[Sample]:
    return generated_pairs()


@pytest.fixture
def colours(tmp_path) -> Path:
    """An evaluation set of three classes."""
    return write_set(tmp_path / "colours", [0, 1, 2] * 5, class_names=("red", "green", "blue"))


# ---- help


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_examples(command, name):
    outcome = command(name, "--help")
    assert outcome.status == 0
    assert "Examples" in outcome.out and f"$ diptych {name}" in outcome.out


def test_help_lists_the_commands(command):
    outcome = command("--help")
    assert outcome.status == 0 and all(name in outcome.out for name in COMMANDS)


def test_version(command):
    outcome = command("--version")
    assert outcome.status == 0 and outcome.out == f"diptych {importlib.metadata.version('diptych')}\n"


def test_evaluate_writes_nothing_unasked_and_no_number_twice(command, model, colours, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    words = ("evaluate", model, colours, "--workers", 0)
    outcome = command(*words)
    assert outcome.status == 0 and "nothing was written; --out results.jsonl" in outcome.out
    assert [path for path in sorted(tmp_path.rglob("*")) if path not in before and "cache" not in path.parts] == []
    for _ in range(2):
        outcome = command(*words, "--out", "results.jsonl")
        assert outcome.status == 0 and "results: results.jsonl; " in outcome.out
    identities = [row.identity for row in read_results("results.jsonl")]
    assert len(identities) == len(set(identities)) == 4


@pytest.mark.parametrize(
    "words", [["fly"], ["train"], ["train", "x", "--out", "y", "--pairs", "many"], ["evaluate", "a", "--workers", "-1"]]
)
def test_wrong_usage_has_status_2(command, words):
    outcome = command(*words)
    assert outcome.status == 2 and "Traceback" not in outcome.err and outcome.err


# ---- the way through


def test_train_evaluate_classify_resume(command, colours):
    trained = command("train", "playground:200", *SHORT, "--evaluate", colours, "--out", "runs/mine")
    assert trained.status == 0, trained.err
    run = Path("runs/mine")
    assert read_log(run)[-1]["step"] == 8 and len(read_results(run / "results.jsonl")) == 4
    assert f"the model: {run / 'model'}" in trained.out and "colours/test" in trained.out

    measured = command("evaluate", run / "model", colours, "--workers", 0, "--out", "out/results.jsonl")
    assert measured.status == 0, measured.err
    results = read_results("out/results.jsonl")
    assert {(row.metric, row.protocol) for row in results} == set(
        itertools.product(("accuracy", "mean_per_class_accuracy"), ("single", "ensemble"))
    )
    assert all(row.n == 15 and row.model == "mine" for row in results)
    assert results[0].run["command"].startswith("diptych evaluate runs/mine/model")
    assert all(len(read_predictions(path).keys) == 15 for path in Path("out/predictions").rglob("*.parquet"))
    assert [row.value for row in results] == [row.value for row in read_results(run / "results.jsonl")]

    again = command("train", "playground:200", *SHORT, "--evaluate", colours, "--out", "runs/mine", "--resume")
    assert again.status == 0 and len(read_results(run / "results.jsonl")) == 4


def test_train_from_one_shard_with_more_workers_than_shards(command, pairs):
    write_shards(pairs, "shards")
    outcome = command("train", "shards/", *SHORT[:-1], 2, "--out", "run")
    assert outcome.status == 0, outcome.err
    assert read_log("run")[-1]["step"] == 8


def test_epochs_count_the_data(command, pairs):
    write_shards(pairs, "shards")
    words = ("--recipe", "quickstart", "--epochs", 1.5, "--batch-size", 32, "--workers", 0, "--out", "run")
    assert command("train", "shards/", *words).status == 0
    assert read_log("run")[-1]["pairs"] == 128  # four whole batches of 150 pairs


def test_classify_prints_a_row_per_picture(command, model, tmp_path):
    (tmp_path / "pictures").mkdir()
    for index in range(3):
        noise(60, 40, index).save(tmp_path / "pictures" / f"{index}.jpg")
    labels = ("--labels", "cat, dog,a red car", "--model", model, "--top-k", 2)
    rows = command("classify", "pictures", *labels)
    assert rows.status == 0 and len(rows.out.splitlines()) == 3
    assert all(re.fullmatch(r"pictures/\d\.jpg: .+ \d+\.\d%, .+ \d+\.\d%", row) for row in rows.out.splitlines())

    Path("labels.txt").write_text("cat\ndog\na red car\n")
    found = command("classify", "pictures", "--labels", "@labels.txt", "--model", model, "--json")
    parsed = [json.loads(line) for line in found.out.splitlines()]
    assert [row["path"] for row in parsed] == [f"pictures/{index}.jpg" for index in range(3)]
    for row in parsed:
        assert {one["label"] for one in row["classes"]} == {"cat", "dog", "a red car"} and row["error"] is None
        assert sum(one["probability"] for one in row["classes"]) == pytest.approx(1)


# ---- in a process of its own


def start(code: str, *words: object, folder: Path) -> subprocess.Popen:
    """`diptych` with these words in another process, after some code of the test's own."""
    code = f"{code}\nfrom diptych.cli import main; main()"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, words)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_an_error_is_one_line_and_the_whole_story_with_a_variable(command, monkeypatch, tmp_path):
    words = ["classify", "nowhere", "--labels", "a,b", "--model", "runs/quickstart/model"]
    process = start("", *words, folder=tmp_path)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (1, "")
    said = r"error: there is no model folder, .*'runs/quickstart/model'.*'default'.*diptych quickstart\)\n"
    assert re.fullmatch(said, err)
    monkeypatch.setenv("DIPTYCH_DEBUG", "1")
    with pytest.raises(ConfigError, match="huge"):
        command("train", "playground:9", *SHORT, "--recipe", "huge", "--out", "run")


def test_ctrl_c_ends_with_a_checkpoint_and_says_how_to_go_on(command, pairs, tmp_path):
    """Like a terminal, the signal reaches the workers too. A stranger's names reach no terminal as they are."""
    write_shards(pairs, "shards")
    with tarfile.open("shards/0.tar", "a") as archive:
        archive.addfile(tarfile.TarInfo("red\x1b[31m.jpg"))
    words = ["train", "shards/", "--recipe", "quickstart", "--pairs", 1280, "--batch-size", 32, "--workers", 1]
    words += ["--out", "run"]
    process = start("", *words, folder=tmp_path)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if Path("run/log.jsonl").exists() and read_log("run"):
            break
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    printed = re.search(r"^stopped after step \d+; resume with: diptych (.*)$", err, re.MULTILINE)
    assert shlex.split(printed[1]) == ["train", "--resume", *map(str, words[1:])]
    assert "\nwarning: skipped 0/red\N{REPLACEMENT CHARACTER}[31m in shards/0.tar: " in err and "\x1b" not in err
    (checkpoint,) = Path("run/checkpoints").iterdir()
    stopped_at = int(re.sub(r"\D", "", checkpoint.stem))
    assert stopped_at < 40 and not Path("run/model").exists()
    resumed = command(*shlex.split(printed[1]))
    assert resumed.status == 0 and f"at step {stopped_at} of 40" in resumed.log
    assert read_log("run")[-1]["step"] == 40 and Path("run/model").is_dir()


@pytest.mark.parametrize(
    ("argv", "printed"),
    [
        (["/elsewhere/bin/diptych", "train", "a b.tar"], "/elsewhere/bin/diptych train --resume 'a b.tar'"),
        (["-c", "quickstart", "--resume"], "diptych quickstart --resume"),
        (
            ["/site-packages/diptych/__main__.py", "train", "--", "x"],
            f"{sys.executable} -m diptych train --resume -- x",
        ),
    ],
)
def test_the_command_to_go_on_is_complete(monkeypatch, argv, printed):
    assert _resuming(argv) == printed
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert _resuming(argv) == "the same torchrun command with --resume"


def test_a_full_disk_is_one_line(tmp_path):
    # A limit on the size of files behaves like a full disk.
    full = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))"
    )
    words = ("train", "playground:64", *SHORT, "--checkpoint-steps", 2, "--out", "run")
    process = start(full, *words, folder=tmp_path)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 1 and "Traceback" not in err and out == ""
    assert re.search(r"^error: cannot write checkpoint run/.* MiB free there\).*--resume", err.splitlines()[-1]), err
    assert not list((tmp_path / "run").rglob("*.partial"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("words", [("--version",), ("recipes",), ("classify", "a.png", "--labels", "cat,dog")])
def test_what_cannot_be_printed_is_an_error_in_words(words, tmp_path):
    """A full disk behind `>`: one line, and no status that says all is well."""
    noise(30, 20).save(tmp_path / "a.png")
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        command = [sys.executable, "-m", "diptych", *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 1, done.stderr
    assert re.search(r"(?:^|\n)error: .*(printed|standard output).*No space left on device.*\n\Z", done.stderr), (
        done.stderr
    )
