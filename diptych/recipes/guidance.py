"""Choose a recipe for a number of pairs on this machine: a table of measured and published runs, and one function.

Nothing is extrapolated: an accuracy is that of the run named next to it. The time of a run is measured on this machine.
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from diptych.errors import ConfigError
from diptych.recipes.configure import RECIPES, configure
from diptych.recipes.paper_recipes import HIGH_RESOLUTION
from diptych.train import TrainConfig

PURPOSES: Mapping[str, str] = {
    "quickstart": "the generated pairs in minutes on a CPU",
    "playground-rn": "the generated pairs with a small version of the paper's ResNet; figures 2 and 9",
    "compact-rn": "small photographs without a GPU",
    "tiny-rn": "compact-rn's pairs with the paper's ResNet and only AdamW, for comparison",
    "tiny-vit": "compact-rn's pairs with a Vision Transformer, for comparison",
    "siglip": "compact-rn under the sigmoid loss of SigLIP",
    "RN50": "the paper's smallest ResNet; millions of pairs and GPUs",
    "RN101": "the paper's deeper ResNet; millions of pairs and GPUs",
    "RN50x4": "the paper's ResNet with 4 times the compute",
    "RN50x16": "the paper's ResNet with 16 times the compute",
    "RN50x64": "the paper's ResNet with 64 times the compute",
    "ViT-B/32": "the paper's fastest Vision Transformer; hundreds of millions of pairs",
    "ViT-B/16": "four times the patches of ViT-B/32: more accurate, and slower",
    "ViT-L/14": "the paper's largest Vision Transformer at 224 pixels",
    HIGH_RESOLUTION: "one more epoch of a trained ViT-L/14 at 336 pixels (--init)",
    "yfcc": "the ablation of appendix D: RN50 on 15 million pairs",
    "copy-detector": "finds changed copies of images, for the overlap analysis; images only, an hour on two cores",
    "copy-detector-RN50": "the paper's copy detector: 30 million images on a GPU",
    "finetune": "a trained model on your pairs (--init): a low learning rate",
    "lit": "the text tower of a trained model on your pairs (--init): the image tower is locked",
}
EPOCHS = 32  # the paper's; the shipped model saw each image 33 times
PATIENCE_DAYS = 14.0  # a run that takes longer here is not recommended
# Where the candidates change: a judgment between the known runs below; the smallest of them had 60,000 pairs.
FEWEST, MILLIONS, MANY = 10_000, 1_000_000, 100_000_000


@dataclasses.dataclass(frozen=True)
class KnownRun:
    """A run whose accuracy is known.

    Attributes:
        num_pairs: different pairs in its data.
        result: zero-shot accuracy in words, with the set that it was measured on.
        source: where the number is published.
    """

    recipe: str
    num_pairs: int
    data: str
    result: str
    source: str


_OPEN_CLIP, _SLIP = "open_clip, docs/PRETRAINED.md", "facebookresearch/SLIP, README.md"
KNOWN_RUNS = (
    KnownRun(
        "compact-rn",
        60_000,
        "Tiny ImageNet, 551,168 pairs seen in 16 minutes on two cores",
        "30.6 % of its 200 classes, 24.1 % CIFAR-10",
        "docs/results.md",
    ),
    KnownRun(
        "compact-rn",
        60_000,
        "the shipped model (its tower is deeper), 2,000,000 pairs seen in 73 minutes",
        "45.6 % of its 200 classes, 36.0 % CIFAR-10",
        "docs/results.md",
    ),
    KnownRun("RN50x4", 3_000_000, "CC3M", "22.2 % ImageNet", "open_clip, README.md"),
    KnownRun("ViT-B/16", 3_000_000, "CC3M, 40 epochs", "17.1 % ImageNet", _SLIP),
    KnownRun("RN50", 12_000_000, "CC12M", "36.45 % ImageNet", _OPEN_CLIP),
    KnownRun("RN50", 15_000_000, "YFCC15M, 32 epochs", "32.7 % ImageNet", _OPEN_CLIP),
    KnownRun("RN101", 15_000_000, "YFCC15M, 32 epochs", "34.8 % ImageNet", _OPEN_CLIP),
    KnownRun("ViT-B/16", 15_000_000, "YFCC15M, 25 epochs", "37.6 % ImageNet", _SLIP),
    KnownRun("ViT-B/32", 400_000_000, "LAION-400M", "62.96 % ImageNet", _OPEN_CLIP),
    KnownRun("ViT-B/16", 400_000_000, "LAION-400M", "67.07 % ImageNet", _OPEN_CLIP),
    KnownRun("ViT-L/14", 400_000_000, "LAION-400M", "72.77 % ImageNet", _OPEN_CLIP),
)


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A recipe that suits a number of pairs.

    Attributes:
        reason: why it suits, in words.
        known: runs on a similar number of pairs; they are no guarantee.
    """

    recipe: str
    reason: str
    known: tuple[KnownRun, ...]


