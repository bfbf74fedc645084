"""What a bare weight file cannot say: heads and activation of published architectures, against open_clip's own list."""

import copy
import json
import logging

import peers  # noqa: F401  (before open_clip)
import pytest
import torch
from embedding import TEXTS, make_pictures, small_tokenizer
from model_tools import distance

from diptych.embed import load
from diptych.embed.foreign_config import read_open_clip
from diptych.errors import ConfigError, WeightsError
from diptych.model.inference import infer
from diptych.model.layouts import to_diptych
from diptych.model.weights import write_tensors
from diptych.recipes import configure

open_clip = pytest.importorskip("open_clip")
# Timm and Hugging Face would have to be asked for these towers; their names alone decide (test_families.py).
OURS = [
    name
    for name in open_clip.list_models()
    if "timm_model_name" not in (config := open_clip.get_model_config(name))["vision_cfg"]
    and "hf_model_name" not in config["text_cfg"]
]


def network(config, **more):
    """open_clip's network of a configuration, with random weights; on the meta device without any."""
    config = {key: value for key, value in copy.deepcopy(config).items() if key != "custom_text"}
    custom = open_clip.CustomTextCLIP if more.pop("custom_text", False) else open_clip.CLIP
    kind = open_clip.CoCa if "multimodal_cfg" in config else custom
    return kind(**config | more)


@pytest.mark.parametrize("name", OURS)
def test_shapes_give_open_clip_s_own_configuration_or_a_refusal(name):
    config = open_clip.get_model_config(name)
    with torch.device("meta"):
        tensors = to_diptych(network(config).state_dict())
    vision, text = config["vision_cfg"], config["text_cfg"]
    pooled_elsewhere = {"pool_type", "no_causal_mask"} & set(text)
    unlike = {"attentional_pool", "ls_init_value"} & set(vision)
    if unlike or "multimodal_cfg" in config:
        with pytest.raises(WeightsError, match=r"Diptych's .* open_clip:"):
            infer(tensors)
        return
    inferred = infer(tensors)
    ours = inferred.config
    features = ours.vision.features_dim
    assert ours.vision.heads == features // vision.get("head_width", 64)
    if "mlp_ratio" in vision:
        assert ours.vision.mlp_width == int(vision["width"] * vision["mlp_ratio"]) != 4 * vision["width"]
    assert ours.text.heads == text["heads"]
    assert ours.vision.image_size == vision["image_size"] and ours.embed_dim == config["embed_dim"]
    # Both activations have the same shapes: the notice names the one that is taken, and the option.
    stated = (f"{ours.activation} is assumed", f"{ours.activation} as the activation")
    assert any(words in inferred.notice for words in stated)
    assert "--activation" in inferred.notice
    own = "quick_gelu" if config.get("quick_gelu") else "gelu"
    assert infer(tensors, own).config.activation == own
    if vision.get("no_ln_pre"):
        assert inferred.published.name == name and infer(tensors, own).notice == ""
        assert ours == read_open_clip({"model_cfg": config, "preprocess_cfg": {}})[0]
    elif pooled_elsewhere:
        assert "pooling at the largest token id" in infer(tensors, own).notice
    else:
        assert name.removesuffix("-quickgelu").replace("-336", "-14@336px")[:5] in inferred.notice.replace("/", "-")
        assert infer(tensors, own).notice == ""


