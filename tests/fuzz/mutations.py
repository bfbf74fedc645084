"""Damage to files: bytes flipped, cut, spliced, numbers made huge; JSON, tar, ZIP, safetensors also with their form."""

import copy
import io
import json
import random
import struct
import zipfile
from typing import Any

ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, -(10**30), 1e308, 1e-320, float("nan"), float("inf")),
    *("", "\0", "../../x", "/etc/passwd", "\ud800", "{c}", "{0.__class__}", "a" * 5000, "auto", "__class__"),
    *([], {}, [[]], {"": None}, [0] * 300, ["a"] * 300, {"a": {"a": {"a": []}}}),
)
_ODD_BYTES = (
    b"\0",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\xff" * 8,
    b'"',
    b"\n",
    b"-1",
    b"9" * 20,
    b"\\u0000",
)


def odd_value(rng: random.Random) -> Any:
    """A copy: what is changed further must not change the next example's."""
    return copy.deepcopy(rng.choice(ODD_VALUES))


def mutated(name: str, data: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """A damaged copy: half of the time the form that the name promises is kept, so that damage reaches deeper."""
    form = next((form for end, form in _FORMS.items() if name.endswith(end)), None)
    if form is not None and rng.random() < 0.6:
        try:
            return form(data, rng)
        except (ValueError, OverflowError, KeyError, IndexError, struct.error, zipfile.BadZipFile, RecursionError):
            pass  # a seed that is damaged itself
    return damaged(data, rng, others)


def damaged(data: bytes, rng: random.Random, others: list[bytes] | None = None) -> bytes:
    """One to eight changes of bytes."""
    content = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 4, 8])):
        at, kind = rng.randrange(len(content) + 1), rng.randrange(7)
        if rng.random() < 0.3:  # headers and footers decide most
            at = min(len(content), rng.choice([at % 64, max(0, len(content) - 1 - at % 64)]))
        if kind == 0:
            content[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1 and at < len(content):
            content[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            odd = rng.choice(_ODD_BYTES)
            content[at : at + len(odd)] = odd
        elif kind == 3:
            content[at:at] = rng.choice(_ODD_BYTES) * rng.choice([1, 1, 7])
        elif kind == 4:
            del content[at : at + rng.choice([1, 4, 64, len(content) // 4])]
        elif kind == 5:
            other = rng.choice(others or [data])
            start = rng.randrange(len(other) + 1)
            content[at : at + 32] = other[start : start + rng.choice([4, 32, 512])]
        elif kind == 6 and rng.random() < 0.3:
            del content[at:]
    return bytes(content)


def change_json(data: bytes, rng: random.Random) -> bytes:
    """A value replaced by one of another type or size, removed, doubled, renamed, or put deep inside lists."""
    value = json.loads(data)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        places = list(_places(value))
        if not places:
            return json.dumps(odd_value(rng)).encode()
        parent, key = rng.choice(places)
        kind = rng.random()
        if kind < 0.7:
            parent[key] = odd_value(rng)
        elif kind < 0.8 and isinstance(parent[key], int | float):
            parent[key] = parent[key] * rng.choice([-1, 0.5, 2, 1000, 10**9])
        elif kind < 0.9:
            del parent[key]
        elif isinstance(parent, dict):
            parent[rng.choice(["x", key.upper(), f"{key} "])] = parent.pop(key)
    text = json.dumps(value)
    if rng.random() < 0.03:
        depth = rng.choice([100, 100_000])
        text = text.replace(": ", f': {"[" * depth}{"]" * depth}, "more": ', 1)
    return text.encode()


def _places(value: Any) -> Any:
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def change_json_line(data: bytes, rng: random.Random) -> bytes:
    """One line of several."""
    lines = data.split(b"\n")
    at = rng.randrange(max(1, len(lines) - 1))
    lines[at] = change_json(lines[at], rng)
    return b"\n".join(lines)


def change_safetensors(data: bytes, rng: random.Random) -> bytes:
    """The header, with a length that fits."""
    length = struct.unpack("<Q", data[:8])[0]
    header = change_json(data[8 : 8 + length], rng)
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


def change_zip(data: bytes, rng: random.Random) -> bytes:
    """One member damaged, in an archive whose sums fit again."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    chosen = rng.randrange(len(members))
    if rng.random() < 0.6:  # the pickle says what the others are
        chosen = next((at for at, (name, _) in enumerate(members) if name.endswith("data.pkl")), chosen)
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for at, (name, content) in enumerate(members):
            archive.writestr(name, damaged(content, rng) if at == chosen else content)
    return stream.getvalue()


def change_tar(data: bytes, rng: random.Random) -> bytes:
    """A header's field, with a checksum that fits."""
    content = bytearray(data)
    headers = [at for at in range(0, len(content) - 511, 512) if content[at + 257 : at + 262] == b"ustar"]
    at = rng.choice(headers)
    field, length = rng.choice([(0, 100), (100, 8), (124, 12), (124, 12), (136, 12), (156, 1), (157, 100), (345, 155)])
    odd = (
        b"77777777777",
        b"\x80" + b"\0" * 3 + b"\xff" * 7,
        b"\xff" * 10 + b"\xfe\0",  # -512: Python's own reader comes back to the same header for ever
        b"-1",
        b"../../x",
        b"a.b.c",
        b"L",
        b"x",
        b"2",
        b"",
        b"\xff",
    )
    content[at + field : at + field + length] = rng.choice(odd)[:length].ljust(length, b"\0")
    content[at + 148 : at + 156] = b" " * 8
    content[at + 148 : at + 156] = b"%06o\0 " % sum(content[at : at + 512])
    return bytes(content)


_FORMS = {
    ".json": change_json,
    ".jsonl": change_json_line,
    ".safetensors": change_safetensors,
    ".pt": change_zip,
    ".tar": change_tar,
}
