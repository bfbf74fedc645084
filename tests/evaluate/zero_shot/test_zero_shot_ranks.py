"""A set measured by several ranks: each encodes its share, all count all of it."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from ranks import run_ranks

from diptych import distributed
from diptych.data.shards import write_shards
from diptych.errors import DataError
from diptych.evalsets.benchmark import open_benchmark
from diptych.evaluate import ZeroShot
from diptych.records import Sample

NAMES = ("red", "green", "blue")


class Colours:
    """An encoder that knows three colours, and counts what it is asked for."""

    name = "colours"

    def __init__(self) -> None:
        self.num_pictures = 0

    def encode_images(self, pictures):
        self.num_pictures += len(pictures)
        values = torch.stack([torch.tensor(picture.convert("RGB").getpixel((0, 0))).float() for picture in pictures])
        return torch.nn.functional.normalize(values + 1, dim=1)

    def encode_texts(self, texts):
        return torch.eye(3)[[next(i for i, name in enumerate(NAMES) if name in text) for text in texts]]


def write_set(folder: Path, num: int) -> None:
    samples = []
    for number in range(num):
        # Every fourth picture has another class's colour.
        shown = (number + (number % 4 == 0)) % 3
        colour = [20 * (number % 5)] * 3
        colour[shown] = 250
        path = folder / f"{number}.png"
        Image.new("RGB", (8, 8), tuple(colour)).save(path)
        samples.append(Sample(f"s{number:03}", path.read_bytes(), (), number % 3))
    write_shards(samples, folder / "set" / "test", shard_size=7)
    (folder / "set" / "classnames.txt").write_text("\n".join(NAMES) + "\n")
    (folder / "set" / "zeroshot_classification_templates.txt").write_text("{c}\nsomething {c}\n")


def measured(folder: str) -> dict:
    encoder = Colours()
    evaluator = ZeroShot(open_benchmark(Path(folder) / "set"))
    results = evaluator(encoder)
    found = evaluator.predict(encoder)["single"]
    values = {f"{one.metric}/{one.protocol}": [one.value, one.n] for one in results}
    return {
        "values": values,
        "keys": list(found.keys),
        "classes": torch.from_numpy(found.classes),
        "labels": torch.from_numpy(found.labels),
        "pictures": encoder.num_pictures // 2,
        "rank": distributed.rank(),
    }


@pytest.mark.parametrize(("num", "world_size"), [(23, 2), (23, 3), (2, 3)])
def test_ranks_count_as_one_process_does(tmp_path, num, world_size):
    write_set(tmp_path, num)
    alone, ranks = measured(str(tmp_path)), run_ranks(world_size, measured, str(tmp_path))
    assert alone["pictures"] == num
    assert alone["keys"] == [f"{number // 7}/s{number:03}" for number in range(num)]
    for one in ranks:
        assert one["values"] == alone["values"] and one["keys"] == alone["keys"]
        assert torch.equal(one["classes"], alone["classes"]) and torch.equal(one["labels"], alone["labels"])
        assert one["pictures"] == len(range(one["rank"], num, world_size))


def test_an_empty_set_is_refused_by_all(tmp_path):
    write_set(tmp_path, 3)
    for shard in (tmp_path / "set" / "test").glob("*.tar"):
        shard.unlink()
    with pytest.raises(DataError):
        measured(str(tmp_path))
