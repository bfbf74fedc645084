"""A check finds what was broken, at the stage where it was broken; the references are transformers and open_clip."""

import dataclasses

import peers  # noqa: F401  (before open_clip and transformers)
import pytest
from checked_folders import change_json, change_weights, copy_of, write_huggingface, write_open_clip

from diptych.embed import load
from diptych.embed.check.adapters import stages_of
from diptych.embed.check.check_images import ORIENTATION, check_images
from diptych.embed.check.check_report import verdict
from diptych.embed.check.check_texts import check_texts
from diptych.embed.check.live_check import LiveCheck
from diptych.embed.check.run_check import check_model
from diptych.embed.check.stage_functions import open_by_pillow
from diptych.embed.check.tolerances import (
    DECODED,
    FEATURES,
    IMAGES,
    PIXELS,
    PROBABILITIES,
    STAGES,
    TEXTS,
    TOKENS,
    limits,
)

pytest.importorskip("transformers")
pytest.importorskip("open_clip")
TURNED = {f"EXIF orientation {number}" for number in range(2, 9)}


@pytest.fixture(scope="module")
def huggingface(tmp_path_factory):
    return write_huggingface(tmp_path_factory.mktemp("models") / "hf")


@pytest.fixture(scope="module")
def open_clip(tmp_path_factory):
    return write_open_clip(tmp_path_factory.mktemp("models") / "oc")


@pytest.fixture
def changed(huggingface, tmp_path):
    return copy_of(huggingface, tmp_path / "changed")


def different_stages(check):
    return [row.stage for row in check.rows if not row.is_equal]


# ---- equal models


def test_a_folder_of_huggingface_equals_transformers(huggingface):
    check = check_model(str(huggingface), device="cpu")
    assert check.is_equal and check.first_difference is None
    assert check.reference.startswith(f"hf:{huggingface} (transformers ")
    assert [row.stage for row in check.rows] == list(STAGES) and not any(row.not_compared for row in check.rows)
    assert [row.num_compared for row in check.rows] == [32, 32, 64, 32, 32, 59, 32]
    assert {trait for row in check.rows for trait in row.explained} == {"transparency", "16 bits", "cleaning"}


def test_a_folder_of_open_clip_equals_open_clip(open_clip):
    check = check_model(str(open_clip), device="cpu")
    assert check.is_equal and check.reference.startswith(f"open_clip:{open_clip} (open_clip_torch ")
    decoded = check.rows[0].explained
    assert set(decoded[ORIENTATION]) == TURNED and set(decoded) == {ORIENTATION, "transparency", "16 bits"}
    assert "not RGB" in check.whole_path[0].explained  # it resizes palettes before it converts them
    assert check.rows[2].explained == {}  # it cleans texts as Diptych does


def test_strictly_the_differences_on_purpose_count(huggingface):
    check = check_model(str(huggingface), device="cpu", strict=True)
    assert different_stages(check) == [DECODED, TOKENS] and not check.known
    traits = {image.name: image.trait for image in check_images()}
    assert {traits[name] for name in check.rows[0].differing} == {"transparency", "16 bits"}
    assert len(check.rows[2].differing) == 5


@pytest.mark.parametrize("prefix", ["hf", "open_clip"])
def test_a_model_run_by_a_library_equals_the_library_alone(prefix, huggingface, open_clip):
    folder = huggingface if prefix == "hf" else open_clip
    check = check_model(f"{prefix}:{folder}", device="cpu")
    assert check.is_equal and not any(row.not_compared for row in check.rows)


# ---- one fault


def test_another_activation_is_found_in_the_features(huggingface, changed):
    def change(config):
        config["vision_config"]["hidden_act"] = config["text_config"]["hidden_act"] = "gelu"

    change_json(changed / "config.json", change)
    check = check_model(str(changed), f"hf:{huggingface}", device="cpu")
    assert check.first_difference == FEATURES and different_stages(check) == [FEATURES, IMAGES, TEXTS]
    assert "quick_gelu or gelu" in verdict(check)


def test_another_interpolation_is_found_in_the_pixels_and_hides_nothing(huggingface, changed):
    change_json(changed / "preprocessor_config.json", lambda values: values.update(resample=2))
    check = check_model(str(changed), f"hf:{huggingface}", device="cpu")
    assert different_stages(check) == [PIXELS]  # on equal pixels the towers are equal
    assert [row.stage for row in check.whole_path if not row.is_equal] == [PIXELS, IMAGES]


def test_two_faults_are_both_found(huggingface, changed):
    change_json(changed / "preprocessor_config.json", lambda values: values.update(image_mean=[0.5, 0.5, 0.5]))
    change_json(changed / "config.json", lambda values: values["vision_config"].update(hidden_act="gelu"))
    check = check_model(f"hf:{changed}", str(huggingface), device="cpu")
    assert check.first_difference == PIXELS and different_stages(check) == [PIXELS, FEATURES, IMAGES]


def test_another_size_of_images_is_found(huggingface, changed):
    change_json(
        changed / "preprocessor_config.json",
        lambda values: values.update(size={"shortest_edge": 64}),
    )
    check = check_model(f"hf:{changed}", f"hf:{huggingface}", device="cpu")
    assert different_stages(check) == [PIXELS]


