"""A small SigLIP and a small CLIPA are trained, resumed, saved, and fine-tuned from a library's tokenizer."""

import dataclasses

import peers  # noqa: F401
import pytest
import torch
from family_folders import write_tokenizer
from model_tools import random_clip
from training import MODEL, tiny_config

import diptych
from diptych.data.library_tokenizer import LibraryTokenizer, TextRules
from diptych.data.transforms import Preprocessing
from diptych.embed import Model
from diptych.errors import ConfigError
from diptych.model.clip_config import CLIPConfig, SiglipViTConfig, ViTConfig
from diptych.train import OptimizerConfig
from diptych.train.config import InitConfig, PatchDropout
from diptych.train.log import read_log

SIDE = dataclasses.replace(MODEL.text, width=48, causal=False, pooling="last")
SIGLIP = CLIPConfig(
    48,
    SiglipViTConfig(32, 8, width=48, layers=2, heads=2),
    dataclasses.replace(SIDE, projection="biased", norm_eps=1e-6),
    "gelu_tanh",
    logit_bias=-10.0,
)
CLIPA = CLIPConfig(32, ViTConfig(32, 8, width=48, layers=2, ln_pre=False, pooling="mean"), SIDE, "gelu")
KINDS = {"siglip": (SIGLIP, "sigmoid"), "clipa": (CLIPA, "contrastive")}


def losses(run) -> list[float]:
    return [row["loss"] for row in read_log(run.folder) if "loss" in row]


def config_of(kind, out, num_steps=16, **changes):
    model, objective = KINDS[kind]
    optimizer = OptimizerConfig(learning_rate=3e-3)
    return tiny_config(out, num_steps, **{"model": model, "objective": objective, "optimizer": optimizer} | changes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_learns_and_a_saved_model_gives_the_same_numbers(kind, precision, tmp_path):
    run = diptych.fit(config_of(kind, tmp_path / "run", 24, precision=precision, held_out=0.2))
    assert run.finished and sum(losses(run)[-4:]) < 0.9 * sum(losses(run)[:4])
    loaded = diptych.load(run.folder / "model")
    assert loaded.clip.config == KINDS[kind][0]
    pictures, captions = run.validation.pictures[:5], run.validation.captions[:5]
    assert torch.equal(loaded.encode_images(pictures), run.model.encode_images(pictures))
    assert torch.equal(loaded.encode_texts(captions), run.model.encode_texts(captions))
    assert (loaded.logit_bias is None) == (kind == "clipa")


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_ends_with_the_same_weights(kind, tmp_path):
    whole = diptych.fit(config_of(kind, tmp_path / "whole", 8, precision="fp32"))
    config = config_of(kind, tmp_path / "parts", 8, precision="fp32")
    diptych.fit(config)
    (tmp_path / "parts/checkpoints/step-000000008.pt").unlink()
    again = diptych.fit(config, resume=True)
    expected = whole.model.clip.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in again.model.clip.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_patch_dropout_micro_batches_and_recomputation(kind, tmp_path):
    options = {"micro_batch_size": 5, "activation_checkpointing": True, "patch_dropout": PatchDropout(0.5)}
    assert diptych.fit(config_of(kind, tmp_path / "run", 4, **options)).finished


def test_micro_batches_change_no_gradient(tmp_path):
    """Rows of other micro-batches are shorter: each is padded to the context with the same token."""
    runs = [
        diptych.fit(config_of("siglip", tmp_path / str(size), 3, precision="fp32", micro_batch_size=size))
        for size in (None, 5)
    ]
    for one, other in zip(*(losses(run) for run in runs), strict=True):
        assert one == pytest.approx(other, rel=1e-5)


def test_it_begins_with_a_model_of_another_size_and_its_own_tokenizer(tmp_path):
    """The positions of a SigLIP have no row for a class token; its tokenizer comes with the model."""
    write_tokenizer(tmp_path, "siglip")
    tokenizer = LibraryTokenizer.from_file(tmp_path / "tokenizer.json", 32, TextRules("canonicalize", 1))
    text = dataclasses.replace(SIGLIP.text, pad_id=1)
    first = dataclasses.replace(SIGLIP, text=text, vision=dataclasses.replace(SIGLIP.vision, image_size=24))
    Model(random_clip(first), tokenizer, Preprocessing(24)).save(tmp_path / "first")
    init = InitConfig(str(tmp_path / "first"))
    model = dataclasses.replace(SIGLIP, text=text)
    config = config_of("siglip", tmp_path / "run", 8, model=model, init=init, tokenizer="init")
    run = diptych.fit(config)
    assert isinstance(run.model.tokenizer, LibraryTokenizer)
    assert run.model.tokenizer.fingerprint == tokenizer.fingerprint
    (tmp_path / "run/checkpoints/step-000000008.pt").unlink()
    assert diptych.fit(config, resume=True).finished
    loaded = diptych.load(tmp_path / "run/model")
    assert torch.equal(loaded.encode_texts(["a cat"]), run.model.encode_texts(["a cat"]))


def test_the_sigmoid_loss_needs_the_bias(tmp_path):
    with pytest.raises(ConfigError, match="logit_bias"):
        config_of("clipa", tmp_path, objective="sigmoid")
