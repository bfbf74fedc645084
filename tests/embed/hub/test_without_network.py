"""No network, mirrors, OpenAI's archive, and licences."""

import gzip
import hashlib
import io
import logging

import pytest
import torch
from embedding import TEXTS, make_pictures, make_vit
from hub_server import COMMIT, Repository
from published import LAION, NAME, WEIGHTS, huggingface_files, open_clip_files

from diptych.embed import load
from diptych.embed.catalogue import MODELS, Reference, find
from diptych.embed.catalogue.architectures import Architecture
from diptych.embed.catalogue.catalogue_model import CatalogueModel
from diptych.embed.catalogue.openai_models import OPENAI
from diptych.embed.hub import fetch, openai_archive
from diptych.embed.loading import load_path
from diptych.embed.local_models import published_model
from diptych.errors import ConfigError, WeightsError

huggingface_hub = pytest.importorskip("huggingface_hub")


@pytest.mark.parametrize("variable", ["DIPTYCH_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_takes_what_was_fetched_and_asks_nobody(hub, monkeypatch, variable):
    expected = load(NAME).encode_texts(TEXTS)
    monkeypatch.setenv(variable, "1")
    hub.requests.clear()
    assert torch.equal(load(NAME).encode_texts(TEXTS), expected)
    with pytest.raises(
        WeightsError, match=r"ViT-B-16/dfn2b is not in the cache \(.*hf download apple/DFN2B-CLIP-ViT-B-16"
    ):
        load("ViT-B-16/dfn2b")
    assert hub.requests == []


@pytest.mark.parametrize("variable", ["DIPTYCH_OFFLINE", "HF_HUB_OFFLINE"])
def test_other_libraries_use_no_network_either(hub, monkeypatch, variable):
    """Also where huggingface_hub was imported before: it reads its variable only then."""
    from huggingface_hub import constants

    from diptych.embed.hub import libraries_offline

    with libraries_offline():
        assert not constants.is_offline_mode()
    monkeypatch.setenv(variable, "1")
    with libraries_offline():
        assert constants.is_offline_mode()
    assert not constants.is_offline_mode()


def test_offline_takes_what_the_library_of_the_hub_fetched(hub, tmp_path, monkeypatch):
    for name in ("open_clip_config.json", WEIGHTS, "tokenizer.json"):
        huggingface_hub.hf_hub_download(LAION, name, cache_dir=tmp_path / "hf" / "hub", endpoint=hub.url)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.requests.clear()
    assert fetch(NAME).path.name == COMMIT
    assert hub.requests == []


def test_a_copy_of_the_cache_works_on_a_machine_without_a_network(hub, tmp_path, monkeypatch):
    import shutil

    fetch(NAME)
    shutil.copytree(tmp_path / "hf", tmp_path / "copy", symlinks=True)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "copy"))
    monkeypatch.setenv("DIPTYCH_OFFLINE", "yes")
    assert load(NAME).encode_texts(TEXTS).shape == (4, 64)


