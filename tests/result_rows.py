"""Rows of a results file, for tests of reading and writing them."""

from diptych.records import Result


def rows(count, dataset="paints"):
    return [
        Result("zero_shot", dataset, "test", "accuracy", index / 8, 8, 0.0, 1.0, "clopper-pearson 99.5%", "single", "m")
        for index in range(count)
    ]
