"""The paper's tables as they are kept here, digit by digit, also where the extracted tables are not at hand.

Each table has a digest in transcription.json: its number of cells, their sum, and the SHA-256 of its text. Where the
extracted tables are there (`../shared/paper`), other tests compare with those. A digest is written anew by

    python tests/paper/test_transcription.py

after a change that was checked against the paper itself.
"""

import csv
import hashlib
import json
from pathlib import Path

import pytest

from diptych import recipes
from diptych.evalsets.cards import CARDS
from diptych.paper.training import table12
from diptych.paper.training.plotted_numbers import EFFICIENCY, FIGURE_2, FIGURE_9
from diptych.report.paper_numbers import published

ROOT = Path(__file__).parents[2]
DIGESTS = Path(__file__).with_name("transcription.json")
ASSETS = ROOT / "diptych" / "assets"


def digest(cells):
    """Of (where, value) pairs in their order."""
    cells = [(str(where), value) for where, value in cells]
    text = "\n".join(f"{where}\t{value!r}" for where, value in cells)
    numbers = [value for _, value in cells if isinstance(value, int | float)]
    return {
        "cells": len(cells),
        "sum": round(sum(numbers), 6),
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }


def number(text):
    try:
        return float(text)
    except ValueError:
        return text


def tables():
    """By name, the (where, value) pairs of each table."""
    found = {}
    with (ASSETS / "published.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            where = f"{row['row']} | {row['column']} | {row['how']}"
            found.setdefault(f"published.csv, {row['place']}", []).append((where, number(row["value"])))
    with (ASSETS / "testbed.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            model = row.pop("model")
            found.setdefault("testbed.csv", []).extend((f"{model} | {name}", number(one)) for name, one in row.items())
    for name in ("prompts.jsonl", "imagenet_shifts.jsonl"):
        for line in (ASSETS / name).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            label = row.get("name", "source")
            found.setdefault(name, []).extend((f"{label} | {key}", json.dumps(row[key])) for key in sorted(row))
    for name in ("imagenet_wnids.txt", "imagenet_synonyms.txt"):
        lines = (ASSETS / name).read_text(encoding="utf-8").splitlines()
        found[name] = list(enumerate(line for line in lines if not line.startswith("#")))
    found["table 9"] = [
        (f"{card.name} | {name}", value)
        for card in CARDS.values()
        for name, value in zip(("train", "test", "metric"), (*(card.paper_sizes or ()), card.metric), strict=False)
        if card.paper_sizes is not None
    ]
    columns = {**table12.PAPER, "average": table12.PAPER_MEAN, "wins": table12.PAPER_WINS}
    found["table 12"] = [
        (f"{name} | {kind} {place}", value)
        for name, both in columns.items()
        for kind in ("probe", "zero_shot")
        for place, value in enumerate(getattr(both, kind))
    ]
    found["tables 18 to 20"] = [
        (f"{name} | {field}", value) for name in recipes.PAPER_LEARNING_RATES for field, value in hyper_parameters(name)
    ]
    for name, points in (("figure 2", FIGURE_2), ("figure 2, ratios", EFFICIENCY), ("figure 9", FIGURE_9)):
        found[name] = [(where, repr(value)) for where, value in points.items()]
    return found


def hyper_parameters(name):
    config = recipes.paper(name, ("pairs/",), "run", 400_000_000 * 32)
    yield "steps", config.num_steps
    yield "batch", config.global_batch_size
    yield "rate", config.optimizer.learning_rate
    yield "decay", config.optimizer.weight_decay
    yield "betas and eps", repr((config.optimizer.betas, config.optimizer.eps))
    yield "warm-up", config.schedule.warmup_steps
    yield "vocabulary", config.model.text.vocab_size
    yield "size", config.preprocessing.image_size
    yield "embedding", config.model.embed_dim
    yield "text", repr((config.model.text.width, config.model.text.layers, config.model.text.heads))
    yield "layers", repr(config.model.vision.layers)
    yield "width", config.model.vision.width


@pytest.mark.parametrize("name", json.loads(DIGESTS.read_text()) if DIGESTS.exists() else [])
def test_no_digit_has_changed(name):
    assert digest(tables()[name]) == json.loads(DIGESTS.read_text())[name]


def test_every_table_has_a_digest():
    assert set(json.loads(DIGESTS.read_text())) == set(tables())


@pytest.mark.parametrize(
    ("place", "row", "column", "value"),
    [
        # Read from the paper by hand: its headline numbers, and some cells of each table.
        ("table 11", "CLIP ViT-L/14@336px", "ImageNet", 76.2),
        ("table 11", "CLIP ViT-L/14@336px", "Food101", 93.8),
        ("table 11", "CLIP RN50", "ImageNet", 59.6),
        ("table 10", "CLIP ViT-L/14@336px", "ImageNet", 85.4),
        ("table 10", "CLIP ViT-L/14@336px", "CIFAR10", 97.9),
        ("table 10", "CLIP RN50", "Food101", 86.4),
        ("table 10", "LM RN50", "Food101", 81.3),
        ("figure 5", "zero-shot minus ResNet-50 probe", "StanfordCars", 28.9),
        ("figure 5", "zero-shot minus ResNet-50 probe", "EuroSAT", -37.1),
    ],
)
def test_cells_read_from_the_paper(place, row, column, value):
    assert published(place)[row][column] == value


def test_a_changed_digit_changes_the_digest():
    for name, cells in tables().items():
        for place in {0, len(cells) // 2, len(cells) - 1}:
            where, value = cells[place]
            other = value + 0.1 if isinstance(value, float) else value + 1 if isinstance(value, int) else f"{value}x"
            changed = [*cells[:place], (where, other), *cells[place + 1 :]]
            assert digest(changed) != digest(cells), name


if __name__ == "__main__":
    text = json.dumps({name: digest(cells) for name, cells in tables().items()}, indent=1)
    DIGESTS.write_text(text + "\n", encoding="utf-8")
