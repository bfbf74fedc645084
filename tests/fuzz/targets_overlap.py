"""Files of the overlap analysis that come from other people: judgements, choices, verdicts, the folder's options."""

import io
import json
import math
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from known_images import Knows, config, sample, write_set
from mutations import odd_value
from target import Seed, Target

from diptych.data.exclusions import read_exclusions
from diptych.data.shards import write_shards
from diptych.errors import DataError
from diptych.overlap.choices_file import read_choices
from diptych.overlap.detector import Detector
from diptych.overlap.duplicates_file import COLUMNS, SetNearest, read_duplicates, write_duplicates
from diptych.overlap.find import OPTIONS_FILE, find_overlap
from diptych.overlap.judgements import DECISIONS, agreements, merge_judgements, open_judgements, read_judgements
from diptych.overlap.overlap_analysis import run_overlap
from diptych.overlap.review_folder import ReviewFolder, judged_thresholds, pairs_of

NEAREST = [
    SetNearest(name, tuple(map(str, range(9))), tuple(f"train/{at}" for at in range(9)), np.linspace(0.1, 0.9, 9))
    for name in ("birds", 'a "set", of\ncars')
]
PAIRS = [pair for nearest in NEAREST for pair in pairs_of(nearest)]


def row(place: int, decision: str, **more: Any) -> dict[str, Any]:
    """A judgement about one of the pairs."""
    dataset, key, nearest_key = PAIRS[place].identity
    return {"dataset": dataset, "key": key, "nearest_key": nearest_key, **more, "decision": decision}


def lines(rows: list[dict[str, Any]]) -> bytes:
    """JSON lines."""
    return "".join(json.dumps(one) + "\n" for one in rows).encode()


# ---- judgements/REVIEWER.jsonl

JUDGED = [row(place, DECISIONS[place % 3], score=place / 20) for place in range(len(PAIRS))]


def judgement_seeds(folder: Path) -> list[Seed]:
    """Decisions, one changed, some taken back, a torn last row; many that are taken back."""
    (folder / "judgements").mkdir()
    (folder / "judgements" / "bob.jsonl").write_bytes(lines(JUDGED[::-1]))
    again = [*JUDGED, row(3, "unsure"), row(3, "undo"), row(5, "undo")]
    turns = lines([row(0, "duplicate"), row(0, "different")]) * 10_000
    texts = [lines(again), b"", lines(again)[:-30], turns + lines([row(0, "undo")]) * 20_000]
    odd = [lines([row(0, "undo")]), b"[" * 100_000 + b"\n", b"\n\n", lines(JUDGED).replace(b"0.1", b"1" * 5000)]
    return [Seed("judgements/ann.jsonl", text) for text in texts] + [
        Seed("judgements/ann.jsonl", text, sound=False) for text in odd
    ]


def random_judgements(rng: random.Random) -> Seed:
    """Rows with odd values."""
    rows = [dict(rng.choice(JUDGED)) for _ in range(rng.randrange(1, 9))]
    for _ in range(rng.randrange(3)):
        one = rng.choice(rows)
        one[rng.choice([*one])] = rng.choice([odd_value(rng), "undo"])
    return Seed("judgements/ann.jsonl", lines(rows), sound=False)


def check_judgements(path: Path) -> None:
    """What is read decides, agrees with what another reviewer decided, and can be gone on with."""
    folder = path.parent.parent
    read = read_judgements(folder)
    assert {decision for decisions in read.values() for decision in decisions.values()} <= {*DECISIONS}
    assert all(isinstance(name, str) for decisions in read.values() for names in decisions for name in names)
    merge_judgements(read)
    assert all(0 <= one.share <= 1 and (one.kappa is None or one.kappa <= 1) for one in agreements(read))
    assert all(math.isfinite(one.value) for one in judged_thresholds(folder, NEAREST, "cosine").values())
    with open_judgements(folder, "ann") as judgements:
        assert judgements.decisions == read.get("ann", {})
        judgements.decide(PAIRS[0], "duplicate")
        judgements.undo()
    assert "ann" not in read or judgements.last is None or judgements.last in read["ann"]


