"""Recall in both directions, block by block, and its measurement on pictures with captions."""

import logging

import numpy as np
import pytest
import torch
from colours import NAMES, ColourEncoder, PixelColourEncoder, encoded, picture
from embedding import make_vit

from diptych.data.open_source import open_source
from diptych.embed.neighbours import similarity_blocks
from diptych.errors import DataError, InputError, ShapeError, TextError
from diptych.evalsets import Card
from diptych.evalsets.archive_registry import LAYOUTS, Layout
from diptych.evalsets.set_sources import Entry, ListedSource
from diptych.evaluate.metrics.ranking import recall_at_k
from diptych.evaluate.metrics.similarity import nearest
from diptych.evaluate.metrics.statistics import clopper_pearson
from diptych.evaluate.tasks.retrieval import RETRIEVAL, encode_captions, measure_retrieval, retrieve
from diptych.evaluate.tasks.task import Setting


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_a_case_solved_by_hand():
    images = np.eye(3, dtype=np.float32)
    # Captions 0 and 1 are of picture 0, 2 of picture 1, 3 of picture 2.
    texts = np.array([[0.6, 0.8, 0], [0.8, 0, 0.6], [0.8, 0.6, 0], [0, 0, 1]], np.float32)
    found = retrieve(images, texts, np.array([0, 0, 1, 2]), ks=(1, 2))
    # Picture 0 sees 0.6, 0.8, 0.8, 0: its caption 1 ties with caption 2 and comes first. Picture 1 sees 0.8, 0, 0.6, 0:
    # caption 0 is before its own. Picture 2 sees its own first.
    assert found["text_recall_at_1"].value == 2 / 3
    assert found["text_recall_at_2"].value == 1
    # Caption 0 is nearer to picture 1, caption 2 nearer to picture 0; 1 and 3 find theirs.
    assert found["image_recall_at_1"].value == 2 / 4
    assert found["image_recall_at_2"].value == 1
    assert (found["image_recall_at_1"].low, found["image_recall_at_1"].high) == clopper_pearson(2, 4)
    assert found["text_recall_at_1"].n == 3 and found["image_recall_at_1"].n == 4


@pytest.mark.parametrize("block", [1, 7, 64])
@pytest.mark.parametrize("ties", [False, True])
def test_blocks_give_what_the_whole_table_gives(block, ties):
    rng = np.random.default_rng(block)
    owner = rng.permutation(np.concatenate([np.arange(40), rng.integers(40, size=90)]))
    if ties:  # few different vectors, and sums that are exact: many equal scores
        images = rng.integers(-1, 2, (40, 3)).astype(np.float32)
        texts = rng.integers(-1, 2, (130, 3)).astype(np.float32)
    else:
        images = unit(rng.normal(size=(40, 16)))
        texts = unit(images[owner] + 1.5 * rng.normal(size=(130, 16)))
    table = (images.astype(np.float64) @ texts.T.astype(np.float64)).astype(np.float32)
    found = retrieve(images, texts, owner, block=block)
    for k in (1, 5, 10):
        assert found[f"text_recall_at_{k}"].value == recall_at_k(table, np.arange(40), owner, k)
        assert found[f"image_recall_at_{k}"].value == recall_at_k(table.T, owner, np.arange(40), k)
    assert 0 < found["text_recall_at_1"].value < found["text_recall_at_10"].value


def test_equal_vectors_tie_wherever_they_lie():
    rng = np.random.default_rng(0)
    one = unit(rng.normal(size=(1, 512)))
    images, texts = np.repeat(one, 9, axis=0), np.repeat(one, 9, axis=0)
    found = retrieve(images, texts, np.arange(9), ks=(1, 3, 9), block=2)
    assert [score.value for score in found.values()] == [1 / 9, 3 / 9, 1] * 2


@pytest.mark.parametrize("block", [1, 2, 5])
def test_the_last_bit_of_a_sum_puts_no_text_before_itself(monkeypatch, block):
    """A processor may sum a table in another order than a row alone."""

    def upwards(*given):
        for rows, columns, table in similarity_blocks(*given):
            yield rows, columns, np.nextafter(table, np.float32(2))

    monkeypatch.setattr("diptych.evaluate.tasks.retrieval.similarity_blocks", upwards)
    found = retrieve(np.eye(5, dtype=np.float32), np.eye(5, dtype=np.float32), np.arange(5), ks=(1,), block=block)
    assert [score.value for score in found.values()] == [1, 1]


