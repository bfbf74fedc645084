"""The tar reader against the standard library's, on good archives and on damaged and hostile ones."""

import bz2
import gzip
import io
import lzma
import random
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tars import tar_of

from diptych.data.tar import MAX_MEMBER_BYTES, DamagedArchiveError, Member, MissingEndError, read_members, read_names


def special(name: str, kind: bytes, **fields: object) -> bytes:
    """The header of a member that is no regular file."""
    info = tarfile.TarInfo(name)
    info.type = kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT)


def read(folder: Path, content: bytes) -> tuple[list[Member], DamagedArchiveError | None]:
    path = folder / "a.tar"
    path.write_bytes(content)
    members = []
    try:
        for member in read_members(path):
            members.append(member)
    except DamagedArchiveError as error:
        return members, error
    return members, None


def names_alone(path: Path) -> tuple[list[tuple[str, str]], str]:
    """What `read_names` gives, and the error at its end."""
    found = []
    try:
        for member in read_names(path):
            assert not member.data
            found.append((member.name, member.refusal))
    except DamagedArchiveError as error:
        return found, f"{type(error).__name__}: {error}"
    return found, ""


def by_tarfile(content: bytes) -> list[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(content)) as file:
        return [(info.name, file.extractfile(info).read()) for info in file if info.isreg()]


names = st.lists(
    st.text(st.characters(blacklist_characters="/\\\0", blacklist_categories=("Cs",)), min_size=1, max_size=120).filter(
        lambda part: part not in (".", "..")
    ),
    min_size=1,
    max_size=3,
).map("/".join)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    members=st.lists(st.tuples(names, st.binary(max_size=2000)), max_size=6),
    tar_format=st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    pack=st.booleans(),
)
def test_reads_what_tarfile_writes(tmp_path, members, tar_format, pack):
    content = tar_of(members, tar_format)
    found, error = read(tmp_path, gzip.compress(content, 1) if pack else content)
    assert error is None
    assert [(member.name, member.data) for member in found] == by_tarfile(content) == members


def test_ustar_prefix_and_large_numbers(tmp_path):
    content = tar_of([("d" * 90 + "/" + "f" * 90, b"x")], tarfile.USTAR_FORMAT)
    assert b"f" * 90 + b"\0" in content[:100]  # the folder stands in the prefix field
    assert read(tmp_path, content)[0] == [Member("d" * 90 + "/" + "f" * 90, b"x")]
    header = bytearray(content)
    header[124:136] = b"\x80" + (1).to_bytes(11, "big")  # GNU's base 256
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    assert read(tmp_path, bytes(header))[0] == [Member("d" * 90 + "/" + "f" * 90, b"x")]


def test_blocks_larger_than_the_readers(tmp_path):
    data = random.Random(0).randbytes(3 << 20)
    for content in (tar_of([("a", data), ("b", b"y")]), gzip.compress(tar_of([("a", data), ("b", b"y")]), 1)):
        assert read(tmp_path, content) == ([Member("a", data), Member("b", b"y")], None)


def test_gzip_of_several_members_and_padding(tmp_path):
    content = tar_of([("a", b"1" * 5000), ("b", b"2")])
    packed = gzip.compress(content[:700]) + gzip.compress(content[700:]) + bytes(1000)
    assert [member.name for member in read(tmp_path, packed)[0]] == ["a", "b"]
    assert read(tmp_path, packed)[1] is None


