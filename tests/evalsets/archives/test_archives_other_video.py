"""Frames of videos; UCF101, Kinetics-700 and RareAct, as they are unpacked."""

from types import SimpleNamespace

import numpy as np
import pytest
from miniatures_other import made, opened, video, write

from diptych.errors import DataError
from diptych.evalsets.cards import CARDS
from diptych.evalsets.opening import open_card, open_frames
from diptych.evalsets.video_frames import frames, middle_frame
from diptych.records import Broken


def greys(pictures) -> list[int]:
    """The grey of each picture, to the nearest ten: the codecs lose a little."""
    return [round(float(np.mean(picture)) / 10) * 10 for picture in pictures]


@pytest.mark.parametrize("name", ["a.avi", "a.mp4", "a.mkv"])
@pytest.mark.parametrize("count", [4, 5])
def test_the_middle_frame_in_several_formats(tmp_path, name, count):
    video(tmp_path / name, [50 * number for number in range(count)])
    frame = middle_frame(tmp_path / name)
    assert frame.dtype == np.uint8 and frame.shape == (16, 16, 3)
    assert greys([frame]) == [100]


@pytest.mark.parametrize("name", ["a.avi", "a.mp4", "a.mkv"])
@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, [100]), (2, [40, 140]), (5, [20, 60, 100, 140, 180]), (10, range(0, 200, 20)), (99, range(0, 200, 20))],
)
def test_frames_are_the_middles_of_equal_parts(tmp_path, name, count, expected):
    video(tmp_path / name, range(0, 200, 20))
    assert greys(frames(tmp_path / name, count)) == list(expected)


@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])  # libx264 stores frames in another order than they are shown
def test_any_part_of_a_video(tmp_path, codec):
    path = tmp_path / "a.mkv"
    video(path, range(0, 240, 10), codec)
    for number in range(24):
        start = (number - 0.5) / 10
        assert greys(frames(path, 1, start, start + 0.1)) == [10 * number]
    assert greys(frames(path, 3, 0.95, 1.25)) == [100, 110, 120]
    with pytest.raises(DataError, match="has no frames between 5 and 6 seconds"):
        middle_frame(path, 5, 6)


@pytest.mark.parametrize("count", [3, 7, 10, 11, 25])
def test_frames_that_an_avi_stores_in_another_order(tmp_path, count):
    path, step = tmp_path / "a.avi", 10
    video(path, range(0, step * count, step), "libx264")
    assert greys([middle_frame(path)]) == [count // 2 * step]
    assert greys(frames(path, count)) == list(range(0, step * count, step))
    assert greys(frames(path, 1, 0.15, 0.25)) == [2 * step]


def test_frames_come_one_at_a_time(tmp_path):
    video(tmp_path / "a.mp4", range(0, 200, 20))
    stream = frames(tmp_path / "a.mp4", 10)
    assert greys([next(stream), next(stream)]) == [0, 20]
    stream.close()


@pytest.mark.parametrize("content", [b"", b"no video at all", None])
def test_damaged_and_missing_videos(tmp_path, content):
    path = tmp_path / "a.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.mp4"):
        middle_frame(path)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.avi", "mpeg4"), ("a.mp4", "mpeg4"), ("a.mkv", "libx264"), ("a.webm", "libvpx-vp9")]
)
def test_a_video_that_is_cut_off(tmp_path, name, codec):
    path = tmp_path / name
    video(path, range(0, 200, 2), codec)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"a\.\w+ (is truncated|cannot be decoded|holds no video)"):
        middle_frame(path)


def test_sound_that_goes_on_longer_is_no_damage(tmp_path):
    path, av = tmp_path / "a.mkv", pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        seen, heard = container.add_stream("mpeg4", rate=10), container.add_stream("pcm_s16le", rate=8000)
        seen.width = seen.height = 16
        seen.pix_fmt = "yuv420p"
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), 20 * number, np.uint8), format="rgb24")
            container.mux(seen.encode(frame))
        container.mux(seen.encode())
        for start in range(0, 24_000, 800):  # three seconds
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            sound.rate, sound.pts = 8000, start
            container.mux(heard.encode(sound))
    assert greys([middle_frame(path)]) == [100]


