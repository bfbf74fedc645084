"""Fetching models from a server on this machine that speaks the hub's protocol: found, verified, cached, loaded."""

import hashlib
import json
import logging
from pathlib import Path

import pytest
import torch
from embedding import TEXTS, make_pictures, make_vit
from hub_server import COMMIT, Repository, git_hash
from published import LAION, NAME, WEIGHTS, huggingface_files

from diptych.data.transforms import Preprocessing
from diptych.embed import Model, load, load_model
from diptych.embed.hub import fetch
from diptych.errors import WeightsError

huggingface_hub = pytest.importorskip("huggingface_hub")

WANTED = {"open_clip_config.json", WEIGHTS, "tokenizer.json"}
OTHER_COMMIT = "f" * 40


def cache(tmp_path: Path, repository: str = LAION) -> Path:
    return tmp_path / "hf" / "hub" / f"models--{repository.replace('/', '--')}"


def test_a_model_is_fetched_by_its_name_and_loaded(hub, caplog):
    with caplog.at_level(logging.WARNING, "diptych"):
        model = load(NAME)
    assert isinstance(model, Model) and model.name == NAME.replace("/", " ")
    expected = make_vit()
    expected = Model(expected.clip, expected.tokenizer, Preprocessing(48, (0.5,) * 3, (0.25,) * 3))
    assert torch.equal(model.encode_images(make_pictures()), expected.encode_images(make_pictures()))
    assert torch.equal(model.encode_texts(TEXTS), expected.encode_texts(TEXTS))
    assert caplog.text == ""


@pytest.mark.parametrize("name", [NAME, NAME.lower(), LAION, f"hf-hub:{LAION}", f"{NAME}@{COMMIT}", f"{LAION}@main"])
def test_every_name_of_a_model_leads_to_the_same_files(hub, name):
    assert fetch(name).path.name == COMMIT


def test_only_the_files_that_are_needed_are_fetched(hub, tmp_path):
    folder = fetch(NAME).path
    assert {path.name for path in folder.iterdir()} == WANTED
    sent = {path.rpartition("/")[2] for _, path, _, _ in hub.requests if path.startswith("/cdn/")}
    assert sent == WANTED


def test_the_files_lie_where_the_library_of_the_hub_finds_them(hub, tmp_path):
    fetch(NAME)
    found = huggingface_hub.hf_hub_download(LAION, WEIGHTS, cache_dir=tmp_path / "hf" / "hub", local_files_only=True)
    assert Path(found).read_bytes() == hub.repositories[LAION].files[WEIGHTS]
    info = huggingface_hub.scan_cache_dir(tmp_path / "hf" / "hub")
    assert not info.warnings
    assert [repo.repo_id for repo in info.repos] == [LAION]


def test_files_that_the_library_of_the_hub_fetched_are_used(hub, tmp_path):
    for name in WANTED:
        huggingface_hub.hf_hub_download(LAION, name, cache_dir=tmp_path / "hf" / "hub", endpoint=hub.url)
    hub.requests.clear()
    assert load(NAME).encode_texts(TEXTS).shape == (4, 64)
    assert [path for _, path, _, _ in hub.requests] == [f"/api/models/{LAION}"]


def test_the_second_time_nothing_is_requested(hub):
    first = fetch(NAME)
    hub.requests.clear()
    assert fetch(NAME) == first
    assert hub.requests == []


def test_the_revision_of_the_first_fetch_is_kept(hub, tmp_path):
    fetch(NAME)
    assert json.loads((cache(tmp_path) / "diptych.json").read_text())["pinned"] == COMMIT
    hub.repositories[LAION].commit = OTHER_COMMIT
    assert fetch(NAME).path.name == COMMIT
    assert fetch(f"{NAME}@main").path.name == OTHER_COMMIT  # the user asks for the newest one
    assert fetch(NAME).path.name == COMMIT


def test_a_commit_is_taken_as_it_is_named(hub):
    hub.repositories[LAION].commit = OTHER_COMMIT
    assert fetch(f"{NAME}@{OTHER_COMMIT}").path.name == OTHER_COMMIT
    with pytest.raises(WeightsError, match="has no revision v9"):
        fetch(f"{NAME}@v9")