@pytest.mark.parametrize("pack", [False, True])
def test_names_alone_are_those_of_the_members_however_the_archive_is_damaged(tmp_path, pack):
    """Each header and each end of data cut, changed, or replaced by one that lies."""
    sizes = (0, 1, 511, 512, 513, 40_000)
    content = tar_of([(f"{size}.png", b"x" * size) for size in sizes] + [("n" * 300, b"y")]) + special("l", b"1")
    lying = bytearray(content)
    lying[124:136] = b"\xff" * 10 + b"\xfe\0"  # -512 in base 256: Python's own reader never comes to an end
    lying[148:156] = b" " * 8
    lying[148:156] = b"%06o\0 " % sum(lying[:512])
    variants = [content, bytes(lying), content + special("too large.png", b"0", size=MAX_MEMBER_BYTES + 1)]
    variants += [content[:cut] for cut in [*range(0, 5000, 101), *range(5000, len(content), 4001), len(content) - 1]]
    for number, variant in enumerate(variants):
        members, error = read(tmp_path, gzip.compress(variant, 1) if pack else variant)
        expected = "" if error is None else f"{type(error).__name__}: {error}"
        assert names_alone(tmp_path / "a.tar") == ([(one.name, one.refusal) for one in members], expected), number


def test_names_alone_read_no_data(tmp_path):
    content = tar_of([(f"{number}.png", bytes(4_000_000)) for number in range(5)])
    (tmp_path / "a.tar").write_bytes(content)
    tracemalloc.start()
    try:
        assert len(names_alone(tmp_path / "a.tar")[0]) == 5
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("pack", [False, True])
def test_an_archive_without_its_end_blocks_says_so(tmp_path, pack):
    """It may be cut between two members, or written so; tarfile reads it in silence."""
    content = tar_of([("a", b"1"), ("b", b"2")])
    assert content[2048:2560] == bytes(512)
    for end, number in ((2048, 2), (1024, 1)):
        members, error = read(tmp_path, gzip.compress(content[:end]) if pack else content[:end])
        assert members == [Member("a", b"1"), Member("b", b"2")][:number]
        assert isinstance(error, MissingEndError) and f"no end-of-archive mark at byte {end}" in str(error)
    assert read(tmp_path, content[:2560])[1] is None  # one block of zeros is a mark


@pytest.mark.parametrize("pack", [False, True])
def test_archives_one_behind_the_other_are_read_to_the_end(tmp_path, pack):
    """What `cat a.tar b.tar` writes; `tar -i` reads all of it."""
    parts = [tar_of([(f"{part}{number}", bytes([number])) for number in range(3)]) for part in "abc"]
    content = b"".join(gzip.compress(part) for part in parts) if pack else b"".join(parts)
    members, error = read(tmp_path, content)
    assert error is None and [one.name for one in members] == [f"{part}{n}" for part in "abc" for n in range(3)]
    assert [one[0] for one in names_alone(tmp_path / "a.tar")[0]] == [one.name for one in members]
    with tarfile.open(tmp_path / "a.tar", ignore_zeros=True) as known:
        assert known.getnames() == [one.name for one in members]
    members, error = read(tmp_path, parts[0] + b"no header, but 512 bytes" * 100)
    assert len(members) == 3 and f"no tar header at byte {len(parts[0])}" in str(error)
    assert read(tmp_path, parts[0] + b"\n")[1] is None  # too short for a member


def test_a_cut_between_a_long_name_and_its_member_is_damage(tmp_path):
    content = tar_of([("a", b"1"), ("n" * 300, b"2")])
    members, error = read(tmp_path, content[: 1024 + 1024])
    assert members == [Member("a", b"1")] and "truncated at byte 2048" in str(error)
    assert not isinstance(error, MissingEndError)


@pytest.mark.parametrize("name", ["../../x.jpg", "/etc/passwd", "a/../../x", "..", "..\\x.jpg", "\\x"])
def test_names_that_leave_the_archive_are_refused(tmp_path, name):
    found, error = read(tmp_path, tar_of([("a", b"1"), (name, b"secret"), ("b", b"2")]))
    assert error is None and [member.data for member in found] == [b"1", b"", b"2"]
    assert "leaves the archive" in found[1].refusal


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.BLKTYPE, "device"),
        (tarfile.FIFOTYPE, "pipe"),
        (b"Z", "not a regular file"),
    ],
)
def test_links_devices_and_strangers_are_refused(tmp_path, kind, reason):
    content = special("x.jpg", kind, linkname="/etc/passwd") + tar_of([("b", b"2")])
    found, error = read(tmp_path, content)
    assert error is None and reason in found[0].refusal and found[0].data == b"" and found[1] == Member("b", b"2")


