"""Make a Result from a Score and record where the number comes from."""

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
    condition: Mapping[str, str | int | float] | None = None,
    encoder: Any,
    fingerprint: str | None,
    settings: Mapping[str, Any] | None = None,
) -> Result:
    """Make the Result of one measured number.

    Args:
        task, dataset, split, metric, protocol, condition: see Result.
        score: value, n and interval.
        encoder: its `name` becomes the Result's model and its `device` part of the machine. If it states `gflops`, the
            Result appears in figures of accuracy against compute.
        fingerprint: fingerprint of the data that was measured on.
        settings: choices made during the measurement, e.g. {"lambda": 0.3}; stored as run["settings"].
    """
    facts = about(encoder)
    run = run_record(fingerprint=fingerprint, device=facts.device)
    recorded = dict(settings or {})
    if facts.gflops:
        recorded["gflops"] = round(float(facts.gflops), 6)
    if recorded:
        run["settings"] = recorded
    return Result(
        task=task,
        dataset=dataset,
        split=split,
        metric=metric,
        value=score.value,
        n=score.n,
        # With very few samples, the bootstrap percentiles may not contain the value.
        low=None if score.low is None else min(score.low, score.value),
        high=None if score.high is None else max(score.high, score.value),
        interval=score.interval,
        protocol=protocol,
        model=encoder.name,
        condition=condition or {},
        run=run,
    )