def test_columns_are_cut_into_blocks_too(monkeypatch):
    rng = np.random.default_rng(1)
    images, texts, owner = unit(rng.normal(size=(30, 4))), unit(rng.normal(size=(90, 4))), np.repeat(np.arange(30), 3)
    whole = retrieve(images, texts, owner)
    monkeypatch.setattr("diptych.embed.neighbours._WIDE", 11)
    assert retrieve(images, texts, owner, block=4) == whole
    parts = list(similarity_blocks(images, texts, 4))
    assert max(table.size for *_, table in parts) == 44
    full = np.zeros((30, 90), np.float32)
    for rows, columns, table in parts:
        full[rows, columns] = table
    assert np.array_equal(full, (images.astype(np.float64) @ texts.T.astype(np.float64)).astype(np.float32))
    assert np.array_equal(nearest(images, texts, 4), full.argmax(axis=1))


@pytest.mark.parametrize(
    ("images", "texts", "owner", "words"),
    [
        (np.eye(2), np.eye(2)[:0], np.zeros(0, int), "0 captions"),
        (np.eye(2), np.eye(2), np.array([0, 0]), "1 of 2 images have no caption, the first one is 1"),
        (np.eye(2), np.eye(2), np.array([0, 2]), "found 0 to 2"),
        (np.eye(2), np.eye(2), np.array([-1, 1]), "found -1 to 1"),
        (np.eye(2), np.eye(2), np.array([0.0, 1.0]), "owner must be int"),
        (np.eye(2), np.eye(3), np.array([0, 1, 1]), "do not fit"),
        (np.array([[1, np.nan], [0, 1]]), np.eye(2), np.array([0, 1]), "1 of 2 image embeddings hold NaN"),
        (np.eye(2), np.array([[1, np.inf], [0, 1]]), np.array([0, 1]), "1 of 2 text embeddings hold NaN"),
        (np.diag([np.nan, 1, np.nan]), np.eye(3), np.arange(3), "2 of 3 image embeddings hold NaN"),
    ],
)
def test_what_cannot_be_measured_is_an_error(images, texts, owner, words):
    with pytest.raises(InputError, match=words):
        retrieve(images, texts, owner)


def test_k_must_be_at_least_one():
    for ks in ((0,), (5, 0, 1)):
        with pytest.raises(InputError, match="k must be"):
            retrieve(np.eye(2), np.eye(2), np.arange(2), ks=ks)


def colour_pairs(folder, num=14, captions=("{} it is", "all of it is {}"), without=()):
    """A folder of pictures with a .txt beside each, one colour after the other."""
    folder.mkdir(parents=True)
    for number in range(num):
        colour = NAMES[number % len(NAMES)]
        (folder / f"{number:03d}.png").write_bytes(encoded(picture(colour, number)))
        if number not in without:
            lines = [text.format(colour) for text in captions]
            (folder / f"{number:03d}.txt").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.mark.parametrize("encoder", [ColourEncoder(), PixelColourEncoder()])
def test_a_plain_folder_of_pairs_is_measured(tmp_path, encoder):
    source = open_source(colour_pairs(tmp_path / "pairs", num=7))
    results = measure_retrieval(encoder, source, name="held-out")
    assert {(r.task, r.dataset, r.split) for r in results} == {("retrieval", "held-out", "test")}
    assert [r.metric for r in results[:6]] == [f"{s}_recall_at_{k}" for s in ("text", "image") for k in (1, 5, 10)]
    assert [r.protocol for r in results] == ["prefixed"] * 6 + ["bare"] * 6
    assert {(r.metric.split("_")[0], r.n) for r in results} == {("text", 7), ("image", 14)}
    values = {(r.protocol, r.metric): r.value for r in results}
    assert values["bare", "text_recall_at_1"] > 0.5  # the encoder knows colours
    assert values["bare", "text_recall_at_10"] >= values["bare", "text_recall_at_5"] >= 6 / 7
    assert results[0].run["settings"] == {"without_caption": 0, "cut_captions": 0}
    assert results[0].run["fingerprint"] == source.fingerprint


