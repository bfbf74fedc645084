"""Facts about the processor, from files of three kinds of machine."""

import os
from pathlib import Path

import pytest

from diptych import processor

AMD = """processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 7B13
flags\t\t: fpu avx2 fma
cpu MHz\t\t: 2450.000

processor\t: 1
vendor_id\t: GenuineIntel
"""


@pytest.fixture()
def cpuinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write the content of /proc/cpuinfo; None for a machine without it."""

    def write(text: str | None) -> None:
        file = tmp_path / "cpuinfo"
        file.unlink(missing_ok=True)
        if text is not None:
            file.write_text(text)
        monkeypatch.setattr(processor, "_CPUINFO", file)
        processor._first_block.cache_clear()

    yield write
    processor._first_block.cache_clear()


def test_the_maker(cpuinfo, monkeypatch):
    cpuinfo(AMD)
    assert processor.vendor() == "AuthenticAMD"
    cpuinfo("processor\t: 0\nCPU implementer\t: 0x41\n")  # Arm
    assert processor.vendor() == ""
    cpuinfo(None)  # Windows
    monkeypatch.setenv("PROCESSOR_IDENTIFIER", "AMD64 Family 25 Model 33 Stepping 0, AuthenticAMD")
    assert processor.vendor() == "AuthenticAMD"
    monkeypatch.delenv("PROCESSOR_IDENTIFIER")
    assert processor.vendor() == ""


@pytest.mark.parametrize(("flags", "has"), [("avx2 avx512_vnni", True), ("avx_vnni", True), ("avx2 avx512f", False)])
def test_vnni(cpuinfo, flags, has):
    cpuinfo(AMD.replace("fpu avx2 fma", flags))
    assert processor.has_vnni() is has


def test_kind_depends_on_name_and_instructions_alone(cpuinfo):
    cpuinfo(AMD)
    kind = processor.kind()
    cpuinfo(AMD.replace("2450", "1500"))
    assert processor.kind() == kind
    cpuinfo(AMD.replace("avx2 fma", "avx2 fma avx512f"))
    assert processor.kind() != kind
    cpuinfo(None)
    assert len(processor.kind()) == 12 and not processor.has_vnni()


def test_threads(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert processor.num_threads() == 3
    for value in ("", "0", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        assert processor.num_threads() == processor.num_cores() == len(os.sched_getaffinity(0))
