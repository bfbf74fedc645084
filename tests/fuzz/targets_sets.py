"""Evaluation sets and image folders as they come from the hub: lists, tables and parquet files of every make."""

import decimal
import itertools
import json
import random
import string
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from mutations import odd_value
from pictures import encoded
from target import Seed, Target
from targets_data import check_source, noise, parquet_file
from tars import tar_of

from diptych.data.parquet_columns import count_rows, distinct_labels
from diptych.errors import DataError
from diptych.evalsets.benchmark import Benchmark, open_benchmark
from diptych.evalsets.cards import get_card
from diptych.evalsets.opening import open_card
from diptych.evalsets.parquet_sets import split_files
from diptych.records import Broken, Sample

PNG = encoded(noise(8, 8), "PNG")


# ---- metadata.jsonl beside pictures


def metadata_seeds(folder: Path) -> list[Seed]:
    """Hugging Face's image folders: one caption, several, objects with more columns; rows without a file."""
    (folder / "images" / "train").mkdir(parents=True)
    for name in ("a.png", "train/b.png"):
        (folder / "images" / name).write_bytes(PNG)
    (folder / "images" / "link.png").symlink_to("/etc/passwd")
    rows = [{"file_name": "a.png", "text": "a cat"}, {"file_name": "train/b.png", "text": "a dog"}]
    more = [{**row, "objects": {"bbox": [[1, 2, 3, 4]]}, "width": 8, "text": None} for row in rows] + rows
    odd = [
        {"file_name": name, "text": "x"} for name in ("../../../etc/passwd", "/dev/zero", "link.png", ".", "", "a\0")
    ]
    files = [(rows, True), (more, True), ([*rows, *odd], True), (odd, False), ([[rows]], False), ([{}], False)]
    made = [("".join(json.dumps(row) + "\n" for row in one), sound) for one, sound in files]
    made += [(text, False) for text in ("[[3, {}]]\n", '[["a", 1]]\n', "7\n")]
    made += [(f"{'[' * 100_000}\n", False), (f"{made[0][0]}{{'x'", True), (made[0][0].replace("\n", "\r\n"), True)]
    return [Seed("images/metadata.jsonl", text.encode(), sound) for text, sound in made]


def random_metadata(rng: random.Random) -> Seed:
    """Rows with odd values in any column."""
    names = ["file_name", "text", "caption", "image", "label", "", "file_name "]
    rows = []
    for _ in range(rng.randrange(1, 9)):
        row: dict[str, Any] = {"file_name": rng.choice(["a.png", "train/b.png"]), "text": "a cat"}
        row[rng.choice(names)] = odd_value(rng)
        rows.append(json.dumps(row, ensure_ascii=rng.random() < 0.5))
    text = rng.choice(["\n", "\n", "\r\n", "\n\n", "\r", ""]).join(rows)
    return Seed("images/metadata.jsonl", text.encode("utf-8", "surrogatepass"), sound=False)


def check_folder(path: Path) -> None:
    """The folder is opened, as a user names it."""
    check_source(path.parent)


# ---- parquet of every make

_PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_KINDS: tuple[pa.DataType, ...] = (
    *(pa.int8(), pa.uint64(), pa.int64(), pa.float16(), pa.float64(), pa.bool_(), pa.string(), pa.large_string()),
    *(
        pa.binary(),
        pa.large_binary(),
        pa.binary(4),
        pa.null(),
        pa.date32(),
        pa.timestamp("ns", "UTC"),
        pa.duration("s"),
    ),
    *(pa.decimal128(30, 3), pa.list_(pa.string()), pa.large_list(pa.binary()), pa.list_(pa.list_(pa.int8()))),
    *(pa.list_(pa.string(), 2), _PICTURE),
    *(
        pa.struct([("bytes", pa.string())]),
        pa.struct([("path", pa.string())]),
        pa.list_(pa.struct([("text", pa.string())])),
    ),
    *(pa.dictionary(pa.int32(), pa.string()), pa.dictionary(pa.int8(), pa.binary()), pa.map_(pa.string(), pa.int32())),
    *(pa.list_(pa.dictionary(pa.int32(), pa.string())), pa.string_view(), pa.binary_view()),
)
_COLUMNS = (
    "image",
    "jpg",
    "img",
    "path",
    "file_name",
    "text",
    "caption",
    "captions",
    "label",
    "cls",
    "fine_label",
    "x",
)


