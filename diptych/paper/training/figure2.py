"""Figure 2: how many pictures three objectives need, with the same image tower, for the same zero-shot accuracy.

Source: CLIP paper, section 2.3 and figure 2. What the paper leaves open is decided here and said on the page: losses
(diptych.model.bag_of_words, diptych.model.caption_decoder) and the scores of classes (PredictiveZeroShot).
"""

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diptych.embed.encoder import Evaluator
from diptych.errors import ConfigError
from diptych.evalsets.benchmark import Benchmark
from diptych.evaluate import PredictiveZeroShot, ZeroShot
from diptych.evaluate.provenance import run_record
from diptych.files import writing
from diptych.model.text_config import BagOfWordsConfig, CaptionDecoderConfig, WordPredictionConfig
from diptych.model.tower import TextSideConfig
from diptych.model.towers import TEXT_SIDES, text_side_of
from diptych.objective.objectives import OBJECTIVES
from diptych.paper.numbers.paper_numbers import READ_OFF
from diptych.paper.training.image_efficiency import Efficiency, efficiency
from diptych.paper.training.plotted_numbers import EFFICIENCY, FIGURE_2
from diptych.paper.training.runs import Measured, all_finished, claim, doubling_steps, read_measured, train_once
from diptych.report.curves import Chart, Series
from diptych.report.display import duration, number, percent, short_number
from diptych.report.figure_page import FigurePage, write_figure
from diptych.train import TrainConfig, read_log

DECODER, WORDS, BAG, TRANSFORMER = (
    *("caption, predicted", "bag of words, predicted"),
    *("bag of words, contrastive", "Transformer, contrastive"),
)
FOLDERS = {
    DECODER: "caption-predicted",
    WORDS: "bag-of-words-predicted",
    BAG: "bag-of-words-contrastive",
    TRANSFORMER: "transformer-contrastive",
}
COMPARED = ((WORDS, DECODER), (BAG, WORDS), (BAG, DECODER), (TRANSFORMER, DECODER))
DOUBLINGS = 6
_COLOURS = {DECODER: 1, WORDS: 3, BAG: 2, TRANSFORMER: 0}


@dataclasses.dataclass(frozen=True)
class Figure2:
    """What came of it.

    Attributes:
        curves: for each contestant what was measured after so many pairs.
        ratios: for each (fast, slow) how many times fewer pictures the fast one needs.
        chance: accuracy of guessing, a fraction.
        picture, page, numbers: figure2.svg, figure2.html, figure2.json.
    """

    curves: dict[str, list[Measured]]
    ratios: dict[tuple[str, str], Efficiency]
    chance: float
    picture: Path
    page: Path
    numbers: Path


def contestant(name: str, base: TrainConfig, out: Path) -> TrainConfig:
    """The run of one contestant: the base's image tower, data, seeds and schedule, with another text side.

    Raises:
        ConfigError: the base is no contrastive run with a text Transformer.
    """
    text: Any = base.model.text
    begun = text_side_of(text), OBJECTIVES[base.objective]
    if begun != (TEXT_SIDES["transformer"], OBJECTIVES["contrastive"]):
        raise ConfigError(f"figure 2 begins with a contrastive run with a text Transformer, not {text}")
    words = {"context_length": text.context_length, "vocab_size": text.vocab_size}
    size: dict[str, Any] = {"width": text.width, "heads": text.heads, "layers": text.layers}
    sides: dict[str, TextSideConfig] = {
        DECODER: CaptionDecoderConfig(**words, **size),
        WORDS: WordPredictionConfig(**words),
        BAG: BagOfWordsConfig(**words, width=text.width),
        TRANSFORMER: text,
    }
    return dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, text=sides[name]),
        objective="prediction" if name in (DECODER, WORDS) else "contrastive",
        out=str(out / FOLDERS[name]),
    )


