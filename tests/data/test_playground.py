"""The playground: same seed same bytes, nothing held out is shown, and every caption is true of its picture."""

import hashlib
import itertools
import pickle
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from diptych.data.playground import (
    HELD_OUT_COUNTS,
    HELD_OUT_PAIRS,
    Playground,
    contact_sheet,
    make_sample,
    scene_vocabulary,
)
from diptych.data.playground.__main__ import main
from diptych.data.playground.masks import digit_indices, shape_mask
from diptych.data.playground.scene_captions import SYNONYMS
from diptych.errors import ConfigError, InputError
from diptych.evalsets.playground_tasks import playground_tasks
from diptych.records import Sample

NUM_CHECKED = 20_000
MEANING = {other: word for word, other in SYNONYMS.items()}


@pytest.fixture(scope="module")
def training_samples() -> list[Sample]:
    source = Playground(NUM_CHECKED, seed=3, size=32)  # the scene is the same at every size
    return [sample for index in range(len(source.shards)) for sample in source.read(index)]


def digest_of_samples(indices: Iterable[int]) -> str:
    """One hash over samples, made in the given order and hashed in that of their index."""
    samples = {index: make_sample(7, "train", index) for index in indices}
    facts = [(s.key, s.texts, s.metadata, hashlib.sha256(s.image).hexdigest()) for _, s in sorted(samples.items())]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def plain_words(caption: str) -> str:
    """The caption in singular words of the vocabulary, without synonyms and punctuation."""
    text = re.sub(r'[".,]', "", caption)
    text = re.sub(r"\bplus signs?\b", "cross", text).replace("crosses", "cross")
    words = [MEANING.get(word, word) for word in text.split()]
    singular = [word[:-1] if word[:-1] in (*scene_vocabulary.SHAPES, *MEANING) else word for word in words]
    return " ".join(MEANING.get(word, word) for word in singular)


def without_ground(words: str) -> str:
    """A caption without its background phrase, which names a colour of its own."""
    return re.sub(r"\b(on|against) an? (?=.*\b(background|gradient|grid)\b).*?(background|gradient|grid)", "", words)


def test_same_seed_gives_same_bytes_in_any_process_and_order():
    program = "import test_playground; print(test_playground.digest_of_samples(reversed(range(60))))"
    other = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    assert digest_of_samples(range(60)) == other.stdout.strip()


def test_another_seed_split_or_index_gives_another_sample():
    pictures = [
        make_sample(*arguments).image.tobytes()
        for arguments in ((0, "train", 0), (1, "train", 0), (0, "test", 0), (0, "validation", 0), (0, "train", 1))
    ]
    assert len(set(pictures)) == len(pictures)


def test_held_out_sets_are_balanced_and_disjoint():
    assert ("purple", "star") in HELD_OUT_PAIRS
    assert (3, "green", "cross") in HELD_OUT_COUNTS
    for position, names in ((0, scene_vocabulary.COLOURS), (1, scene_vocabulary.SHAPES)):
        assert Counter(pair[position] for pair in HELD_OUT_PAIRS) == dict.fromkeys(names, 1)
        assert Counter(triple[position + 1] for triple in HELD_OUT_COUNTS) == dict.fromkeys(names, 2)
    assert not HELD_OUT_PAIRS & {triple[1:] for triple in HELD_OUT_COUNTS}


def test_no_held_out_combination_in_training(training_samples):
    pairs = "|".join(f"{colour} {shape}|{shape} (?:that )?is {colour}" for colour, shape in HELD_OUT_PAIRS)
    held_out = re.compile(rf"\b(?:{pairs})\b")
    seen_pairs, seen_counts = set(), set()
    for sample in training_samples:
        facts = sample.metadata
        if facts["kind"] in ("single", "count"):
            seen_pairs.add((facts["colour"], facts["shape"]))
            seen_counts.add((facts["count"], facts["colour"], facts["shape"]))
        elif facts["kind"] == "relation":
            seen_pairs.update(facts["things"])
        for text in sample.texts:
            words = re.sub(r"\b(striped|dotted|checkered|solid|small|large) ", "", plain_words(text))
            assert not held_out.search(words), (sample.key, text)
    assert seen_pairs == set(scene_vocabulary.SEEN_PAIRS)
    assert seen_counts == set(scene_vocabulary.SEEN_COUNTS)
    assert not seen_pairs & HELD_OUT_PAIRS
    assert not seen_counts & HELD_OUT_COUNTS


