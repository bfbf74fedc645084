"""The hub on this machine, and an empty cache for it."""

from collections.abc import Iterator

import pytest
from hub_server import HubServer, Repository, serving
from published import LAION, open_clip_files

from diptych.embed.hub import resumable_download

VARIABLES = (
    "DIPTYCH_OFFLINE",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_HUB_CACHE",
    "HF_TOKEN",
    "DIPTYCH_LICENSES",
)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[HubServer]:
    """A hub with one model of the catalogue; HF_ENDPOINT leads there, and all caches are in tmp_path."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(resumable_download, "_PAUSE", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    with serving(HubServer({LAION: Repository(open_clip_files())})) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
