"""Make the model that comes with Diptych: write the captions, train, measure, publish. One command does it all:

    python models/default/make.py ../shared/data --out runs/default              # an hour or two; --resume goes on
    python models/default/make.py ../shared/data --out runs/choice --choose      # without the last shard, tested on it

`--choose` is for decisions: it holds a twelfth of the training pictures out and never opens a test split. Without it,
all pictures are trained on, the test splits are measured once, and OUT/default is what diptych/assets/default holds.
"""

import argparse
import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from captions import all_captions, recaptioned

from diptych import Model, load
from diptych.data.open_source import open_source
from diptych.data.shards import write_shards
from diptych.evalsets.benchmark import Benchmark, open_benchmark
from diptych.evaluate import ZeroShot, read_predictions, run_record
from diptych.recipes import compact_rn
from diptych.records import Result, Sample, write_results
from diptych.train import Run, TrainConfig, fit, read_log

HERE = Path(__file__).parent
PAIRS = 2_000_000
HELD_OUT = 1  # shards of 5,000


def configure(shards: tuple[str, ...], out: Path, num_pairs: int) -> TrainConfig:
    """The run; what is not named here is the recipe compact-rn's."""
    config = compact_rn(shards, str(out), num_pairs)
    tower = dataclasses.replace(config.model.vision, layers=(1, 1, 2, 2))
    augmentation = dataclasses.replace(config.augmentation, rescale=(0.3, 1.0), colour=0.2, low_resolution=0.2)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, vision=tower), augmentation=augmentation)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of tiny-imagenet/ and cifar10/")
    parser.add_argument("--out", type=Path, required=True, help="folder for the shards, the run and the model")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="pairs to train on (%(default)s)")
    parser.add_argument("--choose", action="store_true", help="hold pictures out and measure on them alone")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    arguments = parser.parse_args()
    out, pictures = arguments.out, arguments.data / "tiny-imagenet"

    shards = caption_once(pictures, out / "shards")
    made = provenance(out)
    trained = shards[:-HELD_OUT] if arguments.choose else shards
    run = fit(configure(trained, out / "run", arguments.pairs), resume=arguments.resume)
    if not run.finished:
        raise SystemExit(f"stopped after step {run.step}; go on with the same command and --resume")
    if arguments.choose:
        sets = [held_out(pictures, shards[-HELD_OUT:], out), open_benchmark(arguments.data / "cifar10", "train")]
        publish_to = None
    else:
        sets = [open_benchmark(pictures), open_benchmark(arguments.data / "cifar10")]
        publish_to = out / "default"
        run.model.save(publish_to, precision="fp16")
    model = load(publish_to or run.folder / "model")  # what is measured is what is shipped
    evaluators = [ZeroShot(one, predictions_folder=out / "predictions") for one in sets]
    results = [result for evaluator in evaluators for result in evaluator(model)]
    (out / "results.jsonl").unlink(missing_ok=True)
    write_results(results, out / "results.jsonl")
    for line in summary(results):
        print(line)
    if publish_to:
        (publish_to / "README.md").write_text(card(run, made, model, results, evaluators), encoding="utf-8")
        print(f"the model: {publish_to}")


def caption_once(pictures: Path, folder: Path) -> tuple[str, ...]:
    """The shards with new captions, which are written if they are not there yet."""
    digest = hashlib.sha256(json.dumps(all_captions(pictures)).encode()).hexdigest()
    marker = folder / "captions.sha256"
    if not folder.exists():
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        write_shards(recaptioned(pictures), part)
        (part / marker.name).write_text(digest)
        part.rename(folder)
    elif not marker.exists() or marker.read_text() != digest:
        raise SystemExit(f"{folder} holds shards with other captions than today's: give another folder to --out")
    return open_source(str(folder)).shards


def provenance(out: Path) -> dict[str, Any]:
    """{"commits", "machine"} of the training, kept in OUT/made.json from its first minute on."""
    path = out / "made.json"
    made = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"commits": []}
    record = run_record()
    if not (out / "run" / "model").exists() and record["commit"] not in made["commits"]:
        made = {"commits": [*made["commits"], record["commit"]], "machine": record["machine"]}
        path.write_text(json.dumps(made), encoding="utf-8")
    return made


def held_out(pictures: Path, shards: tuple[str, ...], out: Path) -> Benchmark:
    """Training pictures as an evaluation set: the label is the place of the class in wnids.txt."""
    folder = out / "tiny-imagenet-held-out"
    shutil.rmtree(folder, ignore_errors=True)
    classes = (pictures / "wnids.txt").read_text(encoding="utf-8").split()

    def labelled() -> Iterator[Sample]:
        source = open_source(shards)
        for index in range(len(source.shards)):
            for sample in source.read(index):
                if isinstance(sample, Sample):
                    yield dataclasses.replace(sample, texts=(), label=classes.index(sample.metadata["wnid"]))

    write_shards(labelled(), folder / "held-out")
    for name in ("classnames.txt", "zeroshot_classification_templates.txt"):
        shutil.copy(pictures / name, folder / name)
    return open_benchmark(folder, "held-out")


def summary(results: list[Result]) -> Iterator[str]:
    """Top-1 of each set and protocol, in percent."""
    for one in results:
        if one.metric == "accuracy" and one.low is not None and one.high is not None:
            interval = f"{100 * one.low:.2f}-{100 * one.high:.2f}"
            yield f"{one.dataset}/{one.split} {one.protocol}: {100 * one.value:.2f} % ({interval})"


def card(run: Run, made: dict[str, Any], model: Model, results: list[Result], evaluators: list[ZeroShot]) -> str:
    """The model card, from card.md.j2 and what was measured."""
    template = jinja2.Template((HERE / "card.md.j2").read_text(encoding="utf-8"), undefined=jinja2.StrictUndefined)
    return template.render(
        run=run,
        made=made,
        config=json.loads((run.folder / "config.json").read_text(encoding="utf-8")),
        model=model,
        pairs=read_log(run.folder)[-1]["pairs"],
        results=[one for one in results if one.metric == "accuracy"],
        classes={evaluator.benchmark.name: by_class(evaluator, model.name) for evaluator in evaluators},
    )


def by_class(evaluator: ZeroShot, model: str) -> list[tuple[str, float, str]]:
    """Each class, best first: its name, the share that the ensemble of templates got right, the likeliest mistake."""
    found = read_predictions(evaluator.predictions_path(model, "ensemble"))
    names, rows = evaluator.benchmark.class_names, []
    for index, name in enumerate(names):
        first = found.classes[found.labels == index, 0]
        wrong = np.bincount(first[first != index], minlength=len(names))
        rows.append((name, float((first == index).mean()), names[wrong.argmax()] if wrong.any() else ""))
    return sorted(rows, key=lambda row: -row[1])


if __name__ == "__main__":
    main()
