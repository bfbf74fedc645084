"""`diptych evaluate` as a plain function."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from diptych.embed.encoder import Encoder
from diptych.errors import InputError
from diptych.evalsets.benchmark import Benchmark
from diptych.evalsets.user_sets import open_set
from diptych.evaluate.zero_shot.class_vector_cache import default_cache_folder
from diptych.evaluate.zero_shot.evaluator import ZeroShot
from diptych.files import expanded
from diptych.records import Result, merge_results, read_results


def evaluate_benchmarks(
    encoder: Encoder,
    benchmarks: Sequence[str | Path | Benchmark],
    out: str | Path | None = None,
    *,
    split: str = "test",
    num_workers: int = 0,
) -> list[Result]:
    """Measure zero-shot accuracy on evaluation sets.

    Args:
        encoder: the model.
        benchmarks: the sets, or their folders (clip-benchmark/wds layout, or a folder per class).
        out: write Results into this JSON-lines file, after each set; they replace earlier Results of the same
            measurement. Predictions go into the folder `predictions` next to it. None writes nothing.
        split: the split to read from sets that are given as folders.
        num_workers: processes that decode images.
    Returns:
        The Results, set by set.
    Raises:
        InputError: no set is given, two sets have the same name and split, `out` holds results of another set with the
            same name, or a set cannot be used.
        DataError: `out` is not a file of results. Both errors are raised before anything is measured.
    """
    sets = [entry if isinstance(entry, Benchmark) else open_set(entry, split) for entry in benchmarks]
    if not sets:
        raise InputError("name at least one evaluation set")
    names = Counter(f"{benchmark.name}/{benchmark.split}" for benchmark in sets)
    if repeated := [name for name, count in names.items() if count > 1]:
        raise InputError(f"two evaluation sets are called {repeated[0]}; their results could not be told apart")
    out = None if out is None else expanded(out)
    if out is not None and out.exists():
        # Check now that `out` can be merged into; an error after the measurement would lose its results.
        _refuse_others(read_results(out), encoder.name, sets, out)
    results = []
    for benchmark in sets:
        evaluator = ZeroShot(
            benchmark,
            predictions_folder=out.parent / "predictions" if out is not None else None,
            num_workers=num_workers,
            cache_folder=default_cache_folder(),
        )
        measured = [_with_folder(result, benchmark) for result in evaluator(encoder)]
        if out is not None:
            merge_results(measured, out)
        results += measured
    return results


def _with_folder(result: Result, benchmark: Benchmark) -> Result:
    """Record the set's folder in the Result's run, which distinguishes sets with the same name."""
    if benchmark.folder is None:
        return result
    return dataclasses.replace(result, run={**result.run, "folder": str(benchmark.folder)})


def _refuse_others(rows: Sequence[Result], model: str, sets: Sequence[Benchmark], out: Path) -> None:
    """Refuse to replace the Results of another set with the same name.

    A set counts as another one if both its folder and its data differ: the images of a folder may change, and a folder
    may move.

    Raises:
        InputError: the message names both folders and says what to do.
    """
    for benchmark in sets:
        for row in rows:
            if (row.task, row.model, row.dataset, row.split) != ("zero_shot", model, benchmark.name, benchmark.split):
                continue
            folder = row.run.get("folder")  # older versions did not record it
            known = isinstance(folder, str) and benchmark.folder is not None
            if known and folder != str(benchmark.folder) and row.run.get("fingerprint") != benchmark.fingerprint:
                raise InputError(
                    f"{out} holds results of {model} on another set called {row.dataset}/{row.split}, measured in "
                    f"{folder}; those of {benchmark.folder} would replace them. Rename the folder, or write into "
                    "another folder (--out OTHER/results.jsonl; predictions go next to it); if it is the same set, "
                    "moved and changed, delete the old rows from the file"
                )
