"""A planted case: real training photographs with changed copies of some test photographs mixed in, and one without."""

import dataclasses
import io
import itertools
from pathlib import Path

import numpy as np
import pytest

from diptych.data.copies import CopyAugmentation, copy_image
from diptych.data.decoding import decode_image
from diptych.data.open_source import open_source
from diptych.data.shards import write_shards
from diptych.overlap.find import OverlapConfig
from diptych.overlap.overlap_analysis import run_overlap
from diptych.records import Sample

DATA = Path(__file__).parents[3] / "shared" / "data" / "tiny-imagenet"
THRESHOLD = 0.85  # that of 99 % precision in docs/copy_detectors.md
COPIES = CopyAugmentation(least_area=0.6, margin=0.1, least_zoom=0.8, saturation=0.5, sides=(48, 128))
"""Changes of everyday strength."""

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data/tiny-imagenet")


def photographs(split, count, first=0):
    items = (item for item in open_source(str(DATA / split)).read(0) if isinstance(item, Sample))
    return list(itertools.islice(items, first, first + count))


def copied(sample, seed):
    copy = copy_image(decode_image(sample.image), COPIES, np.random.default_rng(seed))
    stream = io.BytesIO()
    copy.save(stream, "JPEG", quality=85)
    return dataclasses.replace(
        sample, key=f"planted-{seed:04d}", image=stream.getvalue(), texts=("a copy",), label=None
    )


def write_test_set(folder, samples):
    write_shards(samples, folder / "test")
    (folder / "classnames.txt").write_bytes((DATA / "classnames.txt").read_bytes())
    (folder / "zeroshot_classification_templates.txt").write_text("a photo of a {c}.\n")
    return folder


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """2,000 training photographs; of 600 test photographs 60 are mixed in as changed copies, in another folder none."""
    folder = tmp_path_factory.mktemp("planted")
    training, test = photographs("train", 2000), photographs("test", 600)
    write_test_set(folder / "test-set", test)
    places = range(0, 600, 10)
    write_shards([*training, *(copied(test[place], place) for place in places)], folder / "with")
    write_shards(training, folder / "without")
    return folder, {test[place].key.split("/")[-1]: f"planted-{place:04d}" for place in places}


def analyse(folder, train):
    config = OverlapConfig(
        train=(str(folder / train),), sets=(str(folder / "test-set"),), out=str(folder / f"out-{train}"), num_workers=0
    )
    return run_overlap(config, threshold=THRESHOLD)


@pytest.mark.long
def test_planted_copies_are_found(planted):
    folder, truth = planted
    [searched] = analyse(folder, "with").found.sets
    nearest = searched.nearest
    flagged = {key for key, overlaps in zip(nearest.keys, nearest.overlaps(THRESHOLD), strict=True) if overlaps}
    right = {
        key
        for key, found in zip(nearest.keys, nearest.nearest_keys, strict=True)
        if key in flagged and truth.get(key.split("/")[-1], "none") == found.split("/")[-1]
    }
    precision, recall = len(right) / max(1, len(flagged)), len(right) / len(truth)
    assert recall >= 0.7 and precision >= 0.8, (precision, recall)


@pytest.mark.long
def test_without_planted_copies_hardly_any_is_found(planted):
    folder, _ = planted
    [searched] = analyse(folder, "without").found.sets
    assert searched.nearest.overlaps(THRESHOLD).mean() < 0.02