def test_captions_are_true(training_samples):
    for sample in training_samples[:5000]:
        for text in sample.texts:
            check_caption(sample, plain_words(text))


def check_caption(sample: Sample, words: str) -> None:
    facts, where = sample.metadata, (sample.key, words)
    said = without_ground(words).split()
    colours = {word for word in said if word in scene_vocabulary.COLOURS}
    shapes = {word for word in said if word in scene_vocabulary.SHAPES}
    if facts["kind"] == "relation":
        assert colours <= {colour for colour, _ in facts["things"]}, where
        assert shapes <= {shape for _, shape in facts["things"]}, where
        check_relation(sample, words)
        return
    assert colours <= {facts["colour"]}, where
    assert shapes <= {facts.get("shape")}, where
    assert {word for word in said if word in scene_vocabulary.TEXTURES} <= {facts.get("texture")}, where
    assert {word for word in said if word in scene_vocabulary.SIZES} <= {facts.get("size")}, where
    if facts["kind"] == "count":
        numbers = [scene_vocabulary.NUMBERS.index(word) for word in said if word in scene_vocabulary.NUMBERS[2:]]
        numbers += [int(word) for word in said if word.isdigit()]
        assert numbers in ([facts["count"]], []), where
        assert numbers or facts["count"] == 1, where
    elif facts["kind"] == "word":
        assert facts["word"] in said, where
    elif facts["kind"] == "digit":
        assert facts["name"] in said or str(facts["digit"]) in said, where
    elif place := re.search(r"\b(top left|top right|bottom left|bottom right|top|bottom|left|right|centre)\b", words):
        assert place[1] == facts["position"], where


def check_relation(sample: Sample, words: str) -> None:
    if not (found := re.search(r"(.*?)\b(left of|right of|above|over|below|under)\b(.*)", words)):
        return
    relation = {"over": "above", "under": "below"}.get(found[2], found[2])
    (first, second), truth = sample.metadata["things"], sample.metadata["relation"]
    before, after = set(found[1].split()), set(without_ground(found[3]).split())
    forward = bool(before & set(first)) and bool(after & set(second))
    backward = bool(before & set(second)) and bool(after & set(first))
    assert forward != backward, (sample.key, words)
    assert relation == (truth if forward else scene_vocabulary.INVERSE[truth]), (sample.key, words)


def test_captions_are_varied_and_informative(training_samples):
    texts = [text for sample in training_samples for text in sample.texts]
    kinds = Counter(sample.metadata["kind"] for sample in training_samples)
    assert {len(sample.texts) for sample in training_samples} == {1, 2, 3}
    assert all(len(set(sample.texts)) == len(sample.texts) for sample in training_samples)
    assert len(set(texts)) > 0.5 * len(texts)
    assert all(text == text.strip() and "  " not in text and "{" not in text for text in texts)
    assert not [text for text in texts if re.search(r"\ba [aeiou8]|\ban [^aeiou8]", text.replace("a one", ""))]
    for kind, weight in zip(scene_vocabulary.KINDS, scene_vocabulary.KIND_WEIGHTS, strict=True):
        assert kinds[kind] / NUM_CHECKED == pytest.approx(weight, abs=0.02)


def foreground(sample: Sample) -> np.ndarray:
    """Where the picture differs from its plain background, found without looking at the scene."""
    pixels = np.asarray(sample.image).astype(int)
    colours, numbers = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    return np.abs(pixels - colours[numbers.argmax()]).sum(axis=2) > 60


