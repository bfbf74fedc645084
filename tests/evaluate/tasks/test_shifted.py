"""A model measured under made shifts: the classifier is made once, and a summary solved by hand."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from diptych.data.source import Source
from diptych.errors import ConfigError
from diptych.evalsets.benchmark import check_benchmark
from diptych.evalsets.cards import get_card
from diptych.evaluate.tasks.shifted import measure_shifts, shifted, summarise_shifts
from diptych.paper.exhibits.shift_figures import SHIFTS_MADE
from diptych.records import Broken, Result, Sample
from diptych.report.bars import BarChart, bar_chart
from diptych.report.curves import line_chart
from diptych.report.table import to_markdown


class Colours(Source):
    """Forty flat pictures, dark ones and bright ones."""

    shards, fingerprint = ("only",), "colours"

    def read(self, index):
        for number in range(40):
            value = (60 if number % 2 else 200) + number % 5
            yield Sample(f"c{number}", np.full((8, 8, 3), value, np.uint8), (), 1 - number % 2)


class ByBrightness:
    """Dark or bright, by whether the mean is above the middle."""

    name = "by brightness"

    def __init__(self):
        self.texts = 0

    def encode_texts(self, texts):
        self.texts += len(texts)
        return torch.tensor([[1.0, 0.0] if "dark" in text else [0.0, 1.0] for text in texts])

    def encode_images(self, pictures):
        means = [np.asarray(picture.convert("L")).mean() / 255 for picture in pictures]
        return torch.nn.functional.normalize(torch.tensor([[1 - mean, mean] for mean in means]).float(), dim=1)


@pytest.fixture
def benchmark():
    return check_benchmark("colours", "test", ["dark", "bright"], ["a {c} one", "the {c}"], Colours())


def test_a_brighter_set_is_mistaken_and_the_classifier_is_made_once(benchmark):
    encoder = ByBrightness()
    results = measure_shifts(encoder, benchmark, ["brightness", "inverted", "greyscale"], [1, 4])
    assert encoder.texts == 4  # two names in two templates
    assert [(dict(one.condition), one.value) for one in results] == [
        ({}, 1.0),
        ({"shift": "brightness", "severity": 1}, 1.0),  # 60 + 26
        ({"shift": "brightness", "severity": 4}, 0.5),  # 60 + 102 is bright
        ({"shift": "inverted", "severity": 1}, 0.0),
        ({"shift": "greyscale", "severity": 1}, 1.0),
    ]
    assert {(one.task, one.dataset, one.protocol, one.metric, one.n) for one in results} == {
        ("shifts", "colours", "ensemble", "accuracy", 40)
    }
    assert results[2].run["settings"] == {"seed": 0}
    assert "settings" not in results[0].run and len({one.run["fingerprint"] for one in results}) == 5
    (summary,) = summarise_shifts(results)
    assert summary.shift_mean("brightness") == 0.75
    assert summary.mean() == pytest.approx((0.75 + 0 + 1) / 3) and summary.mean(("rendition",)) == 0.5
    assert summary.relative_drop() == pytest.approx(1 - 1.75 / 3) and summary.mean(("noise",)) is None


def test_same_seed_same_numbers(benchmark):
    runs = [measure_shifts(ByBrightness(), benchmark, ["shot noise"], [5], seed=3) for _ in range(2)]
    assert [one.value for one in runs[0]] == [one.value for one in runs[1]]
    assert (
        runs[0][1].run["fingerprint"]
        != measure_shifts(ByBrightness(), benchmark, ["shot noise"], [5])[1].run["fingerprint"]
    )


class Some(Colours):
    """100 pictures and a broken one."""

    def read(self, index):
        yield Broken("gone", "only", "it is cut off")
        for number in range(3):
            yield from (dataclasses.replace(one, key=f"{number} {one.key}") for one in Colours().read(index))


@pytest.mark.parametrize(("of", "said"), [(121, None), (122, [2, 4])])
def test_broken_pictures_and_classes_that_are_not_shown_are_said(of, said):
    """A set with all its authors' pictures, broken ones among them, has all its classes."""
    card = dataclasses.replace(get_card("CIFAR10"), splits={"test": of}, num_classes=4)
    names = ["dark", "bright", "brighter", "brightest"]
    several = check_benchmark("CIFAR10", "test", names, ["the {c}"], Some(), card=card)
    for one in measure_shifts(ByBrightness(), several, ["inverted"], partial=True):
        assert one.run["settings"]["broken"] == 1 and one.n == 120
        assert one.run["settings"].get("classes") == (said and {"tested": said})


def test_the_usual_seed_is_0(benchmark):
    usual, other = (
        measure_shifts(ByBrightness(), benchmark, ["gaussian noise"], [1], **more) for more in ({}, {"seed": 1})
    )
    assert {one.run["settings"]["seed"] for one in usual if "settings" in one.run} == {0}
    assert [one.run["fingerprint"] for one in usual] != [one.run["fingerprint"] for one in other]


def test_a_shifted_set_is_another_set(benchmark):
    one = shifted(benchmark, "contrast", 2)
    assert one.name == "colours contrast 2" and one.class_names == benchmark.class_names
    assert len({one.fingerprint, benchmark.fingerprint, shifted(benchmark, "contrast", 3).fingerprint}) == 3


