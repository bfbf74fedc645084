"""The search of evaluation sets in training data, with a detector that knows which images are copies."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from known_images import Knows, find, pixels, sample, write_set
from PIL import Image

from diptych.data.open_source import open_source
from diptych.data.shards import write_shards
from diptych.errors import ConfigError, DataError, InputError
from diptych.overlap.image_views import seen_in
from diptych.overlap.training_index import update_index


def test_each_copy_is_found_and_nothing_else(data):
    shared, new = find(data).sets
    assert shared.nearest.dataset == "shared" and len(shared.nearest) == 20
    for key, nearest_key in zip(shared.nearest.keys, shared.nearest.nearest_keys, strict=True):
        assert key.split("/")[-1] == nearest_key.split("/")[-1]  # the number
    assert shared.nearest.overlaps(0.9).all() and not new.nearest.overlaps(0.9).any()
    assert shared.nearest.scores == pytest.approx(1.0, abs=1e-6)


def test_the_approximate_search_finds_them_too_and_says_how_many_it_misses(data):
    pytest.importorskip("faiss")
    shared, new = find(data, approximate=True).sets
    exact = find(data).sets[0]
    assert exact.approximate is None and not new.nearest.overlaps(0.9).any()
    assert shared.nearest.nearest_keys == exact.nearest.nearest_keys
    assert shared.approximate.recall_above(0.9) == (1.0, 20)


def test_neighbours_are_rows_of_the_index(data):
    found = find(data, "shared", neighbours=3)
    neighbours = found.sets[0].neighbours
    assert neighbours.rows.shape == (20, 3)
    assert found.index.store.keys(neighbours.rows[:, 0]) == list(found.sets[0].nearest.nearest_keys)


def test_a_second_run_encodes_nothing(data):
    first = find(data)
    detector = Knows()
    second = find(data, detector=detector)
    assert detector.num_encoded <= 6  # a black image tells the width of each view's vectors
    assert [searched.nearest.nearest_keys for searched in second.sets] == [
        searched.nearest.nearest_keys for searched in first.sets
    ]


def test_a_new_set_is_searched_without_embedding_the_training_data_again(data):
    find(data, "shared")
    detector = Knows()
    find(data, "shared", "new", detector=detector)
    assert 60 <= detector.num_encoded <= 66  # 30 images in two views


def test_new_shards_are_added_to_the_index(data):
    find(data, "new")
    write_shards(map(sample, range(1000, 1010)), data / "more")
    (data / "more" / "0.tar").rename(data / "train" / "4.tar")
    detector = Knows()
    found = find(data, "new", detector=detector)
    assert len(found.index) == 210 and len(found.index.stores) == 2
    assert detector.num_encoded <= 14
    assert found.sets[0].nearest.overlaps(0.9).sum() == 10


def test_a_changed_shard_is_refused(data):
    find(data, "new")
    shutil.copy(data / "train" / "0.tar", data / "train" / "1.tar")
    with pytest.raises(DataError, match=r"1\.tar was changed"):
        find(data, "new")
    (data / "train" / "1.tar").unlink()
    with pytest.raises(DataError, match="lacks now"):
        find(data, "new")


def test_another_common_folder_is_refused_because_keys_change(data):
    find(data, "new")
    write_shards(map(sample, range(5)), data / "elsewhere")
    both = (str(data / "train"), str(data / "elsewhere"))
    with pytest.raises(ConfigError, match="keys of the training samples changed"):
        find(data, "new", train=both)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"neighbours": 2}, "neighbours was 5 and is now 2"), ({"detector": Knows("knows", "2")}, "detector was")],
)
def test_other_options_are_refused(data, changes, words):
    find(data)
    with pytest.raises(ConfigError, match=words):
        find(data, **changes)


def test_an_index_of_another_detector_is_refused_with_both_names(data):
    source = open_source(str(data / "train"))
    update_index(source, Knows("first"), data / "index")
    with pytest.raises(DataError, match=r"made by the detector first .*not by second"):
        update_index(source, Knows("second"), data / "index")
    with pytest.raises(DataError, match=r"detector first \(first 1\), not by first \(first 2\)"):
        update_index(source, Knows("first", "2"), data / "index")


def test_the_training_data_as_an_evaluation_set_is_asked_about(data):
    with pytest.raises(InputError, match="--same-data"):
        find(data, "train")
    shutil.copytree(data / "train", data / "copy")
    with pytest.raises(InputError, match="copy is part of the training data"):
        find(data, "copy")
    found = find(data, "train", same_data=True)
    assert found.sets[0].nearest.overlaps(0.9).all()


def test_a_set_larger_than_the_training_data(data):
    write_set(data / "large", range(400))
    [large] = find(data, "large").sets
    assert large.nearest.overlaps(0.9).sum() == 200


def test_sets_may_share_keys_but_not_names(data):
    write_set(data / "again", range(50, 70), keys=[f"{number:06d}" for number in range(40, 60)])
    shared, again = find(data, "shared", "again").sets
    assert shared.nearest.keys == again.nearest.keys and shared.nearest.nearest_keys != again.nearest.nearest_keys
    (data / "other").mkdir()
    write_set(data / "other" / "shared", range(5))
    with pytest.raises(InputError, match="two evaluation sets are called shared"):
        find(data, "shared", "other/shared")


def test_images_without_classes_are_searched(data):
    write_shards([sample(number, label=None) for number in (7, 5000)], data / "loose")
    [loose] = find(data, "loose").sets
    assert loose.images.benchmark is None
    assert loose.nearest.overlaps(0.9).tolist() == [True, False]


def test_a_broken_image_is_counted_and_the_others_are_searched(data):
    shard = data / "train" / "0.tar"
    content = bytearray(shard.read_bytes())
    place = content.find(b"\x89PNG")
    content[place : place + 40] = bytes(40)
    shard.write_bytes(content)
    found = find(data)
    assert found.index.num_broken == 1 and len(found.index) == 199


def test_images_without_captions_are_searched(data):
    (data / "pictures" / "deep").mkdir(parents=True)
    for number in (45, 46, 2000):
        Image.fromarray(pixels(number)).save(data / "pictures" / "deep" / f"{number}.png")
    [searched] = find(data, "pictures").sets
    assert searched.num_broken == 0 and searched.nearest.keys == ("deep/2000.png", "deep/45.png", "deep/46.png")
    assert searched.nearest.overlaps(0.9).tolist() == [False, True, True]


def test_a_refused_set_does_not_stay_in_the_list_of_the_folder(data):
    find(data, "shared")
    before = (data / "out" / "overlap.json").read_bytes()
    write_set(data / "elsewhere" / "shared", range(70, 90))
    with pytest.raises(DataError):
        find(data, "elsewhere/shared")
    assert (data / "out" / "overlap.json").read_bytes() == before
    find(data, "new")
    assert set(json.loads((data / "out" / "overlap.json").read_text())["sets"]) == {"shared", "new"}


def test_one_path_instead_of_several_is_refused(data):
    with pytest.raises(ConfigError, match="sequences of paths"):
        find(data, train=str(data / "train"))


def test_a_truncated_shard_is_counted(data):
    shard = data / "train" / "2.tar"
    shard.write_bytes(shard.read_bytes()[: 60 * 1024 + 700])
    found = find(data)
    assert 150 < len(found.index) < 200 and found.index.num_broken >= 1


def test_nothing_readable_is_an_error(data):
    for shard in (data / "train").glob("*.tar"):
        shard.write_bytes(b"")
    with pytest.raises(DataError, match="no image of"):
        find(data)


def test_a_folder_with_other_files_is_refused(data):
    (data / "out").mkdir()
    (data / "out" / "thesis.txt").write_text("")
    with pytest.raises(DataError, match="holds something else"):
        find(data)


def test_mirrored_images_are_found_by_the_mirrored_view():
    class Left:
        """The colour at the left edge."""

        name, image_fingerprint = "left", "left"

        def encode_images(self, images):
            return Knows().encode_images([np.repeat(np.asarray(image)[:, :1], 8, axis=1) for image in images])

    halves = np.concatenate([np.full((8, 4, 3), 10, np.uint8), np.full((8, 4, 3), 200, np.uint8)], axis=1)
    view = seen_in("mirrored", Left())
    assert np.allclose(view.encode_images([halves]), Left().encode_images([halves[:, ::-1]]))
    assert view.about.image_fingerprint != "left"


SEARCH = """
import sys, time
sys.path[:0] = [{tests!r}, {folder!r}]
from pathlib import Path
from known_images import Knows
from known_images import config
from diptych.overlap.detector import Detector
from diptych.overlap.find import find_overlap

class Slow(Knows):
    def encode_images(self, images):
        print("batch", flush=True)
        time.sleep(0.02)
        return super().encode_images(images)

find_overlap(config(Path({data!r})), Detector(Slow()))
print("done", flush=True)
"""


@pytest.mark.parametrize("after", [2, 5, 8])
def test_a_killed_search_goes_on(data, after):
    folder = Path(__file__).parent
    code = SEARCH.format(tests=str(folder.parent), folder=str(folder), data=str(data))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    for _ in range(after):
        process.stdout.readline()
    time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = find(data)
    shutil.rmtree(data / "out")
    whole = find(data)
    for killed, fresh in zip(found.sets, whole.sets, strict=True):
        assert killed.nearest.nearest_keys == fresh.nearest.nearest_keys
        assert np.array_equal(killed.nearest.scores, fresh.nearest.scores)
    assert len(found.index) == len(whole.index)


def test_the_options_name_what_was_searched(data):
    find(data)
    content = json.loads((data / "out" / "overlap.json").read_text())
    assert content["sets"] == {name: str((data / name).resolve()) for name in ("shared", "new")}
