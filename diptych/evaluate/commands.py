"""What `diptych evaluate` does, as a plain function."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from diptych.data.benchmarks import Benchmark, open_benchmark
from diptych.embed.encoder import Encoder
from diptych.errors import InputError
from diptych.evaluate.zero_shot.class_embeddings import default_cache_folder
from diptych.evaluate.zero_shot.evaluator import ZeroShot
from diptych.files import expanded
from diptych.records import Result, merge_results, read_results

_PICTURES_PER_BATCH = 256


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
        out: write Results into this JSON-lines file, each set's as soon as it is measured and in the place of the same
            measurement made before, and Predictions into the folder `predictions` beside it; None writes nothing.
        split: which part of the sets that are given as folders.
        num_workers: processes that decode pictures.
    Returns:
        The Results, set by set.
    Raises:
        InputError: no set is given, two have the same name and split, or one cannot be used.
        DataError: `out` holds something else than results, which is found out before anything is measured.
    """
    sets = [found if isinstance(found, Benchmark) else open_benchmark(found, split) for found in benchmarks]
    if not sets:
        raise InputError("name at least one evaluation set")
    names = Counter(f"{benchmark.name}/{benchmark.split}" for benchmark in sets)
    if twice := [name for name, count in names.items() if count > 1]:
        raise InputError(f"two evaluation sets are called {twice[0]}; their results could not be told apart")
    out = None if out is None else expanded(out)
    if out is not None and out.exists():
        read_results(out)  # what cannot be merged into is an error here: after the work, the work would be lost
    results = []
    for benchmark in sets:
        evaluator = ZeroShot(
            benchmark,
            predictions_folder=out.parent / "predictions" if out is not None else None,
            num_workers=num_workers,
            cache_folder=default_cache_folder(),
        )
        measured = evaluator(encoder)
        if out is not None:
            merge_results(measured, out)
        results += measured
    return results
