"""Damaged and hostile files, made at random: each is read, or is one error of ours; nothing else comes of it.

`make test-long` gives all targets DIPTYCH_FUZZ_SECONDS together (600 if it is not set), from seed DIPTYCH_FUZZ_SEED
(the time if it is not set). The ordinary tests run a few examples of the quick ones. docs/security.md says how to
repeat a failure.
"""

import os
import sys
import time

import pytest
from fuzzing import fuzz
from targets import TARGETS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="limits are set by POSIX's means")
EXAMPLES = 30


def failures(rows, scratch, seed):
    return "\n\n".join(
        f"{row['target']}, example {row['index']} of seed {seed} ({row.get('file', scratch)}):\n{row['failure']}"
        for row in rows
        if "failure" in row
    )


def test_a_few_examples_of_each_reader(tmp_path):
    quick = [name for name, target in TARGETS.items() if not target.slow]
    rows = fuzz(quick, tmp_path, seed=1, count=EXAMPLES)
    assert not failures(rows, tmp_path, 1), failures(rows, tmp_path, 1)
    done = {row["target"]: row for row in rows if "examples" in row}
    assert list(done) == quick
    for row in done.values():
        assert row["examples"] >= EXAMPLES and 0 < row["accepted"] < row["examples"], row


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", TARGETS)
def test_many_examples(name, tmp_path):
    seconds = float(os.environ.get("DIPTYCH_FUZZ_SECONDS", "600")) / len(TARGETS)
    seed = int(os.environ.get("DIPTYCH_FUZZ_SEED", time.time()))
    rows = fuzz([name], tmp_path, seed=seed, seconds=seconds)
    print(*[row for row in rows if "examples" in row])
    assert not failures(rows, tmp_path, seed), failures(rows, tmp_path, seed)
    assert sum(row["accepted"] for row in rows if "examples" in row) > 0
