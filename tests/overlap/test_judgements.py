"""Judgements survive whatever ends the process, and two reviewers do not disturb each other."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from diptych.errors import DataError, InputError
from diptych.overlap.choices_file import read_choices
from diptych.overlap.judgements import Pair, agreements, merge_judgements, open_judgements, read_judgements


def pair(number: int) -> Pair:
    return Pair("cifar10", f"test/{number}", f"train/{number} \u202e\ud800\n", 0.5)


def identities(*numbers: int) -> list:
    return [pair(number).identity for number in numbers]


def test_decisions_are_kept_and_undone_over_sessions(tmp_path):
    with open_judgements(tmp_path, "ada") as judgements:
        judgements.decide(pair(1), "duplicate")
        judgements.decide(pair(2), "different")
        judgements.decide(pair(1), "unsure")
        rows = judgements.path.read_text().splitlines()
        judgements.decide(pair(1), "unsure")
        assert judgements.path.read_text().splitlines() == rows and len(rows) == 3
        assert judgements.last == pair(1).identity
    assert read_judgements(tmp_path) == {"ada": dict(zip(identities(1, 2), ["unsure", "different"], strict=True))}
    with open_judgements(tmp_path, "ada") as judgements:
        assert judgements.undo() == pair(1).identity
        assert judgements.decisions == dict(zip(identities(1, 2), ["duplicate", "different"], strict=True))
        assert read_judgements(tmp_path) == {"ada": judgements.decisions}
        assert judgements.undo() == pair(2).identity
        assert judgements.undo() == pair(1).identity
        assert judgements.undo() is None and judgements.last is None
    assert read_judgements(tmp_path) == {}
    rows = [json.loads(line) for line in judgements.path.read_text().splitlines()]
    assert [row["decision"] for row in rows] == ["duplicate", "different", "unsure", "undo", "undo", "undo"]


def test_nobody_reviewed(tmp_path):
    assert read_judgements(tmp_path) == {} == read_judgements(tmp_path / "missing")


@pytest.mark.parametrize("name", ["", "../ada", "a.b", "a/b", ".", "a" * 65, "a\n", "a b"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="cannot be a reviewer's name"), open_judgements(tmp_path, name):
        pass
    assert not list(tmp_path.rglob("*.jsonl"))


def test_an_unknown_decision_is_refused(tmp_path):
    with open_judgements(tmp_path, "ada") as judgements:
        with pytest.raises(InputError, match="'undo' is no decision"):
            judgements.decide(pair(1), "undo")
        assert not judgements.decisions and not judgements.path.read_bytes()


def test_one_writer_for_each_reviewer(tmp_path):
    with open_judgements(tmp_path, "ada") as ada, open_judgements(tmp_path, "bob") as bob:
        begun = time.monotonic()
        with pytest.raises(DataError, match="ada is reviewing in another process"), open_judgements(tmp_path, "ada"):
            pass
        assert time.monotonic() - begun < 5
        ada.decide(pair(1), "duplicate")
        bob.decide(pair(1), "different")
    found = read_judgements(tmp_path)
    assert found == {"ada": {pair(1).identity: "duplicate"}, "bob": {pair(1).identity: "different"}}


def test_a_torn_last_row_is_cut_off_wherever_it_was_torn(tmp_path):
    with open_judgements(tmp_path, "ada") as judgements:
        judgements.decide(pair(1), "duplicate")
        first = judgements.path.read_bytes()
        judgements.decide(pair(2), "different")
    content = judgements.path.read_bytes()
    for size in range(len(first), len(content)):
        judgements.path.write_bytes(content[:size])
        assert read_judgements(tmp_path) == {"ada": {pair(1).identity: "duplicate"}}
        with open_judgements(tmp_path, "ada") as resumed:
            resumed.decide(pair(2), "unsure")
        assert read_judgements(tmp_path)["ada"] == {pair(1).identity: "duplicate", pair(2).identity: "unsure"}


@pytest.mark.parametrize(
    "line, reason",
    [
        ("{", "property name"),
        ("[]", "not an object"),
        ('{"dataset": "a", "key": "b", "decision": "duplicate"}', "'nearest_key' is missing"),
        ('{"dataset": "a", "key": "b", "nearest_key": 3, "decision": "duplicate"}', "must be texts"),
        ('{"dataset": "a", "key": "b", "nearest_key": "c", "decision": "yes"}', "'yes' is no decision"),
        ('{"dataset": "a", "key": "b", "nearest_key": "c", "decision": ["duplicate"]}', "is no decision"),
        ('{"dataset": "a", "key": "b", "nearest_key": "c", "decision": "undo"}', "not there"),
        ("[" * 100_000, "recursion"),
        ("", "Expecting value"),
        ("\x00" * 50, "Expecting value"),
    ],
)
def test_a_damaged_row_is_named(tmp_path, line, reason):
    with open_judgements(tmp_path, "ada") as judgements:
        judgements.decide(pair(1), "duplicate")
    whole = judgements.path.read_text()
    judgements.path.write_text(whole + line + "\n" + whole)
    with pytest.raises(DataError, match=rf"ada\.jsonl, line 2 is no judgement: .*{reason}"):
        read_judgements(tmp_path)
    with pytest.raises(DataError, match="line 2"), open_judgements(tmp_path, "ada"):
        pass
    assert judgements.path.read_text() == whole + line + "\n" + whole


WRITER = """
import sys
from diptych.overlap.judgements import Pair, open_judgements
with open_judgements(sys.argv[1], "ada") as judgements:
    for number in range(len(judgements.decisions), 10**6):
        judgements.decide(Pair("set", str(number), "near", 0.5), "duplicate")
        print(number, flush=True)