def test_directories_are_passed_over(tmp_path):
    content = special("./", tarfile.DIRTYPE) + special("d/", tarfile.AREGTYPE) + tar_of([("./d/b.txt", b"2")])
    assert read(tmp_path, content) == ([Member("d/b.txt", b"2")], None)


def test_every_cut_yields_what_lies_before_it(tmp_path):
    members = [("a", b"1" * 700), ("b", b"2" * 10), ("c", b"3" * 1500)]
    content = tar_of(members)
    ends = [512 + 700, 1536 + 512 + 10, 2560 + 512 + 1500]
    for cut in sorted({*range(0, ends[-1], 37), *range(0, ends[-1], 512)}):
        found, error = read(tmp_path, content[:cut])
        assert [member.data for member in found] == [
            data for (_, data), end in zip(members, ends, strict=True) if end <= cut
        ]
        assert isinstance(error, MissingEndError) == (cut in (1536, 2560)) and error is not None
        if cut % 512:
            assert f"byte {cut}" in str(error)


def test_a_cut_gzip_says_so(tmp_path):
    content = tar_of([(str(n), random.Random(n).randbytes(1000)) for n in range(100)])
    packed = gzip.compress(content)
    found, error = read(tmp_path, packed[: len(packed) // 2])
    assert 45 <= len(found) <= 55 and "gzip data truncated" in str(error)
    assert error.member == str(len(found)) or error.member == ""


def test_a_corrupt_gzip_says_so(tmp_path):
    packed = bytearray(gzip.compress(tar_of([(str(n), random.Random(n).randbytes(9000)) for n in range(100)])))
    packed[len(packed) // 2 :] = b"\xff" * (len(packed) // 2)
    found, error = read(tmp_path, bytes(packed))
    assert 20 < len(found) < 60 and ("corrupt gzip" in str(error) or "no tar header at byte" in str(error))


def test_no_archive_at_all(tmp_path):
    assert "no tar header at byte 0" in str(read(tmp_path, b"<html>" * 200)[1])
    assert "truncated at byte 100" in str(read(tmp_path, b"x" * 100)[1])
    assert "it has no content" in str(read(tmp_path, b"")[1])
    assert read(tmp_path, bytes(1024)) == ([], None)


def test_a_gzip_bomb_is_stopped(tmp_path):
    path = tmp_path / "bomb.tar.gz"
    info = tarfile.TarInfo("a.jpg")
    info.size = 64 << 30
    zeros = gzip.compress(bytes(64 << 20))
    path.write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT)) + zeros * 17)
    assert path.stat().st_size < 2 << 20
    tracemalloc.start()
    with pytest.raises(DamagedArchiveError, match="decompression bomb"):
        list(read_members(path))
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


def test_a_large_member_is_refused_without_holding_it(tmp_path):
    path = tmp_path / "a.tar"
    with path.open("wb") as file:
        info = tarfile.TarInfo("a.jpg")
        info.size = MAX_MEMBER_BYTES + 1
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.seek(512 + MAX_MEMBER_BYTES + 512)
        file.write(tar_of([("b", b"2")]))
    tracemalloc.start()
    found = list(read_members(path))
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()
    assert "larger than 64 MiB" in found[0].refusal and found[1] == Member("b", b"2")