def random_values(kind: pa.DataType, count: int, rng: random.Random) -> list[Any]:
    """Values of a type, some of them missing."""
    texts = ["a cat", "", "é\u202e", "x" * 3000, "a.png", "../x", "\0"]

    def one(kind: pa.DataType) -> Any:
        if rng.random() < 0.1 or pa.types.is_null(kind):
            return None
        if pa.types.is_fixed_size_binary(kind):
            return rng.randbytes(4)
        if "binary" in str(kind) and not pa.types.is_nested(kind) and not pa.types.is_dictionary(kind):
            return rng.choice([PNG, b"", b"\xff\xfe", b"a cat"])
        if pa.types.is_struct(kind):
            return {kind.field(place).name: one(kind.field(place).type) for place in range(kind.num_fields)}
        if pa.types.is_map(kind):
            return [(rng.choice(texts), 3)]
        if pa.types.is_fixed_size_list(kind):
            return [one(kind.value_type) for _ in range(2)]
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            return [one(kind.value_type) for _ in range(rng.choice([0, 1, 1, 3, 60]))]
        if pa.types.is_dictionary(kind):
            return rng.choice(texts) if "string" in str(kind) else PNG
        if pa.types.is_decimal(kind):
            return decimal.Decimal("1.5")
        if pa.types.is_floating(kind):
            return np.float16(rng.choice([0.5, float("nan"), float("inf")])) if kind == pa.float16() else 1.5
        if pa.types.is_boolean(kind):
            return True
        if pa.types.is_integer(kind) or pa.types.is_temporal(kind):
            return rng.choice([0, 1, 1, 3, 127] if pa.types.is_unsigned_integer(kind) else [0, 1, 1, -1, 127])
        return rng.choice(texts)

    return [one(kind) for _ in range(count)]


def random_table(rng: random.Random) -> bytes:
    """A file of columns of any types under the names that readers look for, in any of the format's encodings."""
    count = rng.choice([0, 1, 3, 9, 200])
    names = rng.sample(_COLUMNS, rng.randrange(0, 6))
    fields = {name: rng.choice(_KINDS) for name in names}
    if rng.random() < 0.6:  # else few files get past the columns
        fields["image"] = rng.choice([pa.binary(), _PICTURE])
        fields |= {"label": rng.choice([pa.int8(), pa.uint64(), pa.int64()])} if rng.random() < 0.6 else {}
        fields |= {"text": rng.choice(_KINDS)} if rng.random() < 0.6 else {}
    if rng.random() < 0.1:
        fields |= {name.upper(): pa.int8() for name in list(fields)[:1]}
    columns = [pa.array(random_values(kind, count, rng), kind) for kind in fields.values()]
    made = pa.Table.from_arrays(columns, names=list(fields))
    if rng.random() < 0.7:
        made = made.replace_schema_metadata({b"huggingface": random_features(rng), b"pandas": b"{}"})
    options: dict[str, Any] = {
        "row_group_size": rng.choice([1, 2, 1000]),
        "compression": rng.choice(["none", "snappy", "gzip", "zstd", "lz4", "brotli"]),
        "data_page_version": rng.choice(["1.0", "2.0"]),
        "use_dictionary": rng.random() < 0.5,
        "write_page_checksum": rng.random() < 0.3,
        "write_page_index": rng.random() < 0.3,
        "store_schema": rng.random() < 0.7,
        "data_page_size": rng.choice([1, 1000, 1 << 20]),
        "version": rng.choice(["1.0", "2.4", "2.6"]),
    }
    return parquet_file(made, **options)


def random_features(rng: random.Random) -> bytes:
    """What the datasets library writes beside a label column, or something else."""
    names: Any = rng.choice(
        [["cat", "dog", "bird", "fox"], ["cat", "cat"], [], [1, 2], "cat", None, {"0": "cat"}, [""]]
    )
    features: Any = {"label": {"names": names, "_type": "ClassLabel"}}
    whole = {"info": {"features": features}}
    return rng.choice([json.dumps(whole).encode()] * 5 + [b"", b"\xff", b"[" * 100_000, b'{"info": []}', b"null"])


def random_parquet(rng: random.Random) -> Seed:
    """A made file, as it is or with damage in it."""
    from mutations import damaged

    while True:
        try:
            data = random_table(rng)
        except (pa.ArrowException, TypeError, ValueError, NotImplementedError):
            continue  # types that this version of PyArrow does not write
        return Seed("set/test-00000-of-00001.parquet", damaged(data, rng) if rng.random() < 0.5 else data, sound=False)


