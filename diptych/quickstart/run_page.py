"""The report page of a training run: what the model learned, shown on held-out pairs.

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
from diptych.processor import num_cores
from diptych.records import Sample
from diptych.report import Confusion, Match, Pair, Retrieval, RunReport, Similarity, write_report
from diptych.train import Run, read_log
from diptych.train.held_out import HeldOutPairs
from diptych.train.inputs import open_pairs
from diptych.train.log import read_evaluations

_SHOWN, _QUERIES, _NUM_SEARCHED, _SIDE = 10, 4, 400, 160


def write_run_page(run: Run, evaluators: Sequence[ZeroShot]) -> Path:
    """Write out/report.html of a finished run: accuracies, losses, matches of held-out pairs, and how to repeat it."""
    config, validation = run.config, run.validation
    held_out: list[Pair] = []
    if isinstance(validation, HeldOutPairs):
        held_out = _pairs(zip(validation.pictures[:_NUM_SEARCHED], validation.captions, strict=False))
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    model = shlex.quote(str(run.folder / "model"))
    report = RunReport(
        title=f"{run.folder.name}: {config.num_pairs:,} pairs seen",
        results=run.results,
        chance={evaluator.benchmark.name: 1 / len(evaluator.benchmark.class_names) for evaluator in evaluators},
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
    """The parts of a report about images and captions: a similarity matrix, and nearest neighbors of a few queries."""
    pictures, captions = [pair.image for pair in pairs], [pair.caption for pair in pairs]
    texts = model.encode_texts(captions, truncate=True)
    cosines = (model.encode_images(pictures) @ texts.T).cpu().numpy()
    shown = _distinct(captions, _SHOWN)
    later = len(captions) // 10  # other pairs than those of the matrix, if there are enough
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
    """Interval of the gain from prompt ensembling, by task; only for tasks with kept predictions of both protocols."""
    gains = {evaluator.benchmark.name: evaluator.prompt_gain(run.model.name) for evaluator in evaluators}
    return {name: gain for name, gain in gains.items() if gain is not None}


def weakest_confusion(run: Run, evaluators: Sequence[ZeroShot]) -> Confusion | None:
    """Confusion matrix of the task with the lowest accuracy; None without a task."""
    accuracies = {
        result.dataset: result for result in run.results if result.metric == "accuracy"
    }  # the ensemble's is last
    measured_evaluators = [evaluator for evaluator in evaluators if evaluator.benchmark.name in accuracies]
    if not measured_evaluators:
        return None
    task = min(measured_evaluators, key=lambda evaluator: accuracies[evaluator.benchmark.name].value)
    protocol = accuracies[task.benchmark.name].protocol
    predictions = read_predictions(task.predictions_path(run.model.name, protocol))
    names = task.benchmark.class_names
    counts = confusion_matrix(predictions.labels, predictions.classes[:, 0], len(names))
    return Confusion(task.benchmark.name, names, counts)


def facts(run: Run, command: str, more: Mapping[str, str]) -> dict[str, str]:
    """Command, machine, size and time of the run, for the page's table."""
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
    """The final validation loss, with the loss of guessing."""
    values = {result.metric: result.value for result in run.results if result.task == "held_out_pairs"}
    if run.validation is None or "loss_nats" not in values:
        return {}
    chance, among = run.validation.chance_loss, run.validation.at_a_time
    return {
        "validation loss": f"{values['loss_nats']:.3f} on {len(run.validation):,} pairs that were held out; "
        f"guessing among {among} gives {chance:.3f}",
        "held-out pairs found": f"{100 * values['recall_at_1']:.1f} % of pictures and captions, each among {among}",
    }


def _validation(run: Run) -> list[tuple[float, float]]:
    """(pairs seen, loss) of every validation during and at the end of training."""
    losses = {step: result.value for step, result in read_evaluations(run.folder) if result.metric == "loss_nats"}
    return [(float(step * run.config.global_batch_size), value) for step, value in losses.items()]


def _training_pairs(run: Run) -> list[Pair]:
    """A few of the training pairs."""
    config = run.config
    source = open_pairs(config.data, config.preprocessing.image_size, config.loader.seed, config.columns)
    sound = (item for item in source.read(0) if isinstance(item, Sample) and item.texts)
    return _pairs((item.image, item.texts[0]) for item in itertools.islice(sound, 2 * _SHOWN))


def _pairs(pairs: Iterable[tuple[Any, str]]) -> list[Pair]:
    """Images and captions as the page shows them. Broken images are skipped; the run has counted them."""
    shown = []
    for image, caption in pairs:
        with contextlib.suppress(ImageError):
            shown.append(Pair(_pixels(image), caption))
    return shown


def _pixels(image: Any) -> np.ndarray:
    """The image as uint8 (height, width, 3), at most _SIDE pixels wide and high."""
    decoded = decode_image(image).convert("RGB")
    decoded.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return np.asarray(decoded)


def _distinct(captions: Sequence[str], number: int, start: int = 0) -> list[int]:
    """Indices of the first `number` different captions from `start` on."""
    chosen: dict[str, int] = {}
    for index in range(start, len(captions)):
        chosen.setdefault(captions[index], index)
    return list(chosen.values())[:number]


def _nearest(query: int, queries: list, items: list, captions: list[str], scores: np.ndarray, k: int = 5) -> Retrieval:
    """The k best items with different captions for a query. An item is right if its caption is the query's own."""
    captions_seen: set[str] = set()
    matches_found = []
    for index in np.argsort(-scores[query], kind="stable"):
        if captions[index] in captions_seen:
            continue
        captions_seen.add(captions[index])
        matches_found.append(Match(items[index], float(scores[query, index]), captions[index] == captions[query]))
        if len(matches_found) == k:
            break
    return Retrieval(queries[query], matches_found)
