"""HDF5 files and videos are read in a process of their own: whatever their libraries do, this one goes on."""

import os
import signal

import numpy as np
import pytest

from diptych.errors import DataError
from diptych.evalsets.archives import hdf5
from diptych.evalsets.set_sources import Entry
from diptych.evalsets.video_frames import VideoSource, frames, read_frames
from diptych.records import Broken, Sample


def crash(path: str, *_: object) -> tuple[None, bytes]:
    """What a library does over a damaged file."""
    os.abort()


def fill(path: str, *_: object) -> tuple[None, bytes]:
    """A bomb."""
    return None, bytes(8 << 30)


def video(path, num_frames=12):
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), 20 * number, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_frames_from_there_are_the_frames(tmp_path):
    path = video(tmp_path / "a b.mp4")
    for arguments in ((1, None, None), (3, None, None), (50, 0.2, 0.7)):
        expected, found = list(frames(path, *arguments)), read_frames(path, *arguments)
        assert [one.tolist() for one in found] == [one.tolist() for one in expected] and len(found) > 0
        assert found[0].flags.writeable


@pytest.mark.parametrize(("function", "reason"), [(crash, "SIGABRT"), (fill, "")])
def test_a_video_over_which_ffmpeg_crashes_or_fills_the_memory_is_broken(tmp_path, monkeypatch, function, reason):
    for name in ("0.mp4", "1.mp4"):
        video(tmp_path / name)
    source = VideoSource(tmp_path, [Entry("0.mp4", 0), Entry("1.mp4", 1)])
    monkeypatch.setattr("diptych.evalsets.video_frames.decoded_frames", function)
    broken = list(source.read(0))
    assert all(isinstance(one, Broken) and reason in one.reason and "mp4" in one.reason for one in broken)
    monkeypatch.undo()
    assert all(isinstance(one, Sample) for one in source.read(0)) and len(broken) == 2
    assert signal.getsignal(signal.SIGABRT) == signal.SIG_DFL


def test_an_hdf5_file_over_which_its_library_crashes(tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.arange(24, dtype=np.uint8).reshape(4, 2, 3))
    monkeypatch.setattr(hdf5, "read", crash)
    with pytest.raises(DataError, match=r"a\.h5 .*SIGABRT"):
        hdf5.read_array(tmp_path / "a.h5", "x")
    monkeypatch.undo()
    assert hdf5.array_type(tmp_path / "a.h5", "x") == ((4, 2, 3), np.dtype("u1"))
    assert hdf5.read_array(tmp_path / "a.h5", "x", 1, 3).tolist() == np.arange(24).reshape(4, 2, 3)[1:3].tolist()


def test_hdf5_that_reads_other_files_or_is_a_bomb_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    secret = tmp_path / "secret.txt"
    secret.write_bytes(b"secret" * 4)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.arange(4)
    layout = h5py.VirtualLayout((4,), "i8")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (4,))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["link"] = h5py.ExternalLink("other.h5", "x")
        file.create_dataset("raw", (24,), "u1", external=[(str(secret), 0, 24)])
        file.create_virtual_dataset("virtual", layout)
        file.create_dataset("bomb", (40, 1 << 30), "u1", chunks=(1, 1 << 20), compression="gzip")
        file["soft"] = h5py.SoftLink("/link")
    for name in ("link", "raw", "virtual", "bomb", "soft", "none"):
        with pytest.raises(DataError, match=r"a\.h5 .*(no array of numbers|in another file|too many)"):
            hdf5.read_array(tmp_path / "a.h5", name)
