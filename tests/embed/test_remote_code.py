"""Nothing in a model's folder runs, and nothing is asked on stdin: with "y" waiting there, the canary stays away."""

import io
import json

import peers  # noqa: F401  (before open_clip)
import pytest
import torch

from diptych.embed import load
from diptych.errors import WeightsError

transformers = pytest.importorskip("transformers")


class Unread(io.StringIO):
    """A stdin full of consent that notes whether it is read."""

    was_read = False

    def readline(self, *size):
        Unread.was_read = True
        return "y\n"

    read = __next__ = readline


@pytest.fixture
def canary(tmp_path, monkeypatch):
    """Modules that would write a file; after the test it must not be there, and stdin unread."""
    sung = tmp_path / "sung"
    code = f"open({str(sung)!r}, 'w').write('sung')\n"
    names = ("Config", "Model", "Tokenizer", "Processor")
    text = code + "".join(f"class {name}:\n    pass\n" for name in names)
    monkeypatch.setattr("sys.stdin", Unread("y\n" * 20))
    Unread.was_read = False
    folder = tmp_path / "stranger"
    folder.mkdir()
    (folder / "evil.py").write_text(text)
    yield folder
    assert not sung.exists() and not Unread.was_read


def sizes(**more):
    return {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2} | more


@pytest.fixture
def clip(canary):
    """A sound CLIP in the stranger's folder, to which a test adds what would run code."""
    config = transformers.CLIPConfig(
        text_config=sizes(vocab_size=600, max_position_embeddings=16, eos_token_id=2),
        vision_config=sizes(image_size=32, patch_size=16),
        projection_dim=16,
    )
    transformers.CLIPModel(config).save_pretrained(canary)
    (canary / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "CLIPImageProcessor", "size": 32, "crop_size": 32})
    )
    return canary


def change(folder, file, **values):
    path = folder / file
    old = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(old | values))


def test_a_model_of_an_unknown_kind(canary):
    auto_map = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    change(canary, "config.json", model_type="stranger", auto_map=auto_map)
    for name in (f"hf:{canary}", str(canary)):
        with pytest.raises(WeightsError, match=r"evil\.Model.*Diptych runs no code that comes with a model") as error:
            load(name)
        assert "trust_remote_code" not in str(error.value)


def test_a_clip_whose_model_class_is_its_own(clip):
    """transformers has a class of its own for this kind, and it is taken."""
    change(clip, "config.json", auto_map={"AutoConfig": "evil.Config", "AutoModel": "evil.Model"})
    assert load(f"hf:{clip}", "cpu").encode_images([torch.zeros(20, 20, 3, dtype=torch.uint8).numpy()]).shape == (1, 16)
    assert load(clip, "cpu").name == "stranger"


def test_an_image_processor_of_its_own(clip):
    processor = {"image_processor_type": "Processor", "auto_map": {"AutoImageProcessor": "evil.Processor"}}
    (clip / "preprocessor_config.json").write_text(json.dumps(processor))
    with pytest.raises(WeightsError, match="Diptych runs no code"):
        load(f"hf:{clip}")


def test_a_tokenizer_of_its_own(clip, caplog):
    auto_map = {"AutoTokenizer": ["evil.Tokenizer", None]}
    change(clip, "tokenizer_config.json", tokenizer_class="Tokenizer", auto_map=auto_map)
    encoder = load(f"hf:{clip}", "cpu")
    assert "trust_remote_code" not in caplog.text
    with pytest.raises(WeightsError, match="encodes images alone"):
        encoder.encode_texts(["a cat"])


def test_a_kernel_from_the_hub(clip):
    change(clip, "config.json", attn_implementation="stranger/kernel")
    with pytest.raises(WeightsError, match=r"kernel 'stranger/kernel'.*runs no code"):
        load(f"hf:{clip}")


def test_an_adapter_whose_base_lies_elsewhere(clip):
    change(clip, "adapter_config.json", base_model_name_or_path="stranger/base")
    with pytest.raises(WeightsError, match="holds an adapter"):
        load(f"hf:{clip}")


class Exploit:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_a_pickle_of_more_than_tensors(clip):
    (clip / "model.safetensors").unlink()
    torch.save({"logit_scale": torch.zeros(()), "x": Exploit(clip.parent / "sung")}, clip / "pytorch_model.bin")
    for name in (f"hf:{clip}", clip):
        with pytest.raises(WeightsError, match=r"its pickle names .*open.*only tensors, numbers and text") as error:
            load(name)
        assert "weights_only" not in str(error.value) and "add_safe_globals" not in str(error.value)


def test_open_clip_gives_its_libraries_no_consent(canary):
    """tokenizer_kwargs of an open_clip_config.json reach from_pretrained as they are, trust_remote_code among them."""
    pytest.importorskip("open_clip")
    change(canary, "config.json", model_type="stranger", auto_map={"AutoConfig": "evil.Config"})
    auto_map = {"AutoTokenizer": ["evil.Tokenizer", None]}
    change(canary, "tokenizer_config.json", tokenizer_class="Tokenizer", auto_map=auto_map)
    text = {"context_length": 16, "vocab_size": 600, "width": 32, "heads": 1, "layers": 1}
    model = {"embed_dim": 16, "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16}}
    for more in (
        {"hf_tokenizer_name": str(canary), "tokenizer_kwargs": {"trust_remote_code": True}},
        {"hf_model_name": str(canary), "hf_tokenizer_name": str(canary)},
    ):
        values = {"model_cfg": model | {"text_cfg": text | more}, "preprocess_cfg": {}}
        (canary / "open_clip_config.json").write_text(json.dumps(values))
        with pytest.raises(WeightsError, match=r"Diptych runs no code|cannot be loaded"):
            load(f"open_clip:{canary}")


def test_the_guard_is_what_holds(clip, monkeypatch):
    """Even a library that consents by itself runs nothing while the guard is open."""
    from diptych.embed.remote_code import no_remote_code

    change(clip, "config.json", model_type="stranger", auto_map={"AutoConfig": "evil.Config"})
    with pytest.raises(WeightsError, match="Diptych runs no code"), no_remote_code("x"):
        transformers.AutoConfig.from_pretrained(clip, trust_remote_code=True)
    with pytest.raises(Exception, match=r"custom code|trust"), no_remote_code("x"):
        transformers.AutoConfig.from_pretrained(clip)  # would ask
