"""The machine in a Result's run block: on systems that tell little, and with bf16 switched off."""

import os
from pathlib import Path

import pytest

from diptych.evaluate import provenance


def test_a_system_without_sysconf_tells_no_memory(monkeypatch):
    assert "GiB" in provenance.machine("cpu")
    monkeypatch.delattr(os, "sysconf")  # as on Windows
    assert "GiB" not in provenance.machine("cpu") and provenance.machine("cpu").endswith(", cpu")


@pytest.mark.parametrize(("switch", "shown"), [("0", " (avx512f)"), ("1", " (avx512_bf16)")])
def test_bf16_that_is_switched_off_is_not_named(monkeypatch, switch, shown):
    monkeypatch.setenv("DIPTYCH_BF16", switch)
    flags = "model name : Some processor\nflags : avx2 avx512f avx512_bf16\n"
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: flags)
    assert provenance._processor() == f"Some processor{shown}"
