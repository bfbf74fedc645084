"""Make the copy detector that comes with Diptych: train, save, and write its card.

    python models/copy_detector/make.py ../shared/data --out runs/detector             # half an hour on two cores
    python models/copy_detector/make.py ../shared/data --out runs/detector --resume

OUT/copy_detector is what diptych/assets/copy_detector holds. No test split is read.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import jinja2

import diptych
from diptych.evaluate.provenance import run_record
from diptych.recipes import configure
from diptych.train import Run, fit, read_log
from diptych.train.log import read_evaluations

HERE = Path(__file__).parent
PAIRS = 204_800
TRAINED_ON = ("tiny-imagenet/train", "flickr8k/train", "products", "photos")
_ROWS = 8  # of the curve in the card


def main() -> None:
    """Train and write OUT/copy_detector."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help=f"folder of {', '.join(TRAINED_ON)}")
    parser.add_argument("--out", type=Path, required=True, help="folder for the run and the model")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="images to train on (%(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    arguments = parser.parse_args()
    data = tuple(str(arguments.data / name) for name in TRAINED_ON)
    config = configure("copy-detector", data, str(arguments.out / "run"), num_pairs=arguments.pairs, top={})
    run = fit(config, resume=arguments.resume)
    if not run.finished:
        raise SystemExit(f"stopped after step {run.step}; go on with the same command and --resume")
    publish(run, arguments.out / "copy_detector")


def publish(run: Run, folder: Path) -> None:
    """Save the model as fp16, and its card beside it."""
    run.model.save(folder, precision="fp16")
    (folder / "README.md").write_text(card(run, diptych.load(folder)), encoding="utf-8")
    print(f"the detector: {folder}")


def card(run: Run, model: Any) -> str:
    """The model card, from card.md.j2 and the run's own records."""
    template = jinja2.Template((HERE / "card.md.j2").read_text(encoding="utf-8"), undefined=jinja2.StrictUndefined)
    log = read_log(run.folder)
    validation = {step: result.value for step, result in read_evaluations(run.folder) if result.metric == "loss_nats"}
    every = max(1, math.ceil(len(log) / _ROWS))
    curve = [row for place, row in enumerate(log) if place % every == every - 1 or place == len(log) - 1]
    return template.render(
        model=model,
        run=run,
        pairs=log[-1]["pairs"],
        record=run_record(),
        config=json.loads((run.folder / "config.json").read_text(encoding="utf-8")),
        curve=[(row["pairs"], row["loss"], _latest(validation, row["step"])) for row in curve],
        held_out={result.metric: result for result in run.results},
    )


def _latest(values: dict[int, float], step: int) -> float | None:
    """The last validation loss up to a step."""
    steps = [measured for measured in values if measured <= step]
    return values[max(steps)] if steps else None


if __name__ == "__main__":
    main()