def test_a_tokenizer_that_keeps_capitals_is_found_in_the_tokens(huggingface, changed):
    def keep_capitals(values):
        steps = values["normalizer"]["normalizers"]
        values["normalizer"]["normalizers"] = [step for step in steps if step["type"] != "Lowercase"]

    change_json(changed / "tokenizer.json", keep_capitals)
    check = check_model(f"hf:{changed}", str(huggingface), device="cpu")
    assert different_stages(check) == [TOKENS]
    words = [text.text for text in check_texts()]
    differing = [words[int(name.partition(":")[0]) - 1] for name in check.rows[2].differing]
    assert "A PHOTO OF A CAT" in differing and all(text != text.lower() for text in differing)


def test_padding_before_the_text_is_found_in_the_tokens_and_after_it_is_not(huggingface, changed):
    change_json(changed / "tokenizer_config.json", lambda values: values.update(padding_side="left"))
    assert check_model(f"hf:{changed}", str(huggingface), device="cpu").first_difference == TOKENS
    change_json(changed / "tokenizer_config.json", lambda v: v.update(padding_side="right", pad_token="!</w>"))
    assert check_model(f"hf:{changed}", str(huggingface), device="cpu").is_equal


@pytest.mark.parametrize(
    ("tensor", "stages"),
    [
        ("vision_model.encoder.layers.1.mlp.fc2.weight", [FEATURES, IMAGES]),
        ("visual_projection.weight", [IMAGES]),
        ("text_model.encoder.layers.0.self_attn.v_proj.weight", [TEXTS]),
        ("text_projection.weight", [TEXTS]),
    ],
)
def test_one_weight_that_changed_by_a_thousandth_is_found(tensor, stages, huggingface, changed):
    def change(tensors):
        tensors[tensor][3, 5] += 1e-3

    change_weights(changed, change)
    assert different_stages(check_model(str(changed), f"hf:{huggingface}", device="cpu")) == stages


def test_swapped_projections_are_found_in_the_embeddings(huggingface, changed):
    def swap(tensors):
        names = "visual_projection.weight", "text_projection.weight"
        tensors[names[0]], tensors[names[1]] = tensors[names[1]], tensors[names[0]]

    change_weights(changed, swap)
    assert different_stages(check_model(str(changed), f"hf:{huggingface}", device="cpu")) == [IMAGES, TEXTS]


def test_another_logit_scale_is_found_in_the_probabilities(huggingface, changed):
    change_weights(changed, lambda tensors: tensors["logit_scale"].add_(0.01))
    assert different_stages(check_model(str(changed), f"hf:{huggingface}", device="cpu")) == [PROBABILITIES]


def test_a_reader_that_ignores_the_orientation_is_found_in_the_decoded_pixels(huggingface):
    model, reference = stages_of(load(huggingface, "cpu")), stages_of(load(f"hf:{huggingface}", "cpu"), by_itself=True)
    careless = dataclasses.replace(model, open=lambda data: open_by_pillow(data).convert("RGB"))
    live = LiveCheck(careless, reference, check_images(), check_texts(), limits("fp32"))
    assert [row.stage for row in live.rows if not row.is_equal] == [DECODED]
    assert set(live.rows[0].differing) == TURNED


# ---- other references


def test_bf16_is_compared_with_the_same_model_in_fp32(tmp_path, huggingface):
    load(huggingface, "cpu").save(tmp_path / "own")
    check = check_model(str(tmp_path / "own"), device="cpu", precision="bf16")
    assert check.is_equal and check.precision == "bf16" and check.reference.startswith(f"{tmp_path / 'own'} in fp32")
    rounded = {row.stage: row.relative for row in check.rows}
    assert rounded[PIXELS] == 0 and 1e-4 < rounded[IMAGES] < 5e-2  # it was computed in bf16


OPAQUE = """
from diptych import load


class Opaque:
    \"\"\"Nothing is known of it but its vectors.\"\"\"

    name = "opaque"

    def __init__(self):
        self.model = load({folder!r}, "cpu")
        self.model.clip.visual.proj.data[0, 0] += {error}
        self.logit_scale = self.model.logit_scale

    def encode_images(self, images):
        return self.model.encode_images(images)

    def encode_texts(self, texts):
        return self.model.encode_texts(texts, truncate=True)
"""


@pytest.mark.parametrize(("error", "difference"), [(0, None), (1e-2, IMAGES)])
def test_of_an_unknown_encoder_the_embeddings_are_compared(error, difference, huggingface, tmp_path, monkeypatch):
    name = f"opaque_{bool(error)}"
    (tmp_path / f"{name}.py").write_text(OPAQUE.format(folder=str(huggingface), error=error))
    monkeypatch.chdir(tmp_path)
    check = check_model(f"python:{name}:Opaque", str(huggingface), device="cpu")
    assert check.first_difference == difference
    assert [row.stage for row in check.rows if not row.not_compared] == [DECODED, IMAGES, TEXTS, PROBABILITIES]
    if difference is None:
        assert "not compared: preprocessed pixels, tokens, features" in verdict(check)


def test_a_model_without_texts_is_compared_by_its_images(huggingface, changed):
    (changed / "tokenizer.json").unlink()
    check = check_model(str(changed), f"hf:{huggingface}", device="cpu")
    assert check.is_equal
    assert [row.stage for row in check.rows if row.not_compared] == [TOKENS, TEXTS, PROBABILITIES]