# ---- choices that were made elsewhere


def choice_seeds(folder: Path) -> list[Seed]:
    """Decisions and thresholds, in both formats."""
    chosen = [{"dataset": "birds", "threshold": 0.5}, *JUDGED]
    table = "dataset,key,nearest_key,decision\n" + "".join(f"birds,{at},train/{at},duplicate\n" for at in range(9))
    names = '\ufeffdataset,threshold\nbirds,0.5\n"a ""set"", of\ncars",1e-3\n'
    odd = ["dataset,threshold\nbirds,nan\n", "dataset,threshold\nbirds\n", "dataset,dataset,threshold\nbirds,,0.5,,\n"]
    odd += ["", "\0", f'dataset,threshold\n"{"a" * 200_000}",0.5\n', f"dataset,threshold\nbirds,{'9' * 5000}\n"]
    return [
        Seed("choices.jsonl", lines(chosen)),
        Seed("choices.csv", table.encode()),
        Seed("choices.csv", names.encode()),
        *(Seed("choices.csv", text.encode(), sound=False) for text in odd),
        Seed("choices.jsonl", b'{"dataset": "birds", "threshold": ' + b"9" * 4000 + b"}\n", sound=False),
    ]


def random_choices(rng: random.Random) -> Seed:
    """Rows with odd values."""
    rows: list[dict[str, Any]] = [dict(rng.choice(JUDGED)) for _ in range(rng.randrange(1, 6))]
    rows += [{"dataset": "birds", "threshold": rng.choice([0.5, odd_value(rng)])}]
    one = rng.choice(rows)
    one[rng.choice([*one, "threshold"])] = odd_value(rng)
    if rng.random() < 0.5:
        return Seed("choices.jsonl", lines(rows), sound=False)
    names = rng.sample(["dataset", "key", "nearest_key", "decision", "threshold"], k=rng.randrange(1, 6))
    cells = [[str(row.get(name, "")) for name in names] for row in rows]
    text = "\n".join(rng.choice([",", ",", ", ", '","', ";"]).join(line) for line in [names, *cells])
    return Seed("choices.csv", text.encode("utf-8", "surrogatepass"), sound=False)


def check_choices(path: Path) -> None:
    """Decisions and thresholds of the right types, from which thresholds follow."""
    choices = read_choices(path)
    assert choices.decisions or choices.thresholds
    assert {*choices.decisions.values()} <= {*DECISIONS}
    assert all(isinstance(name, str) and name for names in choices.decisions for name in names)
    assert all(isinstance(name, str) and math.isfinite(value) for name, value in choices.thresholds.items())
    for dataset, threshold in judged_thresholds(path.parent, NEAREST, "cosine", path).items():
        assert math.isfinite(threshold.value) and dataset in {nearest.dataset for nearest in NEAREST}


# ---- duplicates.parquet


def duplicate_seeds(folder: Path) -> list[Seed]:
    """As written, empty, with equal rows; a name for each of many rows, and more rows than are read."""
    made, seeds = folder / "made.parquet", []
    for sets in (NEAREST, []):
        write_duplicates(sets, dict.fromkeys([nearest.dataset for nearest in NEAREST], 0.5), made, "the data")
        seeds.append(Seed("duplicates.parquet", made.read_bytes()))
    many = 50_000
    usual = {"score": [0.5] * many, "verdict": ["clean"] * many}
    names = [str(at) for at in range(many)]
    equal = parquet({name: usual.get(name, ["a"] * many) for name in COLUMNS})
    several = parquet({name: usual.get(name, names) for name in COLUMNS})
    bomb = parquet({name: np.zeros(3_000_000, np.int8) for name in COLUMNS})
    seeds += [Seed("duplicates.parquet", data) for data in (equal, several)]
    return [*seeds, Seed("duplicates.parquet", bomb, sound=False)]