def test_where_no_server_answers_the_message_says_what_to_do(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(WeightsError) as caught:
        load(NAME)
    message = str(caught.value)
    assert f"http://127.0.0.1:9 does not answer for {LAION}" in message
    assert f"hf download {LAION} --exclude" in message and "--local-dir CLIP-ViT-B-32-laion2B-s34B-b79K" in message
    assert "Copy the folder CLIP-ViT-B-32-laion2B-s34B-b79K here, and give its path" in message


def test_a_folder_that_was_downloaded_elsewhere_is_taken_by_its_path(hub, tmp_path):
    """As the message of the test above says: `hf download --local-dir` puts all files into one folder."""
    folder = tmp_path / "CLIP-ViT-B-32-laion2B-s34B-b79K"
    folder.mkdir()
    for name, content in open_clip_files().items():
        (folder / name).write_bytes(content)
    assert torch.equal(load(folder).encode_texts(TEXTS), make_vit().encode_texts(TEXTS))


def test_a_hub_that_went_away_does_not_hinder_what_is_here(hub, monkeypatch, caplog):
    fetch(NAME)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with caplog.at_level(logging.WARNING, "diptych"):
        assert fetch(f"{NAME}@main").path.name == COMMIT
    assert "does not answer" in caplog.text and "taking the files that are here" in caplog.text


def test_a_mirror_serves_the_same_cache(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", f"{hub.url}/")
    assert fetch(NAME).path.is_relative_to(tmp_path / "hf" / "hub")


# ---- OpenAI's archive


@pytest.fixture
def archived(hub, monkeypatch) -> Reference:
    """A row like OpenAI's, for a small file whose address contains its hash."""
    buffer = io.BytesIO()
    torch.save(make_vit().clip.state_dict(), buffer)
    content = buffer.getvalue()
    sha256 = hashlib.sha256(content).hexdigest()
    hub.files[f"models/{sha256}/small.pt"] = content
    vocabulary = gzip.compress(b"not OpenAI's")
    hub.files["bpe_simple_vocab_16e6.txt.gz"] = vocabulary
    row = CatalogueModel(
        name="small/openai",
        family=OPENAI,
        architecture=Architecture(48, 500_000, 0.1, 0.1),
        url=f"{hub.url}/files/models/{sha256}/small.pt",
        sha256=sha256,
        activation="quick_gelu",
        files=("small.pt",),
    )
    return Reference(row.name, row, None)


def test_a_file_of_the_archive_is_fetched_once_into_its_cache(hub, archived, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "diptych"):
        local = published_model(fetch(archived))
        model = load_path(local.path, local.place, "cpu", "fp32", local.stated)
    assert (tmp_path / "cache" / "clip" / "small.pt").is_file()  # where OpenAI's package looks
    assert torch.equal(model.encode_images(make_pictures()), make_vit().encode_images(make_pictures()))
    assert "has no preprocessing beside it" not in caplog.text and "as the activation" not in caplog.text
    hub.requests.clear()
    fetch(archived)
    assert hub.requests == []


def test_a_cut_download_of_the_archive_is_resumed(hub, archived):
    hub.cuts["small.pt"] = [1000]
    fetch(archived)
    assert hub.sent("small.pt") == [None, "bytes=1000-"]


def test_another_file_at_the_address_is_refused(hub, archived, tmp_path):
    (address,) = [name for name in hub.files if name.startswith("models/")]
    right, hub.files[address] = hub.files[address], b"something else"
    with pytest.raises(WeightsError, match="is not the published file"):
        fetch(archived)
    assert not list((tmp_path / "cache" / "clip").iterdir())
    hub.files[address] = right
    fetch(archived)


def test_a_damaged_file_in_the_archive_s_cache_is_replaced(hub, archived, caplog):
    path = fetch(archived).path
    path.write_bytes(b"\0" * path.stat().st_size)
    with caplog.at_level(logging.WARNING, "diptych"):
        fetch(archived)
    assert "is not the published file; fetching it again" in caplog.text
    assert len(hub.sent("small.pt")) == 2


def test_a_mirror_of_the_archive(hub, archived, monkeypatch):
    sha256 = archived.model.sha256
    monkeypatch.setenv("DIPTYCH_OPENAI_MIRROR", f"{hub.url}/files/mirror/")
    hub.files[f"mirror/{sha256}/small.pt"] = hub.files.pop(f"models/{sha256}/small.pt")
    assert fetch(archived).path.name == "small.pt"


def test_the_archive_without_a_network(hub, archived, tmp_path, monkeypatch):
    monkeypatch.setenv("DIPTYCH_OFFLINE", "1")
    with pytest.raises(WeightsError) as caught:
        load("ViT-B/32")
    assert "curl -LO https://openaipublic.azureedge.net/clip/models/40d365715913" in str(caught.value)
    assert f"into {tmp_path / 'cache' / 'clip'} here" in str(caught.value)
    assert "timm/vit_base_patch32_clip_224.openai" in str(caught.value)
    monkeypatch.delenv("DIPTYCH_OFFLINE")
    fetch(archived)
    monkeypatch.setenv("DIPTYCH_OFFLINE", "1")
    assert fetch(archived).path.is_file()


def test_openai_s_vocabulary_has_the_hash_that_is_expected():
    open_clip = pytest.importorskip("importlib.util").find_spec("open_clip")
    if open_clip is None:
        pytest.skip("needs open_clip's copy of the file")
    from pathlib import Path

    content = (Path(open_clip.origin).parent / openai_archive.FILE).read_bytes()
    assert hashlib.sha256(content).hexdigest() == openai_archive.VOCABULARY_SHA256


# ---- licences


def test_a_licence_that_forbids_some_uses_is_announced_once(hub, caplog):
    apple = "apple/MobileCLIP-S1-OpenCLIP"
    hub.repositories[apple] = Repository(open_clip_files(), license="apple-amlr")
    with caplog.at_level(logging.WARNING, "diptych"):
        fetch(apple)
    assert "MobileCLIP-S1/datacompdr is licensed for research only (apple-amlr)" in caplog.text
    caplog.clear()
    fetch(apple)
    assert caplog.text == ""


def test_the_licence_that_the_hub_states_now_counts(hub, caplog):
    hub.repositories[LAION].license = "cc-by-nc-4.0"
    with caplog.at_level(logging.WARNING, "diptych"):
        fetch(NAME)
    assert f"{NAME}: the hub states the licence cc-by-nc-4.0 now" in caplog.text


@pytest.mark.parametrize("license", ["apple-amlr", "cc-by-nc-4.0", "other", None])
def test_licences_that_are_not_wanted_are_refused(hub, monkeypatch, license):
    hub.repositories["somebody/birds"] = Repository(huggingface_files(), license=license)
    monkeypatch.setenv("DIPTYCH_LICENSES", "permissive")
    with pytest.raises(WeightsError, match="DIPTYCH_LICENSES accepts only permissive ones"):
        load("hf-hub:somebody/birds")
    assert hub.sent("model.safetensors") == []
    fetch(NAME)  # MIT


def test_a_fetched_model_is_refused_too(hub, monkeypatch):
    hub.repositories["somebody/birds"] = Repository(huggingface_files(), license="cc-by-nc-4.0")
    fetch("hf-hub:somebody/birds")
    monkeypatch.setenv("DIPTYCH_LICENSES", "permissive")
    for name in ("hf-hub:somebody/birds", "ViT-B-32/metaclip_400m"):
        hub.requests.clear()
        with pytest.raises(WeightsError, match="licensed for research only"):
            load(name)
        assert hub.requests == []
    monkeypatch.setenv("DIPTYCH_LICENSES", "free")
    with pytest.raises(ConfigError, match="set it to permissive or any"):
        load(NAME)


def test_every_openai_row_names_its_hash_in_its_address():
    rows = [row for row in MODELS if row.family is OPENAI]
    assert len(rows) == 9
    for row in rows:
        assert row.url is not None and row.url.split("/")[-2:] == [row.sha256, row.files[0]]
        assert find(row.name) == Reference(row.name, row, None)
