"""diptych classify: rows on stdout or in a file, what is kept when it is stopped, and how many images are broken."""

import gc
import math
from typing import TYPE_CHECKING

import typer

from diptych.cli.common import announce

if TYPE_CHECKING:
    from diptych.evaluate.classify.label_file import LabelFile
    from diptych.evaluate.classify.question import Question

_SMALL = 20  # billions of multiply-adds: a second of one thread


def run_classify_command(
    model: str, paths: list[str], question: "Question", file: "LabelFile | None", as_json: bool, device: str
) -> None:
    """Classify images whose question has been checked; status 1 where one is broken, 130 after Ctrl-C."""
    done = broken = 0
    try:
        import torch

        from diptych.embed import load
        from diptych.embed.about import about
        from diptych.evaluate.classify.pictures import classify_to_file, classify_to_stdout

        gc.freeze()  # what is imported stays: no collection goes through it

        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # starting threads, and their waiting for each other, takes longer than a small model
        encoder = load(model, device=None if device == "auto" else device)
        prompts = len(question.labels) * len(question.templates)
        if (about(encoder).gflops or math.inf) * (len(paths) + prompts) > _SMALL:
            torch.set_num_threads(threads)
        if file is None:
            batches = classify_to_stdout(encoder, paths, question, as_json=as_json)
        else:
            batches = classify_to_file(encoder, paths, file)
        for rows in batches:
            done += len(rows)
            broken += sum(row.error is not None for row in rows)
    except KeyboardInterrupt:
        if file is None:
            announce(f"stopped after {done} of {len(paths)} pictures; with --out FILE.csv the same command resumes")
        else:
            announce(f"stopped: {file.num_rows} rows are kept in {file.kept_in}; the same command resumes")
        raise
    if file is not None:
        broken = file.num_broken
        print(f"{file.path}: {file.num_rows} pictures" + (f", {broken} of them broken" if broken else ""))
    elif broken:
        announce(f"{broken} of {done} pictures are broken; their rows say why")
    if broken:
        raise typer.Exit(1)
