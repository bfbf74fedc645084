"""Figure 21: random images, not selected ones, with the most probable classes and the rank of the true class.

Source: CLIP paper, figure 21: one image of each of 36 sets, the five most probable classes, the rank of the true one.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from diptych.errors import DataError, InputError
from diptych.evalsets.cards import CARDS
from diptych.evalsets.prompts import get_prompts
from diptych.evaluate.predictions import predictions_path_of, read_predictions
from diptych.paper.numbers.measured import published_cell
from diptych.records import Predictions, Result
from diptych.report.example_images import Example
from diptych.report.shown import Shown
from diptych.report.table import Cell, NumberTable

_SHOWN = 5

# Set name as in the figure, number of classes, rank of the true class, its probability in percent.
PAPER_EXAMPLES: tuple[tuple[str, int, int, float], ...] = (
    ("Food101", 101, 1, 90.15),
    ("SUN397", 397, 1, 90.22),
    ("Youtube-BB", 23, 1, 88.98),
    ("EuroSAT", 10, 4, 12.9),
    ("PatchCamelyon (PCam)", 2, 2, 22.81),
    ("ImageNet-A (Adversarial)", 200, 5, 4.18),
    ("CIFAR-10", 10, 1, 40.86),
    ("CLEVR Count", 8, 2, 17.11),
    ("Facial Emotion Recognition 2013 (FER2013)", 7, 5, 8.16),
    ("UCF101", 101, 1, 99.3),
    ("Caltech-101", 102, 1, 99.81),
    ("ImageNet-R (Rendition)", 200, 1, 76.02),
    ("Oxford-IIIT Pets", 37, 1, 99.99),
    ("CIFAR-100", 100, 1, 38.02),
    ("ImageNetV2 Matched Frequency", 1000, 1, 88.27),
    ("FGVC Aircraft", 100, 2, 9.91),
    ("Country211", 211, 5, 3.92),
    ("RESISC45", 45, 1, 96.39),
    ("Stanford Cars", 196, 1, 63.3),
    ("SUN", 723, 1, 98.63),
    ("Kinetics-700", 700, 1, 98.98),
    ("Flowers-102", 102, 1, 74.25),
    ("ImageNet", 1000, 1, 91.61),
    ("Birdsnap", 500, 4, 12.0),
    ("aYahoo", 12, 1, 97.69),
    ("ObjectNet ImageNet Overlap", 113, 1, 98.34),
    ("ImageNet Blurry", 1000, 1, 79.54),
    ("Describable Textures Dataset (DTD)", 47, 2, 20.5),
    ("PASCAL VOC 2007", 20, 1, 99.69),
    ("MNIST", 10, 1, 85.32),
    ("Street View House Numbers (SVHN)", 2000, 83, 0.27),
    ("ImageNet Vid", 30, 1, 99.77),
    ("ImageNet Sketch", 1000, 1, 79.56),
    ("Hateful Memes", 2, 1, 99.2),
    ("Stanford Sentiment Treebank", 2, 1, 78.21),
    ("German Traffic Sign Recognition Benchmark (GTSRB)", 43, 1, 45.75),
)


def draw_examples(
    dataset: str,
    predictions: Predictions,
    class_names: Sequence[str],
    *,
    count: int = 1,
    seed: int = 0,
    picture: Callable[[str], np.ndarray | None] | None = None,
) -> list[Example]:
    """Random images of one set. The same seed draws the same keys of a set, for every model.

    Args:
        dataset: name of the set.
        predictions: predictions of all its samples.
        class_names: class names by index.
        count: largest number of images; they are in the order of the draw.
        seed: seed of the draw.
        picture: maps a key to pixels, uint8 (height, width, 3), or None if there are none.
    Raises:
        DataError: a class has no name, so the names belong to another set.
    """
    largest = max(predictions.classes.max(initial=-1), predictions.labels.max(initial=-1))
    if largest >= len(class_names):
        raise DataError(
            f"{dataset}: class {largest} has no name, there are {len(class_names)}; are they another set's?"
        )
    keys = sorted(range(len(predictions.keys)), key=predictions.keys.__getitem__)
    indices = np.random.default_rng(seed).permutation(len(keys))[:count]
    return [_example(dataset, predictions, keys[place], class_names, picture) for place in indices]


def _example(
    dataset: str,
    predictions: Predictions,
    row: int,
    class_names: Sequence[str],
    picture: Callable[[str], np.ndarray | None] | None,
) -> Example:
    truth, classes = int(predictions.labels[row]), predictions.classes[row]
    (positions,) = np.nonzero(classes == truth)
    rank = int(positions[0]) + 1 if len(positions) else None
    if predictions.ranks is not None:
        rank = int(predictions.ranks[row])
    scores = predictions.scores[row]
    answers = [
        (class_names[index], float(score)) for index, score in zip(classes[:_SHOWN], scores[:_SHOWN], strict=True)
    ]
    right = rank - 1 if rank is not None and rank <= _SHOWN else None
    shown = picture(predictions.keys[row]) if picture else None
    return Example(dataset, class_names[truth], rank, answers, right, len(classes), shown)


def find_predictions(results: Iterable[Result], model: str, folder: Path) -> dict[str, Path]:
    """Files of a model's zero-shot Predictions by set name, ordered by file name.

    Args:
        results: measured Results; those of the protocol "ensemble" without condition are used.
        model: name of the model.
        folder: folder of the written Predictions.
    """
    zero_shot = [
        result for result in results if (result.model, result.task, result.protocol) == (model, "zero_shot", "ensemble")
    ]
    paths = {predictions_path_of(folder, result): result.dataset for result in zero_shot if not result.condition}
    return {paths[path]: path for path in sorted(paths) if path.is_file()}


def shown_examples(
    predictions: Mapping[str, Path],
    *,
    class_names: Mapping[str, Sequence[str]] | None = None,
    count: int = 1,
    seed: int = 0,
    picture: Callable[[str, str], np.ndarray | None] | None = None,
) -> Shown:
    """The figure, made from files of Predictions.

    Args:
        predictions: files by set name, see `find_predictions`.
        class_names: class names by set; for other sets, those of the cards are used.
        count: images per set.
        seed: seed of the draw.
        picture: maps a set name and a key to pixels, uint8 (height, width, 3), or None.
    Raises:
        DataError: a file does not contain predictions, or classes have no names.
        InputError: a set is neither in `class_names` nor in the cards.
    """
    examples: list[Example] = []
    for dataset, path in predictions.items():
        names = (class_names or {}).get(dataset) or _names(dataset)
        of_set = (lambda key, dataset=dataset: picture(dataset, key)) if picture else None
        examples += draw_examples(dataset, read_predictions(path), names, count=count, seed=seed, picture=of_set)
    first, unknown = (sum(example.rank == rank for example in examples) for rank in (1, None))
    rows: list[tuple[str, list[Cell | str]]] = [
        (example.dataset, [example.truth, _rank(example), *_likeliest(example)]) for example in examples
    ]
    columns = ["set", "true class", "its rank", "its probability, %", "likeliest class"]
    return Shown(
        f"Of {len(examples)} pictures drawn at random, {first} are given their true class",
        "Not chosen: the same seed draws the same pictures for every model. Of each picture the five likeliest classes "
        "with their probabilities.",
        [NumberTable("Examples", columns, rows), _paper_table()],
        notes=[
            f"Drawn with the seed {seed} from the keys in order.",
            *(["A rank is known as far as the likeliest classes were kept."] if unknown else []),
        ],
        examples=examples,
    )


def _names(dataset: str) -> list[str]:
    """The first name of each class."""
    card = CARDS.get(dataset)
    if card is None:
        raise InputError(f"there is no card for {dataset!r}; give the names of its classes")
    return [names[0] for names in get_prompts(card.prompts or dataset).class_names]


def _rank(example: Example) -> str:
    return str(example.rank) if example.rank is not None else f"> {example.kept}"


def _likeliest(example: Example) -> list[Cell | str]:
    place = example.right
    own = Cell(100 * example.answers[place][1], digits=2) if place is not None else Cell(None)
    return [own, example.answers[0][0]]


def _paper_table() -> NumberTable:
    rows: list[tuple[str, list[Cell | str]]] = [
        (
            name,
            [published_cell(classes, digits=0), published_cell(rank, digits=0), published_cell(probability, digits=2)],
        )
        for name, classes, rank, probability in PAPER_EXAMPLES
    ]
    return NumberTable("The paper's pictures", ["set", "classes", "rank of the truth", "its probability, %"], rows)


def paper_examples(results: Sequence[Result]) -> Shown:
    """The paper's examples. Results contain no images; `shown_examples` makes the figure of measured models."""
    first = sum(rank == 1 for *_, rank, _ in PAPER_EXAMPLES)
    within = sum(rank <= _SHOWN for *_, rank, _ in PAPER_EXAMPLES)
    return Shown(
        f"Of the paper's {len(PAPER_EXAMPLES)} pictures {first} are given their true class, and {within} have it among "
        "the first five",
        "One picture of each of 36 sets, drawn at random.",
        [_paper_table()],
        notes=["Examples of a measured model are drawn from its written predictions."] if results else [],
    )
