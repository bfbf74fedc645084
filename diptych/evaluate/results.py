"""From a Score to a Result, with where it comes from."""

from collections.abc import Mapping
from typing import Any

from diptych.embed.about import about
from diptych.evaluate.metrics.score import Score
from diptych.evaluate.provenance import run_record
from diptych.records import Result


def make_result(
    task: str,
    dataset: str,
    split: str,
    metric: str,
    score: Score,
    *,
    protocol: str,
    encoder: Any,
    fingerprint: str | None,
    settings: Mapping[str, Any] | None = None,
) -> Result:
    """One measured number.

    Args:
        task, dataset, split, metric, protocol: see Result.
        score: value, n and interval.
        encoder: its `name` is the result's model, its `device` part of the machine; one that tells its `gflops` takes
            part in figures against compute.
        fingerprint: of the data that was measured on.
        settings: what was chosen on the way, e.g. {"lambda": 0.3}; it lands in run["settings"].
    """
    known = about(encoder)
    run = run_record(fingerprint=fingerprint, device=known.device)
    told = dict(settings or {})
    if known.gflops:
        told["gflops"] = round(float(known.gflops), 6)
    if told:
        run["settings"] = told
    return Result(
        task=task,
        dataset=dataset,
        split=split,
        metric=metric,
        value=score.value,
        n=score.n,
        # The percentiles of a bootstrap of very few samples may lie beside the value.
        low=None if score.low is None else min(score.low, score.value),
        high=None if score.high is None else max(score.high, score.value),
        interval=score.interval,
        protocol=protocol,
        model=encoder.name,
        run=run,
    )