@dataclasses.dataclass(frozen=True)
class Advice:
    """What to do.

    Attributes:
        recipe: to train from scratch; None if training from scratch is not recommended here.
        reason: why, in words.
        instead: alternatives to training from scratch, each with its reason.
    """

    recipe: str | None
    reason: str
    instead: tuple[str, ...]


def candidates(num_pairs: int) -> tuple[Candidate, ...]:
    """Recipes to train from scratch on `num_pairs` different pairs, the most accurate first; empty for too few pairs.

    Raises:
        ConfigError: the number is not positive.
    """
    if num_pairs < 1:
        raise ConfigError(
            f"the number of pairs is {num_pairs}; give the number of different pairs in your data, at least 1"
        )
    if num_pairs < FEWEST:
        return ()
    small = ("compact-rn", "small enough for a CPU, and the best of the small recipes that were compared")
    if num_pairs < MILLIONS:
        chosen = [small]
    elif num_pairs < MANY:
        chosen = [("RN50", "the model whose accuracy on 12 and 15 million pairs is published"), small]
    else:
        chosen = [
            ("ViT-B/16", "the most accurate of the two base models on 400 million pairs"),
            ("ViT-B/32", "the cheaper of the two base models on 400 million pairs"),
            ("RN50", "the cheapest of the paper's models with a published run from scratch"),
            small,
        ]
    return tuple(Candidate(recipe, reason, _known(recipe, num_pairs)) for recipe, reason in chosen)


def choose(num_pairs: int, seconds: Mapping[str, float | None], at_most: Collection[str] = ()) -> Advice:
    """Choose the first candidate that ends within two weeks on this machine.

    Args:
        seconds: of the whole run of each candidate's recipe, measured here; None if it could not be measured.
        at_most: recipes whose time is an upper bound.
    """
    options = candidates(num_pairs)
    if not options:
        return Advice(
            None,
            f"{num_pairs:,} pairs are too few to train from scratch: the smallest run on photographs that was "
            "measured had 60,000 images, and it knows only its 200 classes",
            _instead(num_pairs),
        )
    passed = []
    for option in options:
        needed = seconds.get(option.recipe)
        if needed is None:
            passed.append(f"{option.recipe} could not be measured here")
        elif needed > PATIENCE_DAYS * 86_400:
            words = "could take up to" if option.recipe in at_most else "would take"
            passed.append(f"{option.recipe} {words} {needed / 86_400:,.0f} days here")
        else:
            reason = "; ".join([*passed, f"{option.recipe} is {option.reason}"])
            return Advice(option.recipe, reason, _instead(num_pairs))
    reason = f"{'; '.join(passed)}: more than {PATIENCE_DAYS:g} days, or unknown. Use a faster machine or fewer passes"
    return Advice(None, reason, _instead(num_pairs))


def _instead(num_pairs: int) -> tuple[str, ...]:
    """Alternatives to training from scratch; with hundreds of millions of pairs, tuning gives no more than training."""
    published = (
        "a published model, without training: for images and words like those on the web. ViT-B/32 from 400 million "
        f"pairs reaches 62.96 % on ImageNet ({_OPEN_CLIP}); measure it on your data with diptych evaluate"
    )
    tuned = (
        "finetune, from a published model: if your images or words differ from the web's and you have labels or "
        "pairs to check with; interpolate afterwards, so that less is forgotten"
    )
    locked = "lit, from a published model: if its image features are good and only the words differ; it costs less"
    return (published, tuned, locked) if num_pairs < MANY else (published,)


def _known(recipe: str, num_pairs: int) -> tuple[KnownRun, ...]:
    """Runs of that recipe on a tenth to ten times as many pairs."""
    return tuple(run for run in KNOWN_RUNS if run.recipe == recipe and 0.1 <= run.num_pairs / num_pairs <= 10)


def recipe_rows() -> list[dict[str, Any]]:
    """Every recipe: its name, purpose, parameters, image size and batch; None for values that come from --init."""
    rows = []
    for name in RECIPES:
        row: dict[str, Any] = {"recipe": name, "for": PURPOSES[name]}
        if name in ("finetune", "lit"):
            rows.append({**row, "parameters": None, "image_size": None, "batch": _draft(name).loader.global_batch_size})
            continue
        config = _draft(name)
        size = config.preprocessing.image_size
        batch = config.loader.global_batch_size
        rows.append({**row, "parameters": config.model.num_parameters(), "image_size": size, "batch": batch})
    return rows


def _draft(name: str) -> TrainConfig:
    init = "default" if name in ("finetune", "lit", HIGH_RESOLUTION) else None
    return configure(name, ("playground:1000",), "runs/guidance", num_pairs=100_000, init=init, top={})


def measured_config(recipe: str, data: tuple[str, ...], num_pairs: int) -> TrainConfig:
    """The run to measure: 32 passes, with a vocabulary learned from the captions so that nothing else is needed.

    Args:
        data: the source of the captions' lengths; () for generated pairs.
    """
    source = data or ("playground:1000",)
    return configure(recipe, source, "runs/guidance", num_pairs=EPOCHS * num_pairs, top={"tokenizer": "train"})