def run_figure2(
    base: TrainConfig, benchmarks: Sequence[Benchmark], out: Path, *, doublings: int = DOUBLINGS
) -> Figure2 | None:
    """Train the contestants one after another, measure each after doubling numbers of pairs, and draw the figure.

    A finished contestant is not trained again, and one that was stopped goes on from its checkpoint.

    Args:
        base: the contrastive run with the text Transformer; num_pairs is cut to a multiple of the smallest measurement.
        benchmarks: labelled sets, with the template that all use first; accuracy is over all their pictures together.
        out: folder of the figure; the runs are in folders of it.
        doublings: measurements per contestant.
    Returns:
        the figure; None where SIGINT or SIGTERM stopped a run.
    Raises:
        ConfigError: too few pairs, or `out` holds a figure of other settings.
    """
    steps = doubling_steps(base.num_pairs, base.global_batch_size, doublings)
    base = dataclasses.replace(base, num_pairs=steps[-1] * base.global_batch_size)
    claim(out, {"steps": steps, "sets": {one.name: [one.fingerprint, *one.templates[:1]] for one in benchmarks}})
    configs = {name: contestant(name, base, out) for name in FOLDERS}
    runs = [functools.partial(train_once, one, evaluators(one, benchmarks), steps) for one in configs.values()]
    if not all_finished(runs):
        return None
    curves = {name: read_measured(config.folder, config.global_batch_size) for name, config in configs.items()}
    first = curves[TRANSFORMER][-1].sets
    classes = {one.name: len(one.class_names) for one in benchmarks}
    chance = sum(n / classes[name] for name, (_, n) in first.items()) / sum(n for _, n in first.values())
    ratios = {(fast, slow): _compared(curves[fast], curves[slow], chance) for fast, slow in COMPARED}
    numbers = out / "figure2.json"
    with writing(numbers):
        numbers.write_text(json.dumps(_numbers(curves, ratios, chance, configs), indent=2) + "\n", encoding="utf-8")
    drawn, page = write_figure(_page(curves, ratios, chance, configs), out, "figure2")
    return Figure2(curves, ratios, chance, drawn, page, numbers)


def evaluators(config: TrainConfig, benchmarks: Sequence[Benchmark]) -> list[Evaluator]:
    """What measures a contestant on each set, with the set's first template alone."""
    if OBJECTIVES[config.objective].loss is None:  # the model predicts captions
        return [PredictiveZeroShot(one, num_workers=0) for one in benchmarks]  # type: ignore[misc]
    return [ZeroShot(one, protocols=("single",)) for one in benchmarks]


def _compared(fast: list[Measured], slow: list[Measured], chance: float) -> Efficiency:
    columns = [([float(one.pairs) for one in curve], [one.accuracy for one in curve]) for curve in (fast, slow)]
    return efficiency(columns[0], columns[1], n=fast[-1].n, chance=chance)


def ratio_in_words(found: Efficiency) -> str:
    """3.2 (2.6 to 4.1), "at least 5.0 (...)" where only a bound is known, "?" where one is not above chance."""
    if not found.above_chance:
        return "?"
    bound = {">=": "at least ", "<=": "at most "}.get(found.bound, "")
    spread = "" if found.low is None or found.high is None else f" ({found.low:.1f} to {found.high:.1f})"
    return f"{bound}{found.ratio:.1f}{spread}"


def _numbers(
    curves: dict[str, list[Measured]],
    ratios: dict[tuple[str, str], Efficiency],
    chance: float,
    configs: dict[str, TrainConfig],
) -> dict[str, Any]:
    """All of it as plain data."""
    return {
        "curves": {
            name: [
                {"pairs": one.pairs, "accuracy": one.accuracy, "interval": one.interval, "n": one.n, "sets": one.sets}
                for one in curve
            ]
            for name, curve in curves.items()
        },
        "chance": chance,
        "ratios": [
            {"fast": fast, "slow": slow, **dataclasses.asdict(found), "paper": EFFICIENCY.get((fast, slow))}
            for (fast, slow), found in ratios.items()
        ],
        "seconds": {name: _seconds(config) for name, config in configs.items()},
        "parameters": {name: config.model.num_parameters() for name, config in configs.items()},
        "paper": {"source": f"CLIP paper, figure 2, {READ_OFF}", "millions_of_images_and_percent": FIGURE_2},
        "run": run_record(),
    }


def _seconds(config: TrainConfig) -> float:
    return float(read_log(config.folder)[-1]["seconds"])