@pytest.mark.parametrize("name", ["ViT-g-14", "ViT-bigG-14", "ViT-e-14"])
def test_the_largest_image_towers_give_open_clip_s_numbers(name, tmp_path):
    """Their widths, heads and MLPs, which are not four times as wide, in two layers on small pictures."""
    config = open_clip.get_model_config(name)
    config["vision_cfg"] |= {"image_size": 28, "layers": 2}
    config["text_cfg"] |= {"context_length": 24, "vocab_size": 700, "width": 128, "heads": 2, "layers": 2}
    torch.manual_seed(0)
    theirs = network(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    write_tensors(theirs.state_dict(), tmp_path / "weights.safetensors")
    small_tokenizer().save(tmp_path / "tokenizer.json")
    model = load(tmp_path / "weights.safetensors", activation="gelu")
    images, texts = embeddings(theirs, model.preprocessing)
    assert distance(model.encode_images(make_pictures()), images) <= 1e-5
    assert distance(model.encode_texts(TEXTS), texts) <= 1e-5
    # The configuration beside it says the same, and so does a folder of our own.
    beside = {"model_cfg": config, "preprocess_cfg": {}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(beside))
    assert load(tmp_path / "weights.safetensors").clip.config == model.clip.config
    model.save(tmp_path / "own")
    assert load(tmp_path / "own").clip.config == model.clip.config


def test_a_text_tower_with_other_mlps_gives_open_clip_s_numbers(tmp_path):
    config = copy.deepcopy(SMALL)
    config["text_cfg"]["mlp_ratio"] = 3.0
    torch.manual_seed(0)
    theirs = network(config).eval()
    write_tensors(theirs.state_dict(), tmp_path / "weights.safetensors")
    small_tokenizer().save(tmp_path / "tokenizer.json")
    model = load(tmp_path / "weights.safetensors", activation="gelu", heads="2,3")
    assert model.clip.config.text.mlp_width == 288
    assert distance(model.encode_texts(TEXTS), embeddings(theirs, model.preprocessing)[1]) <= 1e-5


SMALL = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 160, "patch_size": 16, "head_width": 80},
    "text_cfg": {"context_length": 24, "vocab_size": 700, "width": 96, "heads": 3, "layers": 2},
}


@pytest.fixture(scope="module")
def theirs():
    torch.manual_seed(0)
    return network(SMALL).eval()


@pytest.fixture
def file(theirs, tmp_path):
    write_tensors(theirs.state_dict(), tmp_path / "weights.safetensors")
    small_tokenizer().save(tmp_path / "tokenizer.json")
    return tmp_path / "weights.safetensors"


def embeddings(theirs, preprocessing):
    from PIL import Image

    from diptych.data.transforms import evaluation_pixels, normalise

    pixels = torch.stack([evaluation_pixels(Image.fromarray(one), preprocessing) for one in make_pictures()])
    with torch.no_grad():
        images = theirs.encode_image(normalise(pixels, preprocessing), normalize=True)
        return images, theirs.encode_text(small_tokenizer()(TEXTS, pad_to=24)[0], normalize=True)


def cosines(ours, theirs):
    return (ours.double() * theirs.double()).sum(dim=1).min().item()


@pytest.mark.parametrize("heads", ["2,3", (2, 3)])
def test_stated_heads_and_activation_give_open_clip_s_numbers(theirs, file, heads, caplog):
    model = load(file, heads=heads, activation="gelu")
    images, texts = embeddings(theirs, model.preprocessing)
    assert cosines(model.encode_images(make_pictures()), images) > 1 - 1e-6
    assert cosines(model.encode_texts(TEXTS), texts) > 1 - 1e-6
    with caplog.at_level(logging.WARNING, "diptych"):
        assumed = load(file)
    assert "assumed: 2 heads in the image tower and 1 in the text tower" in caplog.text
    assert "--heads IMAGE,TEXT" in caplog.text and "class token" in caplog.text and "causal mask" in caplog.text
    assert cosines(assumed.encode_texts(TEXTS), texts) < 1 - 1e-4


@pytest.mark.parametrize("heads", ["3", "2,3,4", "a,b", (0, 2), "-1,2", (3, 7)])
def test_heads_that_cannot_be_are_an_error(file, heads):
    with pytest.raises(ConfigError, match="heads"):
        load(file, heads=heads)


def test_the_options_belong_to_a_weight_file(file):
    with pytest.raises(ConfigError, match="activation must be one of"):
        load(file, activation="relu")
    for name in (f"hf:{file.parent}", "open_clip:ViT-B-32@openai", "default"):
        with pytest.raises(ConfigError, match="heads"):
            load(name, heads="2,2")


def test_what_a_command_states_is_refused_of_a_folder(file, command, tmp_path, theirs):
    """A folder says its own heads and activation; the model that ships is one, too."""
    from PIL import Image

    Image.fromarray(make_pictures()[0]).save(tmp_path / "picture.png")
    load(file, heads="2,3", activation="gelu").save(tmp_path / "own")
    words = ("classify", "picture.png", "--labels", "a cat,two dogs")
    for model in ("own", "default"):
        assert command(*words, "--model", model).status == 0
        for stated in (("--heads", "2,3"), ("--activation", "gelu")):
            command(*words, "--model", model, *stated).is_error("is a folder", "leave them out")
    command(*words, "--model", f"hf:{tmp_path / 'own'}", "--heads", "2,3").is_error("belong to a weight file")
    command("paper", "table1", "--heads", "2,3").is_error("no model is given")