def parquet_set_seeds(folder: Path) -> list[Seed]:
    """A set as the hub has it."""
    features = json.dumps({"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}})
    rows = pa.table({"image": [{"bytes": PNG, "path": "a.png"}] * 6, "label": [0, 1] * 3})
    rows = rows.replace_schema_metadata({b"huggingface": features.encode()})
    return [Seed("set/test-00000-of-00001.parquet", parquet_file(rows, row_group_size=2))]


def check_parquet_set(path: Path) -> None:
    """As pairs to train on, as an evaluation set, and counted."""
    answers = 0
    for read in (check_source, check_set, check_counted):
        try:
            read(path.parent if read is check_set else path)
            answers += 1
        except DataError:
            continue
    if not answers:
        raise DataError("no reader takes it")


def check_counted(path: Path) -> None:
    """Rows and labels, as `data check` asks for them."""
    files = split_files(path.parent, "test")
    assert count_rows(files) >= 0
    assert all(label is None or isinstance(label, int) for label in distinct_labels(files))


# ---- sets in the wds layout


def set_seeds(folder: Path) -> list[Seed]:
    """Lists of classes, templates and shards beside one shard."""
    (folder / "CIFAR10" / "test").mkdir(parents=True)
    samples = [(f"{n:03d}.{end}", data) for n in range(4) for end, data in (("png", PNG), ("cls", b"%d" % (n % 2)))]
    names, templates = "cat\ndog\n", "a photo of a {c}.\na drawing of a {c}.\n"
    files = [
        ("classnames.txt", names),
        ("zeroshot_classification_templates.txt", templates),
        ("test/nshards.txt", "1\n"),
    ]
    for name, data in [(name, text.encode()) for name, text in files] + [("test/0.tar", tar_of(samples))]:
        (folder / "CIFAR10" / name).write_bytes(data)
    odd = [
        *(
            ("classnames.txt", text)
            for text in ("", "cat", "cat\ncat\n", "\n\n", "{c}\n{0.__class__}\n", "n01855672\nx\n")
        ),
        *(("zeroshot_classification_templates.txt", text) for text in ("", "x", "{c}{", "{c.__class__}", "%s {c}")),
        *(("test/nshards.txt", text) for text in ("", "0", "-1", "9" * 400, "1e3", "\u0661", "999999")),
    ]
    return [
        *(Seed(f"CIFAR10/{name}", text.encode()) for name, text in files),
        Seed("CIFAR10/test/0.tar", tar_of(samples)),
        *(Seed(f"CIFAR10/{name}", text.encode(), sound=False) for name, text in odd),
    ]


def random_list(rng: random.Random) -> Seed:
    """Lines of any words."""
    words = [
        "cat",
        "dog",
        "{c}",
        "{",
        "}",
        "{}",
        "%s",
        "\0",
        "\ufeff",
        "\u2028",
        "é",
        " ",
        "n01855672",
        "7",
        "\r",
        "\x85",
    ]
    name = rng.choice(["classnames.txt", "zeroshot_classification_templates.txt", "test/nshards.txt"])
    lines = [
        "".join(rng.choices([*words, *string.ascii_letters], k=rng.randrange(0, 6))) for _ in range(rng.randrange(9))
    ]
    return Seed(f"CIFAR10/{name}", "\n".join(lines).encode(), sound=False)


def check_wds(path: Path) -> None:
    """As a set of one's own and as the paper's."""
    folder = next(parent for parent in path.parents if parent.name == "CIFAR10")
    errors = []
    for read in (lambda: check_set(folder), lambda: check_benchmark(open_card(get_card("CIFAR10"), folder.parent))):
        try:
            read()
        except DataError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def check_set(folder: Path) -> None:
    """Every sample has a label of a class that has a name."""
    check_benchmark(open_benchmark(folder))


def check_benchmark(found: Benchmark) -> None:
    """Names and templates are texts, labels are theirs."""
    assert len(found.class_names) >= 2 and all(isinstance(name, str) and name for name in found.class_names)
    for template in found.templates:
        assert "dog" in template.replace("{c}", "dog")
    some = False
    for index in range(min(len(found.source.shards), 20)):
        for item in itertools.islice(found.source.read(index), 500):
            assert isinstance(item, Sample | Broken)
            if isinstance(item, Sample):
                assert item.label is not None and 0 <= item.label < len(found.class_names)
                some = True
    if not some:
        raise DataError("no sample in it")


SETS = (
    Target("metadata", metadata_seeds, check_folder, random_metadata),
    Target("parquet-set", parquet_set_seeds, check_parquet_set, random_parquet),
    Target("wds-set", set_seeds, check_wds, random_list),
)