def pax(records: bytes) -> bytes:
    return special("pax", b"x", size=len(records)) + records + bytes(-len(records) % 512)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (special("pax", b"x", size=1 << 30), "a header of 1073741824 bytes at byte 0"),
        (special("long", b"L", size=1 << 30), "a header of 1073741824 bytes at byte 0"),
        (pax(b"12 size=-99\n"), "pax header"),
        (pax(b"9999999999 path=x\n"), "pax header"),
        (pax(b"0 path=x\n"), "pax header"),
        (pax(b"x" * 600), "pax header"),
        (pax(b"9" * 5000 + b" path=x\n"), "pax header"),
        (pax(b"22 GNU.sparse.major=1\n"), "pax header"),
        (special("a", b"0", size=1 << 62)[:124] + b"-0000000001\0" + bytes(376), "no tar header"),
    ],
)
def test_headers_that_lie(tmp_path, header, reason):
    found, error = read(tmp_path, header + tar_of([("b", b"2")]))
    assert found == [] and reason in str(error)


def test_many_headers_without_a_member(tmp_path):
    """tarfile recurses here."""
    content = pax(b"10 path=x\n") * 5000 + tar_of([("b", b"2")])
    assert read(tmp_path, content) == ([Member("x", b"2")], None)


def test_a_pax_header_of_a_megabyte_is_read_in_no_time(tmp_path):
    content = pax(b"6 a=b\n" * 170_000) + tar_of([("b", b"2")])
    assert read(tmp_path, content) == ([Member("b", b"2")], None)


def test_a_name_of_a_megabyte_is_refused(tmp_path):
    found, error = read(tmp_path, tar_of([("n" * 1_000_000, b"1")]))
    assert error is None and "a name of 1000000 bytes" in found[0].refusal and len(found[0].name) <= 4096


def test_damage_anywhere_is_an_orderly_end(tmp_path):
    for seed in range(600):
        check_damage(tmp_path, seed)


@pytest.mark.long
def test_damage_anywhere_is_an_orderly_end_many_times(tmp_path):
    for seed in range(30_000):
        check_damage(tmp_path, seed)


def check_damage(folder: Path, seed: int) -> None:
    """Only DamagedArchiveError may come out; and what tarfile reads from the bytes is the same, as far as both go."""
    rng = random.Random(seed)
    members = [(f"{rng.randrange(10**6)}" * rng.choice([1, 30]), rng.randbytes(rng.randrange(1200))) for _ in range(4)]
    content = bytearray(tar_of(members, rng.choice([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])))
    if pack := seed % 3 == 0:
        content = bytearray(gzip.compress(bytes(content), 1))
    for _ in range(1 + seed % 20):
        at = rng.randrange(len(content))
        if rng.random() < 0.7:  # into a header
            at = at // 512 * 512 + rng.choice([0, 100, 124, 130, 135, 148, 156, 157, 257, rng.randrange(512)])
        content[at % len(content)] = rng.choice([0, 0xFF, 0x80, *b"07xL1", rng.randrange(256)])
    if seed % 2:  # such that the headers' checksums fit again
        for at in range(0, len(content) - 511, 512):
            if content[at + 257 : at + 262] == b"ustar":
                content[at + 148 : at + 156] = b" " * 8
                content[at + 148 : at + 156] = b"%06o\0 " % sum(content[at : at + 512])
    found, _ = read(folder, bytes(content))
    if pack or any(member.refusal for member in found):
        return
    try:
        expected = [data for _, data in by_tarfile(bytes(content))]
    except Exception:  # tarfile raises much
        return
    ours = [member.data for member in found]
    common = min(len(ours), len(expected))
    assert ours[:common] == expected[:common], seed


@pytest.mark.parametrize(
    ("pack", "kind"),
    [(lzma.compress, "compressed with xz"), (bz2.compress, "compressed with bzip2"), (None, "a zip archive")],
)
def test_another_kind_of_archive_is_called_what_it_is(tmp_path, pack, kind):
    content = tar_of([("a.txt", random.Random(0).randbytes(4096))])
    if pack is None:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr("a.tar", content)
        content = stream.getvalue()
    members, error = read(tmp_path, pack(content) if pack else content)
    assert not members and f"no tar header at byte 0: it is {kind}" in str(error)
