"""Figure 21 of measured models: random images of the measured sets, with the predictions."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diptych.data.decoding import decode_image
from diptych.errors import DataError, InputError
from diptych.evalsets.benchmark import Benchmark
from diptych.evalsets.card import Card
from diptych.evalsets.cards import CARDS
from diptych.evalsets.opening import find_folder, open_card
from diptych.evalsets.user_sets import own_cards
from diptych.paper.exhibit import Exhibit
from diptych.paper.exhibits.figure21 import find_predictions, paper_examples, shown_examples
from diptych.records import Result
from diptych.report.shown import Shown

_PER_SET = 3


def measured_examples(results: Sequence[Result], predictions: Path, data: Path | None) -> Shown | None:
    """Three images of each set in the data root, for each model; None without images.

    Args:
        results: Results of the models to show.
        predictions: the folder of written Predictions.
        data: the folder of sets, for class names and images.
    """
    if data is None or not data.is_dir():
        return None
    cards = {card.name: card for card in (*CARDS.values(), *own_cards(data))}
    shown: list[Shown] = []
    for model in sorted({result.model for result in results if result.task == "zero_shot"}):
        files = find_predictions(results, model, predictions)
        if not files:
            continue
        sets = {name: cards[name] for name in files if name in cards and find_folder(cards[name], data) is not None}
        opened = {name: opened_set for name, card in sets.items() if (opened_set := _opened(card, data)) is not None}
        made = shown_examples(
            {name: files[name] for name in opened},
            class_names={name: benchmark.class_names for name, benchmark in opened.items()},
            count=_PER_SET,
            picture=lambda name, key, opened=opened: _picture(opened[name], key),  # type: ignore[misc]
        )
        named = [dataclasses.replace(example, dataset=f"{model} on {example.dataset}") for example in made.examples]
        own, papers = made.tables
        tables = [dataclasses.replace(own, title=f"Examples: {model}"), papers]
        shown.append(
            dataclasses.replace(
                made, title=f"{model}: {made.title[0].lower()}{made.title[1:]}", examples=named, tables=tables
            )
        )
    if not any(figure.examples for figure in shown):
        return None
    return dataclasses.replace(
        shown[0],
        title="; ".join(figure.title for figure in shown),
        examples=[example for figure in shown for example in figure.examples],
        tables=[*(figure.tables[0] for figure in shown), shown[0].tables[1]],
    )


def _opened(card: Card, data: Path) -> Benchmark | None:
    try:
        return open_card(card, data)
    except DataError:  # the set has changed since the measurement
        return None


def _picture(benchmark: Benchmark, key: str) -> np.ndarray | None:
    """The image of a key; None if it does not exist any more."""
    sample = benchmark.source.get(key)
    if sample is None:
        return None
    try:
        return np.asarray(decode_image(sample.image).convert("RGB"))
    except InputError:
        return None


FIGURE_21 = Exhibit(
    "figure21",
    "Random images with the most probable classes and the rank of the true class.",
    (("zero_shot", tuple(CARDS)),),
    paper_examples,
    look=measured_examples,
)