def test_pictures_show_what_the_facts_say():
    checked: Counter[str] = Counter()
    for sample in Playground(4000, shard_size=4000, kinds=("single", "count")).read(0):
        facts = sample.metadata
        if (facts["pattern"], facts.get("texture")) != ("plain", "solid"):
            continue
        mask = foreground(sample)
        if facts["kind"] == "count":
            _, number = ndimage.label(mask, structure=np.ones((3, 3)))
            assert number == facts["count"], sample.key
        else:
            rows, columns = ndimage.find_objects(mask.astype(int))[0]
            # A large thing cannot lie far out: a fifth of the way from the centre decides.
            column, row = (int(s.start + s.stop > 52) + int(s.start + s.stop > 76) for s in (columns, rows))
            assert scene_vocabulary.POSITIONS[3 * row + column] == facts["position"], sample.key
            middle = np.median(np.asarray(sample.image)[mask], axis=0)
            distances = {name: np.abs(middle - np.array(rgb)).sum() for name, rgb in scene_vocabulary.COLOURS.items()}
            assert min(distances, key=distances.__getitem__) == facts["colour"], sample.key
        checked[facts["kind"]] += 1
    assert min(checked.values()) > 200


def test_colours_stand_out_from_every_background():
    for colour in scene_vocabulary.COLOURS:
        rows = scene_vocabulary.fitting_backgrounds(frozenset((colour,)))
        assert len(rows) >= 5
        for row in rows:
            hue, _, ground = scene_vocabulary.BACKGROUNDS[row]
            assert hue != colour
            assert np.abs(np.array(ground) - np.array(scene_vocabulary.COLOURS[colour])).max() > 70


@pytest.mark.parametrize("diameter", [12, 36])
def test_shapes_differ_clearly(diameter):
    def inside(shape: str, angle: int) -> np.ndarray:
        return shape_mask(shape, diameter, angle, "solid").main > 128

    for one, other in itertools.combinations(scene_vocabulary.SHAPES, 2):
        first, second = inside(one, 0), inside(other, 12)
        assert (first & second).sum() / (first | second).sum() < 0.85, (one, other)


@pytest.mark.parametrize("index", range(12))
def test_a_scene_is_the_same_at_every_size(index):
    small = make_sample(0, "train", index, size=64)
    large = make_sample(0, "train", index, size=128)
    assert small.texts == large.texts
    assert small.metadata == large.metadata
    assert large.image.shape == (128, 128, 3)
    if small.metadata["pattern"] != "plain":
        return
    reduced = np.asarray(Image.fromarray(large.image).reduce(2)).astype(int)
    assert np.abs(reduced - small.image).mean() < 8


def test_digits_are_split_by_image():
    train, validation, test = (set(digit_indices(split)) for split in ("train", "validation", "test"))
    assert len(train) + len(validation) + len(test) == len(train | validation | test) == 1797
    assert len(test) > 300
    for split, allowed in (("train", train), ("test", test)):
        source = Playground(300, split=split, kinds=("digit",))
        assert {sample.metadata["digit_index"] for sample in source.read(0)} <= allowed


def test_source_reads_shards_and_travels_to_workers():
    source = Playground(2500, seed=5, shard_size=1000)
    assert len(source) == 2500
    assert source.shards == ("playground-train-00000", "playground-train-00001", "playground-train-00002")
    last = list(source.read(2))
    assert [len(last), last[0].key, last[-1].key] == [500, "train-00002000", "train-00002499"]
    copy = pickle.loads(pickle.dumps(source))  # noqa: S301 - our own bytes
    assert copy == source
    assert (
        next(copy.read(2)).image.tobytes() == last[0].image.tobytes() == make_sample(5, "train", 2000).image.tobytes()
    )
    assert last[0].image.dtype == np.uint8