def test_the_numbers_are_those_of_the_embeddings(tmp_path):
    encoder = ColourEncoder()
    source = open_source(colour_pairs(tmp_path / "pairs", num=21))
    samples = [sample for index in range(len(source.shards)) for sample in source.read(index)]
    images = encoder.encode_images([sample.image for sample in samples]).double().numpy()
    captions = [text for sample in samples for text in sample.texts]
    owner = np.repeat(np.arange(21), [len(sample.texts) for sample in samples])
    results = {(r.protocol, r.metric): r.value for r in measure_retrieval(encoder, source)}
    for protocol, prefix in (("prefixed", "a photo of "), ("bare", "")):
        texts = encoder.encode_texts([prefix + caption for caption in captions]).double().numpy()
        table = (images @ texts.T).astype(np.float32)
        for k in (1, 5, 10):
            assert results[protocol, f"text_recall_at_{k}"] == recall_at_k(table, np.arange(21), owner, k)
            assert results[protocol, f"image_recall_at_{k}"] == recall_at_k(table.T, owner, np.arange(21), k)


def listed(folder, texts):
    entries = tuple(Entry(f"{number:03d}.png", 0, some) for number, some in enumerate(texts))
    return ListedSource(folder, entries)


def test_a_set_without_captions_is_an_error(tmp_path):
    folder = colour_pairs(tmp_path / "pairs", num=3)
    with pytest.raises(DataError, match="3 of 3 images have no caption"):
        measure_retrieval(ColourEncoder(), listed(folder, [(), (), ("  ",)]))
    with pytest.raises(DataError, match="2 of 3 images have no caption"):
        measure_retrieval(ColourEncoder(), listed(folder, [("red",), (), ()]))


def test_a_few_pictures_without_captions_are_counted(tmp_path, caplog):
    folder = colour_pairs(tmp_path / "pairs", num=101)
    texts = [(f"{NAMES[number % 7]} number {number}",) for number in range(101)]
    texts[13] = ("", " ")
    with caplog.at_level(logging.WARNING):
        results = measure_retrieval(ColourEncoder(), listed(folder, texts), protocols=["bare"])
    assert {r.n for r in results} == {100}
    assert results[0].run["settings"]["without_caption"] == 1
    assert "1 of 101 images have no caption" in caplog.text


def test_one_picture_in_a_hundred_may_lack_captions_and_no_more(tmp_path):
    folder = colour_pairs(tmp_path / "pairs", num=100)
    texts = [(), *[(NAMES[number % 7],) for number in range(1, 100)]]
    assert measure_retrieval(ColourEncoder(), listed(folder, texts), protocols=["bare"])[0].n == 99
    with pytest.raises(DataError, match="1 of 99 images have no caption"):
        measure_retrieval(ColourEncoder(), listed(folder, texts[:99]), protocols=["bare"])


def test_unknown_protocols_are_refused(tmp_path):
    source = listed(colour_pairs(tmp_path / "pairs", num=2), [("red",), ("blue",)])
    with pytest.raises(InputError, match="no protocol"):
        measure_retrieval(ColourEncoder(), source, protocols=["louder"])


def test_captions_are_encoded_once_each_and_in_order():
    encoder = ColourEncoder()
    texts = ["something long that is red", "blue", "something long that is red", "green"]
    vectors, num_cut = encode_captions(encoder, texts)
    assert encoder.texts_seen == 3 and num_cut == 0
    assert np.allclose(vectors, ColourEncoder().encode_texts(texts).numpy(), atol=1e-6)