def test_a_video_cut_off_in_its_header(tmp_path, monkeypatch):
    path, real, opened_ones, reasons = tmp_path / "a.mp4", pytest.importorskip("av"), [], []
    video(path, range(0, 200, 20))
    content = path.read_bytes()

    def opening(*args, **options):
        opened_ones.append(real.open(*args, **options))
        return opened_ones[-1]

    fake = SimpleNamespace(open=opening, FFmpegError=real.FFmpegError, time_base=real.time_base)
    monkeypatch.setattr("diptych.evalsets.video_frames.import_av", lambda: fake)
    for length in range(content.index(b"moov"), len(content) - 100, 3):
        path.write_bytes(content[:length])
        with pytest.raises(DataError, match=r"a\.mp4") as raised:
            middle_frame(path)
        reasons.append(str(raised.value))
    assert any("no decoder for its video; the file may be truncated" in reason for reason in reasons)
    for container in opened_ones:
        with pytest.raises(AssertionError, match="not open"):
            container.seek(0)


def test_no_frames_asked_for(tmp_path):
    with pytest.raises(DataError, match="number of frames of a video is 0"):
        next(frames(tmp_path / "a.mp4", 0))
    with pytest.raises(DataError, match="num_frames is 0; it must be at least 1"):
        open_frames(CARDS["UCF101"], tmp_path, num_frames=0)


def test_ucf101_by_its_lists(tmp_path):
    made("UCF101", tmp_path)
    names = open_card(CARDS["UCF101"], tmp_path).class_names
    items = opened("UCF101", tmp_path)
    assert [names[item.label] for item in items] == ["Hand Stand Pushups", "Yo Yo"]
    assert [item.key for item in items] == [
        "HandstandPushups/v_HandStandPushups_g01_c01.avi",
        "YoYo/v_YoYo_g01_c01.avi",
    ]
    assert greys(item.image for item in items) == [100, 100]
    assert [names[item.label] for item in opened("UCF101", tmp_path, "train")] == ["Apply Eye Makeup"]


def test_ucf101_folds(tmp_path):
    folder = made("UCF101", tmp_path)
    (item,) = opened("UCF101", tmp_path, fold=2)
    assert item.label == 0
    assert len(opened("UCF101", tmp_path, "train", fold=2)) == 2
    assert len(opened("UCF101", tmp_path, fold=1)) == len(opened("UCF101", tmp_path)) == 2
    with pytest.raises(DataError, match=r"lacks ucfTrainTestlist/testlist03.txt"):
        opened("UCF101", tmp_path, fold=3)
    with pytest.raises(DataError, match="has the folds 1, 2 and 3, not 4"):
        opened("UCF101", tmp_path, fold=4)
    write(folder / "ucfTrainTestlist/testlist03.txt", ["../../a.avi"])
    with pytest.raises(DataError, match=r"testlist03.txt:1: .* leads out"):
        opened("UCF101", tmp_path, fold=3)
    write(folder / "ucfTrainTestlist/testlist03.txt", ["Juggling/a.avi"])
    with pytest.raises(DataError, match="is none of the 101 classes of UCF101"):
        opened("UCF101", tmp_path, fold=3)


def test_a_set_without_folds(tmp_path):
    made("Kinetics700", tmp_path)
    with pytest.raises(DataError, match="Kinetics700 has no folds; leave fold 2 out"):
        open_card(CARDS["Kinetics700"], tmp_path, fold=2)


def test_kinetics_tests_on_the_validation_clips(tmp_path):
    folder = made("Kinetics700", tmp_path)
    names = open_card(CARDS["Kinetics700"], tmp_path).class_names
    assert [names[item.label] for item in opened("Kinetics700", tmp_path)] == [
        "backflip (human)",
        "massaging person's head",
    ]
    assert [names[item.label] for item in opened("Kinetics700", tmp_path, "train")] == ["abseiling", "zumba"]
    (folder / "val/backflip (human)/three_000001_000011.mp4").write_bytes(b"damaged")
    broken, whole = opened("Kinetics700", tmp_path)
    assert isinstance(broken, Broken) and not isinstance(whole, Broken)
    video(folder / "val/loafing/a.mp4", (0, 100))
    with pytest.raises(DataError, match="a folder loafing, which is none of the set's 700 classes"):
        opened("Kinetics700", tmp_path)