def test_a_repository_that_the_catalogue_does_not_list(hub):
    hub.repositories["somebody/birds"] = Repository(huggingface_files())
    model = load("hf-hub:somebody/birds")
    assert isinstance(model, Model) and model.name == "birds"
    assert torch.equal(model.encode_texts(TEXTS), make_vit().encode_texts(TEXTS))
    with pytest.raises(WeightsError, match="did you mean hf-hub:somebody/birds"):
        load("somebody/birds")


def test_a_folder_of_that_name_is_preferred(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_vit().save(tmp_path / "laion" / "CLIP-ViT-B-32-laion2B-s34B-b79K")
    assert load(LAION).preprocessing == Preprocessing(48)
    assert hub.requests == []


def test_a_published_model_is_trained_further(hub):
    assert load_model(NAME, device="cpu").name == NAME.replace("/", " ")


def test_the_hub_s_prefixes_of_other_libraries_fetch_here_too(hub):
    import peers  # noqa: F401

    pytest.importorskip("transformers")
    hub.repositories["openai/clip-vit-base-patch32"] = Repository(huggingface_files())
    native = load("openai/clip-vit-base-patch32")
    theirs = load("hf:openai/clip-vit-base-patch32", "cpu")
    assert native.name == theirs.name == "ViT-B-32 openai"
    assert torch.allclose(native.encode_images(make_pictures()), theirs.encode_images(make_pictures()), atol=1e-5)
    hub.requests.clear()
    load("hf:openai/clip-vit-base-patch32", "cpu")
    assert hub.requests == []


def test_open_clip_loads_the_same_files(hub):
    import peers  # noqa: F401

    pytest.importorskip("open_clip")
    native, theirs = load(NAME, "cpu"), load("open_clip:ViT-B-32@laion2b_s34b_b79k", "cpu")
    assert theirs.name == native.name
    assert torch.allclose(native.encode_images(make_pictures()), theirs.encode_images(make_pictures()), atol=1e-5)


def test_the_login_goes_to_the_hub_and_to_no_other_host(hub, monkeypatch):
    hub.repositories[LAION].gated = True
    with pytest.raises(WeightsError, match=r"is gated or private: accept its terms on .*`hf auth login`"):
        fetch(NAME)
    monkeypatch.setenv("HF_TOKEN", "secret")
    hub.requests.clear()
    fetch(NAME)
    tokens = {path.split("/")[1]: token for _, path, _, token in hub.requests}
    assert tokens["cdn"] is None
    assert tokens["laion"] == "Bearer secret"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("laion/CLIP-ViT-B-32-laion2B-s34B-b79X", LAION),
        ("hf-hub:nobody/nothing", "that you may read"),
        ("openai/clip-vit-base-patch33", "did you mean openai/clip-vit-base-patch32"),
    ],
)
def test_a_repository_that_is_not_there(hub, name, says):
    with pytest.raises(WeightsError, match=says):
        load(name)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ViT-B-32/laion2b_s34b_b79", NAME),
        ("VIT-B/33", "ViT-B/32"),
        ("google/siglip2-base-patch16-naflex", "NaFlex"),
        ("ViT-B/32@v1", "no revisions"),
    ],
)
def test_a_name_that_is_almost_right(hub, name, says):
    with pytest.raises(WeightsError, match=says):
        load(name)
    assert hub.requests == []


def test_a_repository_without_a_model(hub):
    hub.repositories["somebody/text"] = Repository({"config.json": b"{}", "data.csv": b"1"})
    with pytest.raises(WeightsError, match=r"lacks weights .*it has config\.json, data\.csv"):
        fetch("hf-hub:somebody/text")


def test_the_shards_of_a_large_model_are_fetched(hub):
    files = {"config.json": b"{}", "model.safetensors.index.json": b"{}"}
    files |= {f"model-0000{i}-of-00002.safetensors": b"abc" for i in (1, 2)}
    hub.repositories["somebody/large"] = Repository(files | {"model-1-of-2.safetensors": b"other"})
    assert {path.name for path in fetch("hf-hub:somebody/large").path.iterdir()} == set(files)


def test_files_of_equal_content_are_stored_once(hub, tmp_path):
    files = hub.repositories[LAION].files
    fetch(NAME)
    blobs = {path.name for path in (cache(tmp_path) / "blobs").iterdir()}
    small = {git_hash(files[name]) for name in WANTED - {WEIGHTS}}
    assert blobs == small | {hashlib.sha256(files[WEIGHTS]).hexdigest()}