def test_captions_of_like_length_are_encoded_together_and_get_unit_norm(monkeypatch):
    """An encoder pads each batch to its longest text; what it gives may have any length."""
    monkeypatch.setattr("diptych.evaluate.tasks.retrieval._TEXTS_PER_BATCH", 2)
    batches = []

    class Stretched(ColourEncoder):
        def encode_texts(self, texts):
            batches.append(list(texts))
            return super().encode_texts(texts) * torch.tensor([[3.0], [0.2]])[: len(texts)]

    texts = ["red", "a blue wall", "blue", "all of it is green", "white"]
    vectors, _ = encode_captions(Stretched(), texts)
    assert batches == [["red", "blue"], ["white", "a blue wall"], ["all of it is green"]]
    np.testing.assert_allclose(vectors, ColourEncoder().encode_texts(texts), atol=1e-6)


class BrokenTexts(ColourEncoder):
    def __init__(self, change):
        super().__init__()
        self._change = change

    def encode_texts(self, texts):
        return self._change(super().encode_texts(texts))


def test_broken_text_embeddings_are_an_error():
    with pytest.raises(InputError, match=r"NaN or zero.*'blue'"):
        encode_captions(BrokenTexts(lambda rows: rows * float("nan")), ["blue", "green"])
    for broken in (float("nan"), 0.0):  # one of two alone
        spoilt = BrokenTexts(lambda rows, by=broken: rows * torch.tensor([[1.0], [by]]))
        with pytest.raises(InputError, match=r"NaN or zero.*'green'"):
            encode_captions(spoilt, ["green", "blue"])
    short = BrokenTexts(lambda rows: rows * torch.tensor([[0.5], [0.0]]))  # the first is short, but has a direction
    with pytest.raises(InputError, match=r"NaN or zero.*'green'"):
        encode_captions(short, ["green", "blue"])
    with pytest.raises(ShapeError, match="2 texts gave"):
        encode_captions(BrokenTexts(lambda rows: rows[:1]), ["blue", "green"])


def test_long_captions_are_cut_and_counted(caplog):
    model = make_vit()
    long = "a very long tail " * 200
    with caplog.at_level(logging.WARNING):
        vectors, num_cut = encode_captions(model, ["a cat", long, long])
    assert num_cut == 2 and "2 of 3 captions are longer" in caplog.text
    assert np.array_equal(vectors[1], vectors[2]) and np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    # Beside one that is cut, a caption that just fits is not: start and end take two places.
    room = model.tokenizer.context_length - 2
    fits, too_long = ("a " * number for number in (room, room + 1))
    assert [len(model.tokenizer.encode(text)) for text in (fits, too_long)] == [room, room + 1]
    assert encode_captions(model, [fits, too_long, long])[1] == 2


def test_an_encoder_that_does_not_cut_says_which_text_is_too_long():
    class Strict(ColourEncoder):
        def encode_texts(self, texts):
            raise TextError("the text 'red' is too long")

    with pytest.raises(TextError, match="'red' is too long"):
        encode_captions(Strict(), ["red"])


def card(name, task, metric):
    return Card(
        name=name, title=name, task=task, num_classes=0, splits={"test": 5}, metric=metric, homepage="", split_rule=""
    )


def test_the_task_is_for_sets_of_captions():
    captions = card("MSCOCO", "retrieval", "recall_at_1")
    assert RETRIEVAL.applies(captions) and not RETRIEVAL.applies(card("Food101", "classification", "accuracy"))
    assert RETRIEVAL.splits(captions) == ("test",) and RETRIEVAL.needs_texts


def test_the_task_measures_a_set_of_the_paper(tmp_path, monkeypatch):
    folder = colour_pairs(tmp_path / "sets" / "Flickr30k", num=14)
    texts = [(f"{NAMES[number % 7]} paint", f"number {number} is {NAMES[number % 7]}") for number in range(14)]
    layout = Layout(lambda folder, split: listed(folder, texts), ("000.png",))
    monkeypatch.setitem(LAYOUTS, "Flickr30k", (layout,))
    setting = Setting(tmp_path / "sets", tmp_path / "cache")
    results = RETRIEVAL.measure(PixelColourEncoder(), card("Flickr30k", "retrieval", "recall_at_1"), setting).results
    direct = measure_retrieval(PixelColourEncoder(), listed(folder, texts))
    assert [(r.dataset, r.value) for r in results] == [("Flickr30k", r.value) for r in direct]
    assert {(r.n, r.metric.split("_")[0]) for r in results} == {(14, "text"), (28, "image")}