def parquet(columns: dict[str, Any]) -> bytes:
    """A Parquet file."""
    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream)
    return stream.getvalue()


def random_duplicates(rng: random.Random) -> Seed:
    """Columns of other types, missing, or with missing values."""
    count = rng.choice([0, 1, 5])
    usual = {"score": 0.5, "verdict": "overlap"}
    columns = {name: [usual.get(name, f"{name} {at % 2}") for at in range(count)] for name in COLUMNS}
    name = rng.choice(COLUMNS)
    values = [odd_value(rng) for _ in range(count)]
    columns[name] = rng.choice([values, values[:1] * count, [None] * count, [b"a\xff"] * count, [{"key": "a"}] * count])
    if rng.random() < 0.1:
        del columns[rng.choice(COLUMNS)]
    try:
        return Seed("duplicates.parquet", parquet(columns), sound=False)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):  # values of several types, or that fit in none
        return Seed("duplicates.parquet", parquet({**columns, name: ["\0"] * count}), sound=False)


def check_duplicates(path: Path) -> None:
    """Rows of one length and of the right types; what is overlapping is excluded."""
    read = read_duplicates(path)
    for nearest in read.sets:
        overlaps = read.overlaps[nearest.dataset]
        assert len(nearest.keys) == len(nearest.nearest_keys) == len(nearest.scores) == len(overlaps) > 0
        assert isinstance(nearest.dataset, str) and np.isfinite(nearest.scores).all() and overlaps.dtype == bool
        assert all(isinstance(pair.key, str) and isinstance(pair.nearest_key, str) for pair in pairs_of(nearest))
    try:
        assert read_exclusions(path) == (read.training_keys(), read.training_data)
    except DataError:  # a column train_key, too
        assert "train_key" in pq.read_schema(path).names


# ---- overlap.json


def option_seeds(folder: Path) -> list[Seed]:
    """As an analysis of a few images writes it."""
    write_shards(map(sample, range(20)), folder / "train", 10)
    write_set(folder / "shared", range(15, 25))
    run_overlap(config(folder, "shared", out=str(folder / "whole")), threshold=0.9, detector=Detector(Knows()))
    data = (folder / "whole" / OPTIONS_FILE).read_bytes()
    content = json.loads(data)
    odd: list[Any] = [[], {**content, "options": []}, {**content, "sets": "shared"}, {**content, "sets": {}}]
    for name in ("a" * 5000, "a\0/b"):
        odd += [{**content, "train": [name]}, {**content, "sets": {"shared": name}}]
    sound = [Seed(OPTIONS_FILE, data)] * len(odd)  # what is damaged further is mostly sound
    return [*sound, *(Seed(OPTIONS_FILE, json.dumps(one).encode(), sound=False) for one in odd)]


def check_options(path: Path) -> None:
    """Images are shown to a reviewer, and the analysis goes on; either may be refused."""
    made, out = path.parent, path.parent / "out"
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(made / "whole", out)
    shutil.copy(path, out / OPTIONS_FILE)
    refused = []
    for read in (review, go_on):
        try:
            read(made, out)
        except DataError as error:
            refused.append(error)
    if refused:
        raise refused[0]


def review(folder: Path, out: Path) -> None:
    """What a reviewer sees."""
    data = ReviewFolder(out)
    for dataset in data.datasets:
        for pair in data.pairs(dataset)[::5]:
            data.image("evaluation", dataset, pair.key)
            data.image("training", dataset, pair.nearest_key)


def go_on(folder: Path, out: Path) -> None:
    """The same verdicts as before."""
    found = find_overlap(config(folder, "shared", out=str(out)), Detector(Knows()))
    assert found.sets[0].nearest.overlaps(0.9).sum() == 5


OVERLAP = (
    Target("judgements", judgement_seeds, check_judgements, random_judgements),
    Target("choices", choice_seeds, check_choices, random_choices),
    Target("duplicates", duplicate_seeds, check_duplicates, random_duplicates),
    Target("overlap", option_seeds, check_options),
)
