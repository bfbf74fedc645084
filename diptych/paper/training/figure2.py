"""Figure 2: the number of images that objectives need for the same zero-shot accuracy, with the same image tower.

Source: CLIP paper, section 2.3 and figure 2. The paper does not specify the losses and the class scores. Diptych's
choices (diptych.model.bag_of_words, diptych.model.caption_decoder, PredictiveZeroShot) are stated on the page.
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
from diptych.paper.training.image_efficiency import Efficiency, efficiency
from diptych.paper.training.plotted_numbers import EFFICIENCY, FIGURE_2
from diptych.paper.training.runs import Measured, all_finished, claim, doubling_steps, read_measured, train_once
from diptych.report.curves import Chart, Series
from diptych.report.display import duration, number, percent, short_number
from diptych.report.figure_page import FigurePage, write_figure
from diptych.report.paper_numbers import READ_OFF
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
    """The finished figure.

    Attributes:
        curves: measurements of each contestant, in order of pairs seen.
        ratios: for each (fast, slow), the factor by which the fast contestant needs fewer images.
        chance: accuracy of guessing, a fraction.
        picture, page, numbers: paths of figure2.svg, figure2.html, figure2.json.
    """

    curves: dict[str, list[Measured]]
    ratios: dict[tuple[str, str], Efficiency]
    chance: float
    picture: Path
    page: Path
    numbers: Path


def contestant(name: str, base: TrainConfig, out: Path) -> TrainConfig:
    """The config of one contestant: image tower, data, seeds and schedule of the base, with another text side.

    Raises:
        ConfigError: the base is not a contrastive run with a text Transformer.
    """
    text: Any = base.model.text
    base_kind = text_side_of(text), OBJECTIVES[base.objective]
    if base_kind != (TEXT_SIDES["transformer"], OBJECTIVES["contrastive"]):
        raise ConfigError(f"figure 2 begins with a contrastive run with a text Transformer, not {text}")
    tokens = {"context_length": text.context_length, "vocab_size": text.vocab_size}
    size: dict[str, Any] = {"width": text.width, "heads": text.heads, "layers": text.layers}
    sides: dict[str, TextSideConfig] = {
        DECODER: CaptionDecoderConfig(**tokens, **size),
        WORDS: WordPredictionConfig(**tokens),
        BAG: BagOfWordsConfig(**tokens, width=text.width),
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
    """Train the contestants one after another, measure each at doubling numbers of pairs, and draw the figure.

    Finished contestants are not trained again; a stopped one continues from its checkpoint.

    Args:
        base: the contrastive run with the text Transformer. num_pairs is rounded down to a multiple of the first
            measurement.
        benchmarks: labeled sets; the first template of each is used. Accuracy is over all their images together.
        out: folder of the figure; the runs are in its subfolders.
        doublings: measurements per contestant.
    Returns:
        the figure; None if SIGINT or SIGTERM stopped a run.
    Raises:
        ConfigError: too few pairs, or `out` contains a figure with other settings.
    """
    steps = doubling_steps(base.num_pairs, base.global_batch_size, doublings)
    base = dataclasses.replace(base, num_pairs=steps[-1] * base.global_batch_size)
    claim(
        out,
        {
            "steps": steps,
            "sets": {benchmark.name: [benchmark.fingerprint, *benchmark.templates[:1]] for benchmark in benchmarks},
        },
    )
    configs = {name: contestant(name, base, out) for name in FOLDERS}
    runs = [functools.partial(train_once, config, evaluators(config, benchmarks), steps) for config in configs.values()]
    if not all_finished(runs):
        return None
    curves = {name: read_measured(config.folder, config.global_batch_size) for name, config in configs.items()}
    first = curves[TRANSFORMER][-1].sets
    classes = {benchmark.name: len(benchmark.class_names) for benchmark in benchmarks}
    chance = sum(n / classes[name] for name, (_, n) in first.items()) / sum(n for _, n in first.values())
    ratios = {(fast, slow): _compared(curves[fast], curves[slow], chance) for fast, slow in COMPARED}
    numbers = out / "figure2.json"
    with writing(numbers):
        numbers.write_text(json.dumps(_numbers(curves, ratios, chance, configs), indent=2) + "\n", encoding="utf-8")
    svg_path, page = write_figure(_page(curves, ratios, chance, configs), out, "figure2")
    return Figure2(curves, ratios, chance, svg_path, page, numbers)


def evaluators(config: TrainConfig, benchmarks: Sequence[Benchmark]) -> list[Evaluator]:
    """The evaluators of a contestant, one for each set; they only use the first template of the set."""
    if OBJECTIVES[config.objective].loss is None:  # the model predicts captions
        return [PredictiveZeroShot(benchmark, num_workers=0) for benchmark in benchmarks]  # type: ignore[misc]
    return [ZeroShot(benchmark, protocols=("single",)) for benchmark in benchmarks]


def _compared(fast: list[Measured], slow: list[Measured], chance: float) -> Efficiency:
    columns = [([float(point.pairs) for point in curve], [point.accuracy for point in curve]) for curve in (fast, slow)]
    return efficiency(columns[0], columns[1], n=fast[-1].n, chance=chance)


def ratio_in_words(ratio: Efficiency) -> str:
    """Text such as "3.2 (2.6 to 4.1)"; "at least 5.0 (...)" if only a bound is known; "?" if a curve is at chance."""
    if not ratio.above_chance:
        return "?"
    bound = {">=": "at least ", "<=": "at most "}.get(ratio.bound, "")
    spread = "" if ratio.low is None or ratio.high is None else f" ({ratio.low:.1f} to {ratio.high:.1f})"
    return f"{bound}{ratio.ratio:.1f}{spread}"


def _numbers(
    curves: dict[str, list[Measured]],
    ratios: dict[tuple[str, str], Efficiency],
    chance: float,
    configs: dict[str, TrainConfig],
) -> dict[str, Any]:
    """All numbers of the figure as plain data."""
    return {
        "curves": {
            name: [
                {
                    "pairs": point.pairs,
                    "accuracy": point.accuracy,
                    "interval": point.interval,
                    "n": point.n,
                    "sets": point.sets,
                }
                for point in curve
            ]
            for name, curve in curves.items()
        },
        "chance": chance,
        "ratios": [
            {"fast": fast, "slow": slow, **dataclasses.asdict(ratio), "paper": EFFICIENCY.get((fast, slow))}
            for (fast, slow), ratio in ratios.items()
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
    own_series = [
        Series(
            name,
            [point.pairs for point in curve],
            [100 * point.accuracy for point in curve],
            [100 * point.interval[0] for point in curve],
            [100 * point.interval[1] for point in curve],
            colour=_COLOURS[name],
        )
        for name, curve in sorted(curves.items(), key=lambda item: -item[1][-1].accuracy)
    ]
    pairs = [point.pairs for point in curves[TRANSFORMER]]
    own_series.append(Series("chance", [pairs[0], pairs[-1]], [100 * chance] * 2, colour=4, form="dashed"))
    paper_series = [
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
            Chart("Here", "pictures seen", y_label, own_series, x_base=2),
            Chart("The paper: RN50, ImageNet", "pictures seen", y_label, paper_series, x_base=2),
        ],
        columns=["objective", *(short_number(count) for count in pairs), "99.5 % interval", "parameters", "training"],
        rows=[
            [
                name,
                *(percent(point.accuracy) for point in curve),
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
    for (fast, slow), ratio in ratios.items():
        if not ratio.above_chance:
            sentences.append(f"“{fast}” and “{slow}”: one ended at chance, so there is no ratio.")
            continue
        paper = f"; in the paper {EFFICIENCY[fast, slow]:g}" if (fast, slow) in EFFICIENCY else ""
        text = f"“{fast}” needs {ratio_in_words(ratio)} times fewer pictures than “{slow}” at {percent(ratio.accuracy)}"
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