"""


def test_a_killed_process_loses_nothing_that_it_confirmed(tmp_path):
    for _ in range(3):
        before = len(read_judgements(tmp_path).get("ada", {}))
        with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) as process:
            confirmed = [int(process.stdout.readline()) for _ in range(20)]
            os.kill(process.pid, signal.SIGKILL)
            confirmed += [int(line) for line in process.stdout.read().split(b"\n")[:-1]]
        assert confirmed[0] == before
        decided = read_judgements(tmp_path)["ada"]
        assert len(decided) - confirmed[-1] - 1 in (0, 1)  # the one that was saved but not confirmed
    rows = (tmp_path / "judgements" / "ada.jsonl").read_text().splitlines()
    assert len(rows) == len(decided)


def test_a_full_disk_saves_nothing_and_says_so(tmp_path):
    resource = pytest.importorskip("resource")
    with open_judgements(tmp_path, "ada") as judgements:
        judgements.decide(pair(1), "duplicate")
        limit, size = resource.getrlimit(resource.RLIMIT_FSIZE), judgements.path.stat().st_size
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limit[1]))
        try:
            with pytest.raises(DataError, match=r"cannot write .*ada\.jsonl"):
                judgements.decide(pair(2), "duplicate")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
            signal.signal(signal.SIGXFSZ, handler)
        assert judgements.path.stat().st_size == size and pair(2).identity not in judgements.decisions
        judgements.decide(pair(3), "duplicate")
    assert list(read_judgements(tmp_path)["ada"]) == identities(1, 3)


def test_agreement_of_a_hand_solved_case():
    """10 pairs: both duplicate 4, both different 3, both unsure 1, and 2 where they differ."""
    ada = ["duplicate"] * 5 + ["different"] * 4 + ["unsure"]
    bob = ["duplicate"] * 4 + ["different"] * 4 + ["unsure"] * 2
    made = {
        "ada": dict(zip(identities(*range(10)), ada, strict=True)) | {pair(90).identity: "duplicate"},
        "bob": dict(zip(identities(*range(10)), bob, strict=True)),
        "eve": {pair(91).identity: "different"},
    }
    (found,) = agreements(made)
    assert (found.first, found.second, found.num_both, found.share) == ("ada", "bob", 10, 0.8)
    by_chance = 0.5 * 0.4 + 0.4 * 0.4 + 0.1 * 0.2
    assert found.kappa == pytest.approx((0.8 - by_chance) / (1 - by_chance))
    merged = merge_judgements(made)
    assert [merged[identity] for identity in identities(0, 4, 5, 8, 9, 90, 91)] == [
        *("duplicate", "unsure", "different", "unsure", "unsure", "duplicate", "different"),
    ]


def test_agreement_where_kappa_is_not_defined():
    made = {name: {pair(1).identity: "duplicate"} for name in ("ada", "bob")}
    (found,) = agreements(made)
    assert found.share == 1 and found.kappa is None


def test_a_third_reviewer_does_not_outvote():
    made = {"a": "duplicate", "b": "different", "c": "different"}
    assert merge_judgements({n: {pair(1).identity: d} for n, d in made.items()}) == {pair(1).identity: "unsure"}


# ---- choices made elsewhere


def test_choices_of_both_formats(tmp_path):
    (tmp_path / "c.csv").write_text("\ufeffdataset,key,nearest_key,decision,note\na,k,n,duplicate,x\na,k2,n,unsure,\n")
    (tmp_path / "t.csv").write_text("dataset,threshold\na,0.9\nb,1.01\n")
    (tmp_path / "both.jsonl").write_text(
        '{"dataset": "a", "key": "k", "nearest_key": "n", "decision": "duplicate"}\n\n'
        '{"dataset": "a", "threshold": 0.9}\n'
    )
    assert read_choices(tmp_path / "c.csv").decisions == {("a", "k", "n"): "duplicate", ("a", "k2", "n"): "unsure"}
    assert read_choices(tmp_path / "t.csv").thresholds == {"a": 0.9, "b": 1.01}
    both = read_choices(tmp_path / "both.jsonl")
    assert (both.decisions, both.thresholds) == ({("a", "k", "n"): "duplicate"}, {"a": 0.9})


@pytest.mark.parametrize(
    "name, text, reason",
    [
        ("c.csv", "dataset,key,nearest_key,decision\na,k,n,maybe\n", "line 2: decision is 'maybe'"),
        ("c.csv", "dataset,key,nearest_key,decision\na,k\n", "line 2: nearest_key is None"),
        ("c.csv", "dataset,threshold\na,high\n", "line 2"),
        ("c.csv", "dataset,threshold\na,nan\n", "line 2: threshold is 'nan'"),
        ("c.csv", 'dataset,threshold\n"a,0.5\n', "unexpected end of data"),
        ("c.csv", "dataset,threshold\n", "contains no choice"),
        ("c.csv", "dataset,threshold\na,0.5\na,0.6\n", "line 3: a is 0.6 here and 0.5 above"),
        ("c.jsonl", '{"dataset": "a", "threshold": true}\n', "line 1: threshold is True"),
        ("c.jsonl", '{"dataset": "a", "threshold": 1' + "0" * 400 + "}\n", "line 1"),
        ("c.jsonl", '{"dataset": "", "threshold": 0.5}\n', "line 1: dataset is ''"),
        ("c.jsonl", '{"dataset": "a"}\n{"x"\n', "line 1: key is None"),
        ("c.jsonl", "[1]\n", "line 1: it contains list"),
        ("c.jsonl", "\xff", "not UTF-8"),
    ],
)
def test_a_file_of_choices_that_cannot_be_used(tmp_path, name, text, reason):
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError) as caught:
        read_choices(tmp_path / name)
    assert reason in str(caught.value) and str(tmp_path / name) in str(caught.value)


def test_a_missing_file_of_choices(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*missing\.csv"):
        read_choices(tmp_path / "missing.csv")
