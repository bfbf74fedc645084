"""Runs that are started and resumed, and data that changes in between."""

import dataclasses
import os
from pathlib import Path

from training import generated_pairs, tiny_config

from diptych.train import fit


def write_folder(folder: Path, number: int = 60) -> Path:
    folder.mkdir(parents=True)
    for index, pair in enumerate(generated_pairs(number)):
        (folder / f"{index:03d}.png").write_bytes(pair.image)
        (folder / f"{index:03d}.txt").write_text(pair.texts[0])
    return folder


def write_table(folder: Path) -> Path:
    write_folder(folder / "pictures")
    rows = [f"pictures/{one.stem}.png,{one.read_text()}" for one in sorted((folder / "pictures").glob("*.txt"))]
    (folder / "captions.csv").write_text("filepath,caption\n" + "\n".join(rows) + "\n")
    return folder / "captions.csv"


def begun(out: Path, data: Path | str, **changes):
    """A run of two updates with a checkpoint after the first; the configuration to resume it."""
    config = tiny_config(out, 2, data=(str(data),), **changes)
    first = dataclasses.replace(config.checkpoint, every_steps=1)
    config = dataclasses.replace(config, checkpoint=first)
    fit(config)
    (out / "checkpoints/step-000000002.pt").unlink()
    return config


def again(config, data) -> int:
    return fit(dataclasses.replace(config, data=(str(data),)), resume=True).step


def replace_keeping_time(path: Path, content: bytes) -> None:
    """Rewrite a file with the same size and modification time, as `rsync -t` and `tar x` can do."""
    before = path.stat()
    assert len(content) == before.st_size
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
