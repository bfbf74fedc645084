"""The threshold of each evaluation set: judged by a person, given, or provisional."""

import dataclasses
from collections.abc import Iterable, Mapping

from diptych.errors import ConfigError
from diptych.overlap.detection_error import Rate
from diptych.overlap.duplicates_file import EXACT_CHECK
from diptych.overlap.exact_check import LEAST_COPY_SCORE

# The default's lies between its thresholds of 99 % (0.85) and of 99.9 % precision (0.96) among 1,200 photographs
# (docs/copy_detectors.md): the best of more training images scores higher. The hashes' are of their documentation.
PROVISIONAL = {"default": 0.92, "pdq": 0.758, "phash": 0.6875, EXACT_CHECK: LEAST_COPY_SCORE}
GIVEN, JUDGED, UNJUDGED = "given", "judged", "provisional"


@dataclasses.dataclass(frozen=True)
class Threshold:
    """From which score on an evaluation image counts as overlap.

    Attributes:
        value: the score.
        origin: "judged" by a person, "given" by the user, or "provisional".
        precision, recall: of the verdicts, if pairs were judged.
        num_judged: judged pairs.
    """

    value: float
    origin: str
    precision: Rate | None = None
    recall: Rate | None = None
    num_judged: int = 0


def choose_thresholds(
    datasets: Iterable[str],
    detector: str,
    *,
    given: float | Mapping[str, float] | None = None,
    judged: Mapping[str, Threshold] | None = None,
) -> dict[str, Threshold]:
    """The threshold of each set: the given one, else the judged one, else the detector's provisional one.

    Args:
        datasets: names of the sets.
        detector: its name for `load_detector`, or EXACT_CHECK if that gave the scores.
        given: one number for all sets, or one by set.
        judged: from a review, by set.
    Raises:
        ConfigError: a threshold is not between -1 and 1 or belongs to no set, or the detector has no provisional one.
    """
    names, judged = list(datasets), judged or {}
    by_set = given if isinstance(given, Mapping) else {name: given for name in names if given is not None}
    if unknown := set(by_set) - set(names):
        raise ConfigError(f"a threshold is given for {min(unknown)}, which is none of the sets: {', '.join(names)}")
    chosen = {}
    for name in names:
        if name in by_set:
            if not -1 <= by_set[name] <= 1:
                raise ConfigError(f"the threshold of {name} is {by_set[name]}; a score lies between -1 and 1")
            chosen[name] = Threshold(float(by_set[name]), GIVEN)
        elif name in judged:
            chosen[name] = judged[name]
        elif detector in PROVISIONAL:
            chosen[name] = Threshold(PROVISIONAL[detector], UNJUDGED)
        else:
            raise ConfigError(
                f"no threshold is known for the detector {detector}: look at the most similar pairs in the report of a "
                "first run with any number, and give the one that you find (--threshold 0.9)"
            )
    return chosen