def test_open_frames_gives_several_frames_of_each_clip(tmp_path):
    folder = made("UCF101", tmp_path)
    benchmark = open_frames(CARDS["UCF101"], tmp_path, "test", 3)
    (shard,) = range(len(benchmark.source.shards))
    items = list(benchmark.source.read(shard))
    clips = ["HandstandPushups/v_HandStandPushups_g01_c01.avi", "YoYo/v_YoYo_g01_c01.avi"]
    assert [(item.key, item.metadata["clip"]) for item in items] == [(f"{c}#{n}", c) for c in clips for n in range(3)]
    assert greys(item.image for item in items) == [0, 100, 200] * 2
    assert benchmark.class_names == open_card(CARDS["UCF101"], tmp_path).class_names
    prints = {open_frames(CARDS["UCF101"], tmp_path, "test", n).fingerprint for n in (2, 3)}
    assert len({*prints, open_card(CARDS["UCF101"], tmp_path).fingerprint}) == 3
    (folder / "UCF-101" / clips[0]).write_bytes(b"damaged")
    assert [isinstance(item, Broken) for item in benchmark.source.read(0)] == [True, False, False, False]
    assert len(list(open_frames(CARDS["UCF101"], tmp_path, "test", 2, fold=2).source.read(0))) == 2


def test_open_frames_needs_videos(tmp_path):
    with pytest.raises(DataError, match="UCF101 is not in"):
        open_frames(CARDS["UCF101"], tmp_path)
    made("Country211", tmp_path)
    with pytest.raises(DataError, match="is not stored as videos"):
        open_frames(CARDS["Country211"], tmp_path)


def test_rareact_segments(tmp_path):
    folder = made("RareAct", tmp_path)
    benchmark = open_card(CARDS["RareAct"], tmp_path)
    assert benchmark.class_names == ("wash door", "cut phone")
    first, second = opened("RareAct", tmp_path)
    assert greys([first.image, second.image]) == [0, 200]
    assert (first.key, first.label, second.label) == ("0", 1, 0)
    assert dict(first.metadata) == {
        **{"video": "abc-_1", "start": 0.0, "end": 1.0, "verb": "cut", "noun": "phone", "annotation": 1},
    }
    several = list(open_frames(CARDS["RareAct"], tmp_path, num_frames=2).source.read(0))
    assert [item.metadata["clip"] for item in several[:4]] == ["0", "0", "1", "1"]
    assert greys(item.image for item in several[:4]) == [0, 0, 200, 200]
    rows = ["id,video_id,start,end,class_id,verb,noun,annotation", "0,abc-_1,0,1,1,cut,phone,5"]
    write(folder / "rareact.csv", rows)
    with pytest.raises(DataError, match="the 1 classes do not count from 0"):
        opened("RareAct", tmp_path)
    write(folder / "rareact.csv", [rows[0], "0,abc-_1,0,1,0,cut,phone,5"])
    with pytest.raises(DataError, match=r"rareact.csv:2: the annotation is 5"):
        opened("RareAct", tmp_path)
    write(folder / "rareact.csv", [rows[0], "0,../x,0,1,0,cut,phone,1"])
    with pytest.raises(DataError, match="leads out"):
        opened("RareAct", tmp_path)


def test_rareact_videos_that_are_gone_are_passed_over_and_counted(tmp_path, caplog):
    folder = made("RareAct", tmp_path)
    path = folder / "videos/abc-_1.mp4"
    assert [item.key for item in opened("RareAct", tmp_path)] == ["0", "1"]
    assert "RareAct: 2 of 3 listed segments are there; missing videos: 1" in caplog.text
    path.write_bytes(b"damaged")  # it is there
    assert [type(item) for item in opened("RareAct", tmp_path)] == [Broken, Broken]
    path.unlink()
    with pytest.raises(DataError, match=r"has none of the 2 videos that rareact\.csv lists"):
        opened("RareAct", tmp_path)
