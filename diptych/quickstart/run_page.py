"""The page about a training run: what it learned, shown on pairs that it has not seen.

page = write_run_page(fit(config, evaluators), evaluators)       # runs/mine/report.html
"""

import contextlib
import itertools
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from diptych.data.decoding import decode_image
from diptych.embed.model import Model
from diptych.errors import ImageError
from diptych.evaluate import ZeroShot, confusion_matrix, read_predictions, run_record
from diptych.model.device import num_cores
from diptych.records import Sample
from diptych.report import Confusion, Match, Pair, Retrieval, RunReport, Similarity, write_report
from diptych.train import Run, read_log
from diptych.train.inputs import open_pairs
from diptych.train.log import read_evaluations

_SHOWN, _QUERIES, _POOL, _SIDE = 10, 4, 400, 160


def write_run_page(run: Run, evaluators: Sequence[ZeroShot]) -> Path:
    """Write out/report.html about a finished run: accuracies, losses, held-out pairs matched, and how to repeat it."""
    config, validation = run.config, run.validation
    held_out: list[Pair] = []
    if validation is not None:
        held_out = _pairs(zip(validation.pictures[:_POOL], validation.captions, strict=False))
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    model = shlex.quote(str(run.folder / "model"))
    report = RunReport(
        title=f"{run.folder.name}: {config.num_pairs:,} pairs seen",
        results=run.results,
        chance={one.benchmark.name: 1 / len(one.benchmark.class_names) for one in evaluators},
        headline=evaluators[0].benchmark.name if evaluators else "",
        gains=prompt_gains(run, evaluators),
        log=read_log(run.folder),
        validation=_validation(run),
        **(matches(run.model, held_out) if held_out else {}),
        confusion=weakest_confusion(run, evaluators),
        training_pairs=_training_pairs(run),
        facts=facts(run, command, _losses(run)),
        next_steps=(
            (
                f"diptych classify PICTURES --model {model} --labels 'cat,dog'",
                "name your own pictures with your own words",
            ),
            (f"diptych evaluate {model} SET --out results.jsonl", "measure it on an evaluation set"),
        ),
    )
    return write_report(report, run.folder / "report.html")


def matches(model: Model, pairs: Sequence[Pair]) -> dict[str, Any]:
    """The parts of a report that show pictures beside captions: cosines of some, and the nearest of a few."""
    pictures, captions = [pair.image for pair in pairs], [pair.caption for pair in pairs]
    texts = model.encode_texts(captions, truncate=True)
    cosines = (model.encode_images(pictures) @ texts.T).cpu().numpy()
    shown = _distinct(captions, _SHOWN)
    later = len(captions) // 10  # other pairs than those of the matrix, where there are enough
    return {
        "similarity": Similarity(
            [pictures[i] for i in shown], [captions[i] for i in shown], cosines[np.ix_(shown, shown)]
        ),
        "captions_of_pictures": [
            _nearest(i, pictures, captions, captions, cosines) for i in _distinct(captions, _QUERIES, later)
        ],
        "pictures_of_captions": [
            _nearest(i, captions, pictures, captions, cosines.T) for i in _distinct(captions, _QUERIES, 2 * later)
        ],
    }


def prompt_gains(run: Run, evaluators: Sequence[ZeroShot]) -> dict[str, tuple[float, float]]:
    """By task the interval of what ensembling prompts adds, where predictions by both protocols were kept."""
    gains = {one.benchmark.name: one.prompt_gain(run.model.name) for one in evaluators}
    return {name: gain for name, gain in gains.items() if gain is not None}


def weakest_confusion(run: Run, evaluators: Sequence[ZeroShot]) -> Confusion | None:
    """Which names the classes were given in the task with the lowest accuracy; None without a task."""
    accuracies = {one.dataset: one for one in run.results if one.metric == "accuracy"}  # the ensemble's comes last
    measured = [one for one in evaluators if one.benchmark.name in accuracies]
    if not measured:
        return None
    task = min(measured, key=lambda one: accuracies[one.benchmark.name].value)
    protocol = accuracies[task.benchmark.name].protocol
    predictions = read_predictions(task.predictions_path(run.model.name, protocol))
    names = task.benchmark.class_names
    counts = confusion_matrix(predictions.labels, predictions.classes[:, 0], len(names))
    return Confusion(task.benchmark.name, names, counts)


def facts(run: Run, command: str, more: Mapping[str, str]) -> dict[str, str]:
    """What the run was and where, for the page's table."""
    record, config = run_record(command), run.config
    return {
        "command": command,
        "commit": str(record["commit"]),
        "machine": str(record["machine"]),
        "cores": str(num_cores()),
        "threads": str(torch.get_num_threads()),
        "seconds": f"{run.seconds:.1f}",
        "parameters": str(config.model.num_parameters()),
        "pairs": f"{config.num_pairs:,}",
        **more,
        "batch size": str(config.global_batch_size),
        "seed": str(config.seed),
    }


def _losses(run: Run) -> dict[str, str]:
    """The validation loss at the end beside that of guessing."""
    values = {one.metric: one.value for one in run.results if one.task == "held_out_pairs"}
    if run.validation is None or "loss_nats" not in values:
        return {}
    chance, among = run.validation.chance_loss, run.validation.at_a_time
    return {
        "validation loss": f"{values['loss_nats']:.3f} on {len(run.validation.captions):,} pairs that were held out; "
        f"guessing among {among} gives {chance:.3f}",
        "held-out pairs found": f"{100 * values['recall_at_1']:.1f} % of pictures and captions, each among {among}",
    }


def _validation(run: Run) -> list[tuple[float, float]]:
    """(pairs seen, loss) of every measurement on the way and at the end."""
    losses = {step: found.value for step, found in read_evaluations(run.folder) if found.metric == "loss_nats"}
    return [(float(step * run.config.global_batch_size), value) for step, value in losses.items()]


def _training_pairs(run: Run) -> list[Pair]:
    """A few of the pairs that were learned from."""
    config = run.config
    source = open_pairs(config.data, config.preprocessing.image_size, config.loader.seed, config.columns)
    sound = (item for item in source.read(0) if isinstance(item, Sample) and item.texts)
    return _pairs((item.image, item.texts[0]) for item in itertools.islice(sound, 2 * _SHOWN))


def _pairs(pairs: Iterable[tuple[Any, str]]) -> list[Pair]:
    """Pictures and captions as the page shows them, without the broken ones, which the run has counted."""
    shown = []
    for picture, caption in pairs:
        with contextlib.suppress(ImageError):
            shown.append(Pair(_pixels(picture), caption))
    return shown


def _pixels(picture: Any) -> np.ndarray:
    """uint8 (height, width, 3), no larger than the page shows it."""
    image = decode_image(picture).convert("RGB")
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image)


def _distinct(captions: Sequence[str], number: int, start: int = 0) -> list[int]:
    """Indices of the first `number` different captions from `start` on."""
    chosen: dict[str, int] = {}
    for index in range(start, len(captions)):
        chosen.setdefault(captions[index], index)
    return list(chosen.values())[:number]


def _nearest(query: int, queries: list, items: list, captions: list[str], scores: np.ndarray, k: int = 5) -> Retrieval:
    """The k best different items for a query; right is an item whose caption is the query's own."""
    seen: set[str] = set()
    found = []
    for index in np.argsort(-scores[query], kind="stable"):
        if captions[index] in seen:
            continue
        seen.add(captions[index])
        found.append(Match(items[index], float(scores[query, index]), captions[index] == captions[query]))
        if len(found) == k:
            break
    return Retrieval(queries[query], found)
