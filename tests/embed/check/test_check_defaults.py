"""Which reference a check takes by default: for weight files open_clip, by the architecture; SigLIP's sigmoid."""

import dataclasses
import json

import peers  # noqa: F401  (before open_clip and transformers)
import pytest
import torch
from checked_folders import change_json, change_weights, copy_of, write_open_clip
from model_tools import random_clip

from diptych.data.tokenizer import Tokenizer
from diptych.data.transforms import Preprocessing
from diptych.embed import Model, load
from diptych.embed.check.default_reference import default_reference
from diptych.embed.check.run_check import check_model
from diptych.embed.check.tolerances import FEATURES, PROBABILITIES, TOKENS
from diptych.model.build import build_model
from diptych.model.presets import get_preset

open_clip = pytest.importorskip("open_clip")
transformers = pytest.importorskip("transformers")


def reference_of(path, model):
    with default_reference(str(path), model) as named:
        return named


@pytest.mark.parametrize("name", ["RN50", "RN50x64", "ViT-B/32", "ViT-L/14", "ViT-L/14@336px"])
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_a_file_with_the_shapes_of_a_published_model_is_compared_with_open_clip(name, activation, tmp_path):
    """Without weights, which no name depends on; open_clip's own configuration says what the name means."""
    config = dataclasses.replace(get_preset(name), activation=activation)
    with torch.device("meta"):
        model = Model(build_model(config), None, Preprocessing(config.vision.image_size))
    (tmp_path / "weights.pt").write_bytes(b"never read here")
    reference = reference_of(tmp_path / "weights.pt", model)
    architecture, _, file = reference.removeprefix("open_clip:").partition("@")
    assert file == str(tmp_path / "weights.pt")
    stated = open_clip.get_model_config(architecture)
    assert bool(stated.get("quick_gelu")) == (activation == "quick_gelu")
    assert stated["vision_cfg"]["image_size"] == config.vision.image_size and stated["embed_dim"] == config.embed_dim
    assert stated["vision_cfg"]["width"] == config.vision.width


def test_a_file_beside_a_configuration_is_compared_with_the_library_of_that_folder(tmp_path):
    folder = write_open_clip(tmp_path / "oc")
    file = folder / "open_clip_model.safetensors"
    assert reference_of(file, load(file, "cpu")) == f"open_clip:{folder}"


def test_a_folder_of_diptych_and_an_unpublished_file_have_none(tmp_path):
    folder = write_open_clip(tmp_path / "oc")
    model = load(folder, "cpu")
    model.save(tmp_path / "own")
    assert reference_of(tmp_path / "own", model) is None and reference_of("default", model) is None
    torch.save(model.clip.state_dict(), tmp_path / "weights.pt")
    assert reference_of(tmp_path / "weights.pt", load(tmp_path / "weights.pt", "cpu")) is None


class Archive(torch.nn.Module):
    """The parameters of a CLIP, in the form of OpenAI's archives."""

    def __init__(self, tensors):
        super().__init__()
        for name, tensor in tensors.items():
            *path, last = name.split(".")
            place = self
            for part in path:
                if not hasattr(place, part):
                    place.add_module(part, torch.nn.Module())
                place = getattr(place, part)
            is_parameter = tensor.is_floating_point() and not last.startswith("running")
            (place.register_parameter if is_parameter else place.register_buffer)(
                last, torch.nn.Parameter(tensor) if is_parameter else tensor
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.long
def test_an_archive_of_openai_is_compared_with_open_clip_at_full_size(tmp_path):
    tensors = random_clip(get_preset("RN50")).state_dict()
    torch.jit.script(Archive(tensors)).save(tmp_path / "RN50.pt")
    Tokenizer.openai().save(tmp_path / "tokenizer.json")
    check = check_model(str(tmp_path / "RN50.pt"), device="cpu")
    assert check.reference.startswith("open_clip:RN50-quickgelu@") and check.is_equal
    assert [row.stage for row in check.rows if row.not_compared] == [FEATURES]  # open_clip's ResNet hides them
    check = check_model(str(tmp_path / "RN50.pt"), device="cpu", activation="gelu")
    assert check.reference.startswith("open_clip:RN50@")  # the user said gelu, and open_clip is asked for the same


@pytest.fixture
def siglip(tmp_path):
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.SiglipConfig(
        text_config=sizes | {"vocab_size": 600, "max_position_embeddings": 16},
        vision_config=sizes | {"image_size": 32, "patch_size": 8},
    )
    torch.manual_seed(0)
    network = transformers.SiglipModel(config)
    network.logit_scale.data.fill_(2.0)
    network.save_pretrained(tmp_path / "siglip")
    processor = {"image_processor_type": "SiglipImageProcessor", "size": {"height": 32, "width": 32}}
    (tmp_path / "siglip" / "preprocessor_config.json").write_text(json.dumps(processor))
    Tokenizer.train(["a cat", "a dog on a red car", "blue"] * 3, 600).save(tmp_path / "siglip" / "tokenizer.json")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<|endoftext|>", "model_max_length": 16}
    settings |= {"model_input_names": ["input_ids"]}
    (tmp_path / "siglip" / "tokenizer_config.json").write_text(json.dumps(settings))
    return tmp_path / "siglip"


def test_the_bias_of_siglip_is_part_of_the_probabilities(siglip, tmp_path):
    other = copy_of(siglip, tmp_path / "other")
    assert check_model(f"hf:{siglip}", device="cpu").is_equal
    change_weights(other, lambda tensors: tensors["logit_bias"].add_(0.05))
    check = check_model(f"hf:{other}", f"hf:{siglip}", device="cpu")
    assert [row.stage for row in check.rows if not row.is_equal] == [PROBABILITIES]


def test_siglip_reads_its_padding(siglip, tmp_path):
    """Its tower sees every position, so there the whole row of ids counts."""
    other = copy_of(siglip, tmp_path / "other")
    change_json(other / "tokenizer_config.json", lambda values: values.update(pad_token="!</w>"))
    assert check_model(f"hf:{other}", f"hf:{siglip}", device="cpu").first_difference == TOKENS
