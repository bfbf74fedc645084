"""Video sets with several frames of each clip, for predictions averaged over them."""

import dataclasses
from pathlib import Path

from diptych.data.benchmarks import Benchmark
from diptych.data.cards.card import Card
from diptych.data.cards.opening import find_folder, find_layout, from_source, missing, read_layout
from diptych.data.cards.video import VideoSource
from diptych.errors import DataError


def open_frames(
    card: Card, root: str | Path, split: str = "test", num_frames: int = 8, *, fold: int | None = None
) -> Benchmark:
    """Open a video set with several frames of each clip; `open_card` gives the middle frame of each.

    Args:
        card: which set.
        root: the folder that holds the sets, as for `open_card`.
        split: "train" or "test".
        num_frames: of each clip, spread evenly; a clip with fewer gives all that it has.
        fold: which of the set's divisions, from 1; None for the first.
    Returns:
        A Benchmark whose samples have {"clip": the video's key} in their metadata. A damaged clip is one Broken.
    Raises:
        DataError: the set is not there, has no such split, or is not there as videos.
    Source: CLIP paper, appendix E.3 (table 15): zero-shot predictions averaged over frames.
    """
    if num_frames < 1:
        raise DataError(f"{num_frames} frames of each clip were asked for; ask for one or more")
    folder = find_folder(card, root)
    if folder is None:
        raise DataError(missing(card, root))
    layout = find_layout(card, folder)
    source = read_layout(card, layout, folder, split, fold) if layout else None
    if layout is None or not isinstance(source, VideoSource):
        raise DataError(f"{card.title} in {folder} is not there as videos, so that it has no more than one frame each")
    words = layout.words(folder) if layout.words else None
    return from_source(card, dataclasses.replace(source, num_frames=num_frames), split, words)
