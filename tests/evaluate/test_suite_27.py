"""The suite on miniatures of all 27 sets of table 9, each in its original archive's layout."""

from collections import Counter

import numpy as np
import pytest
from colours import ColourEncoder
from miniatures import build
from miniatures_other import MINIATURES as OTHERS
from sklearn.metrics import roc_auc_score

from diptych.evalsets.cards import CARDS
from diptych.evalsets.opening import open_card
from diptych.evaluate.suite import run_suite
from diptych.evaluate.tasks.registry import TASKS
from diptych.evaluate.tasks.task import Setting
from diptych.paper.exhibits.tables_10_11 import TABLE_11
from diptych.records import protocol_in_words

PAPER = [card for card in CARDS.values() if card.group == "paper27"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    for card in PAPER:
        if card.name in OTHERS:
            OTHERS[card.name](root / card.name)
        else:
            build(card.name, root / card.name)
    return root


@pytest.mark.parametrize("card", PAPER, ids=lambda card: card.name)
def test_every_archive_is_measured_zero_shot(card, data, tmp_path):
    found = run_suite(ColourEncoder(), [TASKS["zero_shot"]], [card], Setting(data, partial=True), tmp_path)
    assert found.skipped == []
    first = found.results[0]
    assert (first.dataset, first.metric) == (card.name, card.metric)
    benchmark = open_card(card, data, "test")
    assert first.n == sum(1 for index in range(len(benchmark.source.shards)) for _ in benchmark.source.read(index))
    assert first.value == pytest.approx(by_hand(card, data), abs=1e-6)


def by_hand(card, data):
    """The card's metric of the encoder's zero-shot classifier, from pictures and words alone."""
    encoder, benchmark = ColourEncoder(), open_card(card, data, "test")
    samples = [one for index in range(len(benchmark.source.shards)) for one in benchmark.source.read(index)]
    vectors = encoder.encode_images([one.image for one in samples]).double().numpy()
    names = benchmark.names or [(name,) for name in benchmark.class_names]
    texts = [[one.replace("{c}", name) for name in several for one in benchmark.templates] for several in names]
    classes = np.stack([encoder.encode_texts(one).double().mean(dim=0).numpy() for one in texts])
    scores = vectors @ (classes / np.linalg.norm(classes, axis=1, keepdims=True)).T
    labels = np.array([one.label for one in samples])
    best = np.argsort(-scores, axis=1, kind="stable")
    right = best[:, 0] == labels
    if card.metric == "accuracy":
        return right.mean()
    if card.metric == "mean_per_class_accuracy":
        return np.mean([right[labels == one].mean() for one in set(labels.tolist())])
    if card.metric == "mean_of_top_1_and_5":
        return (right.mean() + (best[:, :5] == labels[:, None]).any(axis=1).mean()) / 2
    if card.metric == "roc_auc":
        return roc_auc_score(labels == 1, scores[:, 1] - scores[:, 0])
    known = [one.metadata for one in samples]
    return np.mean([precision_of(place, known, scores[:, place].tolist()) for place in range(len(names))])


def precision_of(place, known, scores):
    """VOC's 11-point average precision of a class, by a loop; an image whose only objects of it are difficult is not
    there."""
    rows = [
        (score, place in one["labels"])
        for one, score in zip(known, scores, strict=True)
        if place in one["labels"] or place not in one["ignored"]
    ]
    total = sum(right for _, right in rows)
    points = []
    for least in sorted({score for score, _ in rows}):
        above = [right for score, right in rows if score >= least]
        points.append((sum(above) / total, sum(above) / len(above)))
    return sum(max(p for r, p in points if 10 * r >= tenth - 1e-6) for tenth in range(11)) / 11


def labels_of(card, data, split):
    benchmark = open_card(card, data, split)
    return [one.label for index in range(len(benchmark.source.shards)) for one in benchmark.source.read(index)]


@pytest.mark.parametrize("card", PAPER, ids=lambda card: card.name)
def test_every_archive_is_probed_where_a_picture_can_be_held_out(card, data, tmp_path):
    found = run_suite(ColourEncoder(), [TASKS["linear_probe"]], [card], Setting(data, partial=True), tmp_path)
    if card.name == "UCF101":  # the miniature's first list has one class to learn
        assert "all labels are of one class" in found.skipped[0].reason and not found.results
        return
    alone = min(Counter(labels_of(card, data, "train")).values()) == 1
    if alone and "val" not in card.splits and card.task != "multi_label":
        assert "has only one row" in found.skipped[0].reason and not found.results
        return
    assert found.skipped == []
    assert (found.results[0].dataset, found.results[0].metric) == (card.name, card.metric)


@pytest.mark.parametrize("card", [card for card in PAPER if card.task != "multi_label"], ids=lambda card: card.name)
def test_every_archive_is_learned_from_one_picture_a_class(card, data, tmp_path):
    found = run_suite(ColourEncoder(), [TASKS["few_shot"]], [card], Setting(data, partial=True), tmp_path)
    if card.name == "UCF101":
        assert "needs two or more" in found.skipped[0].reason and not found.results
        return
    assert found.skipped == []
    assert (protocol_in_words(found.results[0]), found.results[0].metric) == ("probe 1-shot", card.metric)


def test_table_11_shows_them_all(data, tmp_path):
    results = run_suite(ColourEncoder(), [TASKS["zero_shot"]], PAPER, Setting(data, partial=True), tmp_path).results
    rows = [cells for table in TABLE_11.build(results).tables for name, cells in table.rows if "colours" in name]
    assert sum(cell.value is not None for cell in rows[0] if not isinstance(cell, str)) == 30  # 27 and three means