def test_fingerprint_tells_sources_apart():
    sources = [
        Playground(10),
        Playground(11),
        Playground(10, seed=1),
        Playground(10, size=32),
        Playground(10, split="test"),
        Playground(10, shard_size=5),
        Playground(10, kinds=("word",)),
    ]
    assert len({source.fingerprint for source in sources}) == len(sources)
    assert Playground(10).fingerprint == Playground(10).fingerprint


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_samples": 0},
        {"num_samples": 1, "shard_size": 0},
        {"num_samples": 1, "size": 8},
        {"num_samples": 1, "size": 100_000},
        {"num_samples": 1, "split": "dev"},
        {"num_samples": 1, "kinds": ("cats",)},
        {"num_samples": 1, "kinds": ()},
    ],
)
def test_arguments_out_of_range_are_refused(arguments):
    with pytest.raises(ConfigError, match="must"):
        Playground(**arguments)


def test_tasks_are_complete():
    tasks = {task.name: task for task in playground_tasks(num_samples=200)}
    required = {"shape", "colour", "count", "position", "relation", "word", "digit", "held_out_colour_shape"}
    assert required <= set(tasks)
    assert len(tasks["held_out_colour_shape"].class_names) == 64
    assert len({task.fingerprint for task in tasks.values()}) == len(tasks)
    for task in tasks.values():
        samples = list(task.source.read(0))
        assert len(samples) == 200
        assert len(set(task.class_names)) == len(task.class_names)
        assert len(task.templates) > 1
        assert all(template.count("{c}") == 1 for template in task.templates)
        assert {sample.label for sample in samples} <= set(range(len(task.class_names)))
        assert len({sample.key for sample in samples}) == 200


def test_labels_are_true():
    for task in playground_tasks(num_samples=160, seed=2):
        for sample in task.source.read(0):
            facts, name = sample.metadata, task.class_names[sample.label]
            if task.name in ("shape", "colour", "position", "word"):
                assert name == facts[task.name]
            elif task.name == "count":
                assert name.split()[0] == scene_vocabulary.NUMBERS[facts["count"]]
            elif task.name == "digit":
                assert name == scene_vocabulary.NUMBERS[facts["digit"]]
            elif task.name == "relation":
                check_relation(sample, name)
                assert facts["relation"] in name
            elif task.name == "held_out_colour_shape":
                assert name == f"{facts['colour']} {facts['shape']}"
                assert (facts["colour"], facts["shape"]) in HELD_OUT_PAIRS
            else:
                assert plain_words(name) == plain_words(
                    f"{scene_vocabulary.NUMBERS[facts['count']]} {facts['colour']} {facts['shape']}"
                )
                assert (facts["count"], facts["colour"], facts["shape"]) in HELD_OUT_COUNTS


def test_tasks_show_no_training_picture():
    training = {hashlib.sha256(sample.image).digest() for sample in Playground(3000).read(0)}
    for task in playground_tasks(num_samples=300, split="validation"):
        assert task.split == "validation"
        assert not training & {hashlib.sha256(sample.image).digest() for sample in task.source.read(0)}


def test_tasks_refuse_arguments_out_of_range():
    with pytest.raises(ConfigError, match="split"):
        playground_tasks(split="dev")
    with pytest.raises(ConfigError, match="num_samples"):
        playground_tasks(num_samples=0)


def test_contact_sheet_holds_the_pictures():
    samples = list(Playground(5).read(0))
    sheet = np.asarray(contact_sheet(samples, columns=3, scale=1))
    assert (sheet[12 : 12 + 64, 12 : 12 + 64] == samples[0].image).all()
    with pytest.raises(InputError, match="at least one"):
        contact_sheet([], columns=3)
    with pytest.raises(InputError, match="pixels"):
        contact_sheet([Sample("a", b"\xff\xd8")], columns=3)


def test_command_draws_a_sheet(tmp_path, monkeypatch, capsys):
    out = tmp_path / "sheet.png"
    monkeypatch.setattr(sys, "argv", ["playground", "--out", str(out), "--number", "4", "--kind", "word"])
    main()
    assert Image.open(out).format == "PNG"
    assert "4 samples" in capsys.readouterr().out