def _page(
    curves: dict[str, list[Measured]],
    ratios: dict[tuple[str, str], Efficiency],
    chance: float,
    configs: dict[str, TrainConfig],
) -> FigurePage:
    ours = [
        Series(
            name,
            [one.pairs for one in curve],
            [100 * one.accuracy for one in curve],
            [100 * one.interval[0] for one in curve],
            [100 * one.interval[1] for one in curve],
            colour=_COLOURS[name],
        )
        for name, curve in sorted(curves.items(), key=lambda item: -item[1][-1].accuracy)
    ]
    pairs = [one.pairs for one in curves[TRANSFORMER]]
    ours.append(Series("chance", [pairs[0], pairs[-1]], [100 * chance] * 2, colour=4, form="dashed"))
    theirs = [
        Series(name, [1e6 * x for x, _ in points], [y for _, y in points], colour=_COLOURS[name])
        for name, points in FIGURE_2.items()
    ]
    y_label = "zero-shot accuracy, %"
    best, last, base = curves[TRANSFORMER][-1], curves[DECODER][-1], configs[TRANSFORMER]
    return FigurePage(
        title=f"{percent(best.accuracy)} after {number(best.pairs)} pairs with CLIP's objective; "
        f"{percent(last.accuracy)} where the caption is predicted word by word",
        summary="Zero-shot accuracy against pictures seen, with 99.5 % intervals, for objectives that share image "
        "tower, data, order, batch and schedule; beside it the paper's figure 2. " + _comparisons(ratios),
        charts=[
            Chart("Here", "pictures seen", y_label, ours, x_base=2),
            Chart("The paper: RN50, ImageNet", "pictures seen", y_label, theirs, x_base=2),
        ],
        columns=["objective", *(short_number(count) for count in pairs), "99.5 % interval", "parameters", "training"],
        rows=[
            [
                name,
                *(percent(one.accuracy) for one in curve),
                "–".join(percent(bound) for bound in curve[-1].interval),
                number(configs[name].model.num_parameters()),
                duration(_seconds(configs[name])),
            ]
            for name, curve in curves.items()
        ],
        notes=_NOTES,
        facts={
            **{key: str(value) for key, value in run_record().items() if value},
            "image tower": str(base.model.vision),
            "pairs, batch": f"{base.num_pairs:,} of {', '.join(base.data)}, {base.global_batch_size}",
            "sets": ", ".join(f"{name} ({n})" for name, (_, n) in curves[TRANSFORMER][-1].sets.items()),
            "seed": str(base.seed),
        },
    )


def _comparisons(ratios: dict[tuple[str, str], Efficiency]) -> str:
    sentences = []
    for (fast, slow), found in ratios.items():
        if not found.above_chance:
            sentences.append(f"“{fast}” and “{slow}”: one ended at chance, so there is no ratio.")
            continue
        paper = f"; in the paper {EFFICIENCY[fast, slow]:g}" if (fast, slow) in EFFICIENCY else ""
        text = f"“{fast}” needs {ratio_in_words(found)} times fewer pictures than “{slow}” at {percent(found.accuracy)}"
        sentences.append(f"{text}{paper}.")
    return " ".join(sentences)


_NOTES = (
    "Ratios are taken at the accuracy with which the lower curve ends, accuracy being linear between points in the "
    "logarithm of the pictures; the range in brackets redraws every point from its binomial distribution (99.5 %). "
    "One seed: it says nothing about another run.",
    "“Caption, predicted”: the picture as 4 prefix tokens of a causal Transformer of the text encoder's size; loss: "
    "mean cross-entropy over a caption's tokens; class score: log-likelihood of its prompt.",
    "“Bag of words, predicted”: one softmax over the vocabulary, target spread evenly over the caption's different "
    "words; class score: mean log-probability of the words of its name.",
    "“Bag of words, contrastive”: the mean of word vectors, projected, under the contrastive objective. “Transformer, "
    "contrastive” is CLIP; the paper's figure does not show it.",
    f"The paper's curves are {READ_OFF}, to about half a point of a percent.",
    "Each curve is one run under one cosine schedule, so its earlier points stand before the learning rate has come "
    "down. The hyper-parameters are the recipe's, chosen for the contrastive Transformer.",
)
