"""diptych quickstart: train, test and report on generated pairs."""

from pathlib import Path
from typing import Annotated

from diptych.cli import parse
from diptych.cli.common import app, examples, exit_if_stopped, show
from diptych.cli.options import Fraction, Number, Option, Resume, Seed


@app.command(
    epilog=examples(
        "diptych quickstart", "diptych quickstart --pairs 40000 --out runs/short", "diptych quickstart --resume"
    )
)
def quickstart(
    out: Annotated[Path, Option(parser=parse.path, help="Folder for the model, the results and report.html.")] = Path(
        "runs/quickstart"
    ),
    pairs: Annotated[Number, Option(help="Pairs to train on; fewer pairs are faster and less accurate.")] = None,
    minutes: Annotated[
        Fraction,
        Option(help="Minutes to train; by default 3.5, with at least 60,000 and at most 120,000 pairs."),
    ] = None,
    seed: Seed = 0,
    resume: Resume = False,
) -> None:
    """Train a CLIP on generated (image, caption) pairs, test it zero-shot, and write a report page.

    It needs no data and no network: it generates images of shapes, words and handwritten digits during training.
    """
    from diptych.evaluate import zero_shot_table
    from diptych.quickstart import run_quickstart

    done = run_quickstart(out, num_pairs=pairs, minutes=minutes, seed=seed, resume=resume)
    exit_if_stopped(done.run)
    show(zero_shot_table(done.run.results, done.tasks))
    print(f"the report:  {done.report}\nthe numbers: {out / 'results.jsonl'}\nthe model:   {out / 'model'}")
