"""ImageNet's probe, measured on the shifts of ImageNet and on its own matching parts."""

import pytest
from imagenet_sets import NAMES, Known, card, measured, shows, write_set

from diptych.data.shards import write_shards
from diptych.evalsets.imagenet_classes import shift_classes
from diptych.evaluate.probe.task import ADAPTED, IMAGENET_PROBE
from diptych.evaluate.tasks.task import Setting
from diptych.records import Sample


@pytest.fixture
def sets(tmp_path):
    """Train shows class 6 as pictures around 100, and 7 as ones around 200; the tests are of such pictures."""
    write_set(tmp_path, "ImageNet", [Sample("v", shows(100), (), 6), Sample("w", shows(6), (), 7)], plain(range(1000)))
    train = [
        Sample(f"{label}/{n}", shows(start + n), (), label) for label, start in ((6, 100), (7, 200)) for n in range(6)
    ]
    write_shards(train, tmp_path / "ImageNet" / "train", shard_size=20)
    classes = [own for (own,) in shift_classes("ImageNet-A")]
    samples = [Sample("right", shows(100), (), 0), Sample("pooled", shows(200), (), 0)]
    write_set(tmp_path, "ImageNet-A", samples, plain(classes))
    return tmp_path


def plain(indices):
    return [NAMES[index][0] for index in indices]


def test_the_probe_is_scored_on_a_shifts_classes_alone(sets):
    results = IMAGENET_PROBE.measure(Known(), card("ImageNet-A", 200), Setting(sets, partial=True))
    # Class 7 is none of ImageNet-A's: what looks like it is counted for the best of the others, 6.
    assert measured(results) == {("ImageNet-A", ADAPTED, "accuracy"): (1.0, 2)}
    assert results[0].task == "linear_probe" and results[0].run["settings"]["lambda"] > 0


def test_the_matching_parts_of_imagenet(sets):
    found = measured(IMAGENET_PROBE.measure(Known(), card("ImageNet", 1000), Setting(sets, partial=True)))
    assert found["ImageNet", "on ImageNet-A", "accuracy"] == (1.0, 1)
    assert {protocol for _, protocol, _ in found} <= {
        f"on {name}" for name in ("ImageNet-A", "ImageNet-R", "Youtube-BB", "ImageNet-Vid")
    }


def test_which_sets_it_is_for_and_what_it_reads():
    assert IMAGENET_PROBE.applies(card("ImageNet", 1000)) and IMAGENET_PROBE.applies(card("ImageNet-R", 200))
    assert not IMAGENET_PROBE.applies(card("Food101", 101)) and not IMAGENET_PROBE.needs_texts
    assert IMAGENET_PROBE.others(card("ImageNet-R", 200)) == (("ImageNet", "train"), ("ImageNet", "val"))