def test_a_run_begins_with_a_file_whose_heads_are_stated(theirs, file, command, tmp_path):
    """They stand in its configuration, so that it can be resumed; without a file they are refused."""
    words = ("train", "playground:50", "--recipe", "finetune", "--pairs", 64, "--batch-size", 32, "--workers", 0)
    done = command(*words, "--init", file, "--heads", "2,3", "--activation", "gelu", "--out", "tuned")
    assert done.status == 0, done.err
    config = json.loads((tmp_path / "tuned" / "config.json").read_text())
    assert config["init"]["heads"] == [2, 3] and config["init"]["activation"] == "gelu"
    tuned = load(tmp_path / "tuned" / "model").clip.config
    assert (tuned.vision.heads, tuned.text.heads, tuned.activation) == (2, 3, "gelu")
    by_setting = configure(
        "finetune",
        ("playground:50",),
        "run",
        num_pairs=64,
        settings=[f"init.weights={file}", "init.heads=2,3", "init.activation=gelu", "loader.global_batch_size=32"],
        top={},
    )
    assert by_setting.model == tuned and by_setting.init.heads == (2, 3)
    command(*words, "--init", "tuned/model", "--heads", "2,3", "--out", "b").is_error("is a folder")
    words = ("train", "playground:50", "--recipe", "quickstart", "--pairs", 64, "--batch-size", 32, "--out", "c")
    command(*words, "--heads", "2,3").is_error("--init FILE")
    command(*words, "--heads", "two", "--init", file).is_error("heads are two numbers")


def test_the_configuration_beside_a_file_is_taken(theirs, file, caplog):
    beside = {"model_cfg": SMALL, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3, "resize_mode": "squash"}}
    (file.parent / "open_clip_config.json").write_text(json.dumps(beside))
    with caplog.at_level(logging.WARNING, "diptych"):
        model = load(file)
    assert "taking architecture, preprocessing and tokenizer from" in caplog.text
    assert "assumed" not in caplog.text and "CLIP's" not in caplog.text
    assert model.preprocessing.std == (0.25,) * 3 and model.preprocessing.resize == "squash"
    images, texts = embeddings(theirs, model.preprocessing)
    assert cosines(model.encode_images(make_pictures()), images) > 1 - 1e-6
    assert cosines(model.encode_texts(TEXTS), texts) > 1 - 1e-6
    # What the user states goes before what the file says, with a notice.
    caplog.clear()
    with caplog.at_level(logging.WARNING, "diptych"):
        other = load(file, activation="quick_gelu", heads="4,6")
    assert "says gelu; taking quick_gelu, as stated" in caplog.text and "taking (4, 6), as stated" in caplog.text
    assert other.clip.config.vision.heads == 4 and other.clip.config.text.heads == 6


def test_a_configuration_beside_a_file_that_is_another_s_is_named(file):
    other = copy.deepcopy(SMALL)
    other["vision_cfg"]["layers"] = 3
    (file.parent / "open_clip_config.json").write_text(json.dumps({"model_cfg": other, "preprocess_cfg": {}}))
    with pytest.raises(WeightsError, match=r"its architecture is that of open_clip_config\.json beside it"):
        load(file)


def test_the_commands_have_the_options(theirs, file, command, tmp_path):
    """What one command states, the next forgets."""
    from PIL import Image

    Image.fromarray(make_pictures()[0]).save(tmp_path / "picture.png")
    words = ("classify", "picture.png", "--labels", "a cat,two dogs", "--model", file, "--json", "--template", "{c}")
    plain = command(*words)
    stated = command(*words, "--heads", "2,3", "--activation", "gelu")
    assert plain.status == stated.status == 0, plain.err + stated.err
    assert "2 heads in the image tower" in plain.log and "heads in the image tower" not in stated.log
    again = command(*words)
    assert again.out == plain.out != stated.out
    assert again.log.count("2 heads in the image tower") == 1
    command(*words, "--heads", "three").is_error("heads are two numbers")
    command(*words, "--activation", "relu").is_error("activation must be one of")