def test_what_cannot_be_measured_is_refused_before_anything_is_encoded(benchmark):
    encoder = ByBrightness()
    with pytest.raises(ConfigError, match="no shift 'fog'"):
        measure_shifts(encoder, benchmark, ["fog"])
    with pytest.raises(ConfigError, match="1 to 5"):
        measure_shifts(encoder, benchmark, ["jpeg"], [7])
    several = check_benchmark(
        "VOC2007", "test", ["dark", "bright"], ["{c}"], benchmark.source, card=get_card("VOC2007")
    )
    nameless = dataclasses.replace(benchmark, class_names=())
    for wrong in (several, nameless):
        with pytest.raises(ConfigError, match="one label per image"):
            measure_shifts(encoder, wrong)
    assert encoder.texts == 0


def result(dataset, value, shift=None, severity=0, model="m", metric="accuracy"):
    condition = {"shift": shift, "severity": severity} if shift else {}
    bounds = (max(0.0, value - 0.1), min(1.0, value + 0.1))
    return Result("shifts", dataset, "test", metric, value, 10, *bounds, "i", "ensemble", model, condition)


MANY = [
    result("set", 0.8),
    *(result("set", 0.8 - 0.1 * n, "gaussian noise", n) for n in (1, 3, 5)),
    result("set", 0.6, "jpeg", 1),
    result("set", 0.4, "sketch", 1),
]


def test_summaries_by_hand():
    others = [
        result("set", 0.1, model="lonely"),
        result("other", 0.3, "jpeg", 1, model="n"),
        result("set", 0.9, metric="x"),
    ]
    (one,) = summarise_shifts([*others, *MANY])
    assert (one.model, one.dataset, one.clean.value) == ("m", "set", 0.8)
    assert one.mean() == pytest.approx((0.5 + 0.6 + 0.4) / 3) and one.relative_drop() == pytest.approx(1 - 0.5 / 0.8)
    assert one.mean(("noise", "form")) == pytest.approx(0.55)
    assert one.relative_drop(("weather",)) is None
    nothing = dataclasses.replace(one, clean=dataclasses.replace(one.clean, value=0.0))
    assert nothing.relative_drop() is None and nothing.mean() == one.mean()
    # Rows of which something is not known are no shifts, and not the clean number's either where a shift is named.
    for known in ({"shift": "sketch"}, {"shift": "sketch", "severity": "x"}, {"shift": "rain", "severity": 1}):
        unknown = dataclasses.replace(MANY[-1], condition=known, value=0.0)
        assert summarise_shifts([*MANY, unknown]) == [one]
    zero_shot = [dataclasses.replace(MANY[0], task="zero_shot"), *MANY[1:]]  # the same measurement
    assert summarise_shifts(zero_shot)[0].mean() == one.mean()
    assert list(one.by_shift) == ["gaussian noise", "jpeg", "sketch"]  # the registry's order
    assert summarise_shifts(json_round_trip(MANY))[0].mean() == one.mean()
    (backwards,) = summarise_shifts(MANY[::-1])  # the order of rows decides nothing
    assert list(backwards.by_shift) == list(one.by_shift) and list(backwards.by_shift["gaussian noise"]) == [1, 3, 5]


def json_round_trip(results):
    """As results.jsonl gives them back."""
    return [
        Result(**json.loads(json.dumps({name: getattr(one, name) for name in Result.__slots__}))) for one in results
    ]


def test_the_exhibit():
    shown = SHIFTS_MADE.build([*MANY, result("set", 0.5, model="n"), result("set", 0.4, "jpeg", 1, model="n")])
    assert "m on set: 80.0 % as it is, 50.0 % on the mean of 3 shifts" in shown.title
    means, first, second = shown.tables
    assert [name for name, _ in means.rows] == ["m, set", "n, set"]
    assert [cell.value for cell in means.rows[0][1]] == pytest.approx([80, 50, 55, 40, 37.5])
    assert [name for name, _ in first.rows] == ["gaussian noise", "jpeg", "sketch"] and len(second.rows) == 1
    assert all(to_markdown(table) for table in shown.tables)
    noise = shown.charts[0]
    assert noise.series[0].x == [0, 1, 3, 5] and noise.series[0].y == pytest.approx([80, 70, 50, 30])
    assert noise.series[0].low == pytest.approx([70, 60, 40, 20])
    drawn = [str(bar_chart(one) if isinstance(one, BarChart) else line_chart(one)) for one in shown.charts]
    assert len(drawn) == 4 and all(one.startswith("<svg") for one in drawn)
    assert "not natural" in shown.notes[0]
    assert "No made shifts" in SHIFTS_MADE.build([]).title


def test_pictures_of_files_are_measured_too(tmp_path):
    """Through a cache: the second run reads what the first kept, and gives the same."""
    from diptych.evalsets.benchmark import open_benchmark

    for name, value in (("dark", 60), ("bright", 200)):
        (tmp_path / "set" / "test" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), (value,) * 3).save(tmp_path / "set" / "test" / name / "0.png")
    encoder = ByBrightness()
    encoder.image_fingerprint = encoder.fingerprint = "b"
    runs = [
        measure_shifts(encoder, open_benchmark(tmp_path / "set"), ["jpeg"], cache=tmp_path / "kept") for _ in range(2)
    ]
    assert [one.value for one in runs[0]] == [1.0] * 6 == [one.value for one in runs[1]]
    assert len(list((tmp_path / "kept" / "pictures").iterdir())) == 6 and encoder.texts == 2
