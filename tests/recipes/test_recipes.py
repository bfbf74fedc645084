"""The recipes against the paper's tables, and the way from a name to a configuration."""

import csv
import dataclasses
from pathlib import Path

import pytest
from embedding import make_vit

from diptych import recipes
from diptych.errors import ConfigError, WeightsError
from diptych.recipes import RECIPES, configure, get_recipe

BASE = {"top": {}}
# Table 18, and the learning rates of tables 19 and 20.
LEARNING_RATES = [5e-4, 5e-4, 5e-4, 4e-4, 3.6e-4, 5e-4, 5e-4, 4e-4, 2e-5]
NAMES = ["RN50", "RN101", "RN50x4", "RN50x16", "RN50x64", "ViT-B/32", "ViT-B/16", "ViT-L/14", "ViT-L/14@336px"]


@pytest.mark.parametrize(("name", "rate"), list(zip(NAMES, LEARNING_RATES, strict=True)))
def test_the_nine_have_the_papers_hyper_parameters(name, rate):
    config = recipes.paper(name, ("pairs/",), "run", 400_000_000 * 32)
    assert config.num_steps == 390_625 and config.global_batch_size == 32_768
    assert config.optimizer.learning_rate == rate and config.optimizer.weight_decay == 0.2
    expected = ((0.9, 0.999), 1e-8) if name.startswith("RN") else ((0.9, 0.98), 1e-6)
    assert (config.optimizer.betas, config.optimizer.eps) == expected
    assert config.schedule.warmup_steps == 2000
    assert config.model.text.vocab_size == 49_408 and config.tokenizer == "openai"
    assert config.micro_batch_size is not None and config.augmentation.rescale == (1.0, 1.0)


def test_shared_tables_say_the_same():
    folder = Path(__file__).resolve().parents[3] / "shared" / "paper"
    if not folder.exists():
        pytest.skip("the extracted tables are not here")
    rows = [row for name in ("table19_resnet.csv", "table20_vit.csv") for row in csv.DictReader((folder / name).open())]
    assert [float(row["learning_rate"]) for row in rows] == LEARNING_RATES
    for name, row in zip(NAMES, rows, strict=True):
        config = recipes.paper(name, ("pairs/",), "run", 10**9)
        assert config.model.embed_dim == int(row["embedding_dimension"])
        assert config.preprocessing.image_size == int(row["input_resolution"])


def test_the_papers_length_is_taken_where_none_is_given():
    assert configure("yfcc", ("playground:2000",), "run", **BASE).num_pairs == 64_000
    with pytest.raises(ConfigError, match="--pairs or --epochs"):
        configure("compact-rn", ("playground:2000",), "run", **BASE)
    assert configure("RN50", ("playground:50_000",), "run", epochs=1, **BASE).num_pairs == 50_000


def test_the_epoch_at_336_pixels_begins_with_a_model():
    with pytest.raises(ConfigError, match="--init MODEL"):
        configure("ViT-L/14@336px", ("playground:9",), "run", num_pairs=10**6, **BASE)
    for words in ({"init": "l14"}, {"settings": ["init.weights=l14"]}):
        config = configure("ViT-L/14@336px", ("playground:9",), "run", num_pairs=10**6, **words, **BASE)
        assert config.init.weights == "l14" and config.tokenizer == "init"
        assert config.preprocessing.image_size == 336 and config.optimizer.learning_rate == 2e-5


def test_finetune_takes_everything_from_the_model(tmp_path):
    model = make_vit()
    model.save(tmp_path / "model")
    name = str(tmp_path / "model")
    config = configure("finetune", ("playground:9",), "run", num_pairs=10_000, init=name, **BASE)
    assert config.model == model.clip.config and config.preprocessing == model.preprocessing
    assert (config.tokenizer, config.init.weights) == ("init", name)
    assert config.optimizer.learning_rate == 1e-5 and not config.init.lock_image
    assert getattr(config.optimizer, "layer_decay", 0.75) == 0.75
    tuned = configure("lit", ("playground:9",), "run", num_pairs=10_000, init=name, **BASE)
    assert tuned.init.lock_image and not tuned.init.lock_text and tuned.model == model.clip.config
    for recipe in ("finetune", "lit"):
        with pytest.raises(ConfigError, match="--init MODEL"):
            configure(recipe, ("playground:9",), "run", num_pairs=10_000, **BASE)
    with pytest.raises(WeightsError, match="nowhere"):
        configure("finetune", ("playground:9",), "run", num_pairs=10_000, init="nowhere", **BASE)


def test_any_recipe_may_begin_with_weights_and_then_has_their_tokenizer():
    config = configure("compact-rn", ("playground:9",), "run", num_pairs=10_000, init="default", **BASE)
    assert config.init.weights == "default" and config.tokenizer == "init"
    top = {"tokenizer": "openai"}
    assert configure("compact-rn", ("a",), "run", num_pairs=10_000, init="default", top=top).tokenizer == "openai"


def test_siglip_begins_where_its_paper_does():
    config = recipes.siglip(("a",), "run", 10_000)
    assert config.objective == "sigmoid"
    assert getattr(config.model, "logit_bias", -10.0) == -10.0


def test_settings_have_the_last_word_and_a_short_run_a_short_warm_up():
    words = {"num_pairs": 25_600, "top": {"seed": 1}, "loader": {"global_batch_size": 64, "seed": 1}}
    config = configure("compact-rn", ("a",), "run", settings=["seed=2", "loader.global_batch_size=128"], **words)
    assert (config.seed, config.loader.seed, config.global_batch_size) == (2, 1, 128)
    assert config.schedule.warmup_steps == config.num_steps // 10 == 20
    config = configure("compact-rn", ("a",), "run", settings=["schedule.warmup_steps=150"], **words)
    assert config.schedule.warmup_steps == 150
    assert configure("compact-rn", ("a",), "run", settings=["num_pairs=512"], **BASE).num_pairs == 512
    with pytest.raises(ConfigError, match="--pairs or --epochs"):
        configure("compact-rn", ("a",), "run", settings=["num_pairs=512"], **words)


def test_recipes_by_name():
    assert get_recipe("compact-rn") is recipes.compact_rn and set(NAMES) < set(RECIPES)
    with pytest.raises(ConfigError, match="'huge'"):
        get_recipe("huge")
    for name in ("quickstart", "compact-rn", "tiny-rn", "tiny-vit", "siglip", "yfcc"):
        assert dataclasses.is_dataclass(get_recipe(name)(("a",), "run", 10**6))
