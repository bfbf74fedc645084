"""diptych push: what is uploaded is what others load, and what fails says what to do."""

import pytest
import torch
from embedding import TEXTS, make_pictures, make_vit

from diptych.embed import load
from diptych.embed.push_model import push_model
from diptych.errors import InputError, WeightsError

huggingface_hub = pytest.importorskip("huggingface_hub")
NAME = "me/my-clip"


@pytest.fixture(autouse=True)
def _writer(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "writer")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # the server speaks git LFS


def test_a_pushed_model_is_loaded_by_its_name(hub):
    model = make_vit()
    address = push_model(model, NAME, license="mit", base_model="openai/clip", message="First")
    assert address.startswith(f"{hub.url}/{NAME}/commit/") and hub.messages == ["First"]
    card = hub.repositories[NAME].files["README.md"].decode()
    assert card.startswith("---\nlicense: mit\nbase_model: openai/clip\nlibrary_name: diptych\n")
    again = load(f"hf-hub:{NAME}")
    assert torch.equal(again.encode_images(make_pictures()), model.encode_images(make_pictures()))
    assert torch.equal(again.encode_texts(TEXTS), model.encode_texts(TEXTS))


def test_weights_are_not_sent_twice(hub):
    push_model(make_vit(), NAME)
    hub.requests.clear()
    push_model(make_vit(), NAME, license="mit")
    assert not [path for method, path, *_ in hub.requests if method == "PUT"]


def test_a_failed_upload_commits_nothing_and_can_be_repeated(hub):
    hub.busy = [400] * 10
    with pytest.raises(WeightsError, match="run the same command again"):
        push_model(make_vit(), NAME)
    assert hub.repositories[NAME].files == {}
    hub.busy = []
    push_model(make_vit(), NAME)
    assert "model.safetensors" in hub.repositories[NAME].files


def test_who_may_not_write_is_told_why(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "reader")
    with pytest.raises(WeightsError, match="may not write to me/my-clip"):
        push_model(make_vit(), NAME)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(WeightsError, match="hf auth login"):
        push_model(make_vit(), NAME)
    assert NAME not in hub.repositories


def test_wrong_requests_fail_before_anything_is_loaded(hub, monkeypatch, command):
    command("push", "nowhere", "my-clip").is_error("OWNER/NAME")
    command("push", "nowhere", NAME).is_error("nowhere")
    monkeypatch.setenv("DIPTYCH_OFFLINE", "1")
    with pytest.raises(InputError, match="the network is off"):
        push_model("nowhere", NAME)
    assert not [path for method, path, *_ in hub.requests if method == "POST"]


def test_the_command_prints_the_name_to_load(hub, command, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    done = command("push", "default", "me/default", "--license", "mit")
    assert done.status == 0 and done.out.endswith("load it as hf-hub:me/default\n"), done.err
