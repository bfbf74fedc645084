"""Any field of a TrainConfig by its dotted name."""

import dataclasses

import pytest
from training import tiny_config

from diptych import recipes
from diptych.errors import ConfigError
from diptych.recipes import apply_settings
from diptych.recipes.settings import field_names, parse_settings


@pytest.fixture
def config(tmp_path):
    return recipes.tiny_vit(("pairs/",), str(tmp_path), 1_000_000)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("optimizer.learning_rate=1e-3", 1e-3),
        ("optimizer.learning_rate=1", 1.0),
        ("optimizer.betas=0.9,0.95", (0.9, 0.95)),
        ("optimizer.betas=(0.9, 0.95)", (0.9, 0.95)),
        ("optimizer.clip_norm=none", None),
        ("optimizer.clip_norm=0.5", 0.5),
        ("loader.num_workers=4", 4),
        ("micro_batch_size=none", None),
        ("micro_batch_size=64", 64),
        ("activation_checkpointing=true", True),
        ("checkpoint.sharded=False", False),
        ("parallel.weights=sharded", "sharded"),
        ("data=a,b", ("a", "b")),
        ("init.weights=runs/a=b/model", "runs/a=b/model"),
        ("model.text.layers=3", 3),
        ("num_pairs=1_000", 1000),
    ],
)
def test_a_value_is_read_as_its_field_says(config, setting, value):
    changed = apply_settings(config, [setting])
    found = changed
    for part in setting.partition("=")[0].split("."):
        found = getattr(found, part)
    assert found == value and type(found) is type(value)


def test_only_what_is_set_changes(config):
    changed = apply_settings(config, ["optimizer.lr=2e-3", "optimizer.weight_decay=0", "seed=3"])
    optimizer = dataclasses.replace(config.optimizer, learning_rate=2e-3, weight_decay=0.0)
    assert changed == dataclasses.replace(config, optimizer=optimizer, seed=3)
    assert apply_settings(config, []) == config
    assert apply_settings(config, ["seed=1", "seed=2"]).seed == 2


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("optimizer.learnin_rate=1", "optimizer.learning_rate"),
        ("learning_rate=1", "optimizer.learning_rate"),
        ("loader.seed.x=1", "no setting 'loader.seed.x'"),
        ("model.vision.kind=vit", "no setting"),
        ("optimizer=1", "group of settings; set one of optimizer.learning_rate"),
        ("model.vision=big", "model.vision.image_size"),
        ("seed", "NAME=VALUE"),
        ("=1", "NAME=VALUE"),
        ("seed=1.5", "a whole number"),
        ("seed=", "a whole number"),
        ("optimizer.learning_rate=fast", "'fast'; it takes a number"),
        ("optimizer.learning_rate=nan", "a number"),
        ("optimizer.learning_rate=none", "a number"),
        ("optimizer.betas=0.9", "2 values separated by commas, each a number"),
        ("activation_checkpointing=1", "true or false"),
        ("micro_batch_size=big", "a whole number or none"),
        ("optimizer.learning_rate=-1", "above 0"),
        ("model.vision.patch_size=7", "must divide"),
    ],
)
def test_what_cannot_be_set_is_refused_in_words(config, setting, said):
    with pytest.raises(ConfigError) as error:
        apply_settings(config, [setting])
    assert said in str(error.value)


def test_the_pictures_follow_the_tower_and_the_tower_the_pictures(config):
    for setting in ("model.vision.image_size=32", "preprocessing.image_size=32"):
        changed = apply_settings(config, [setting])
        assert changed.model.vision.image_size == changed.preprocessing.image_size == 32
        assert changed.preprocessing.mean == config.preprocessing.mean
    with pytest.raises(ConfigError, match="32 pixels"):
        apply_settings(config, ["model.vision.image_size=64", "preprocessing.image_size=32"])


def test_heads_stay_64_wide_unless_they_are_set(config):
    assert config.model.vision.width == 192 and config.model.vision.heads == 3
    assert apply_settings(config, ["model.vision.width=256"]).model.vision.heads == 4
    assert apply_settings(config, ["model.vision.width=256", "model.vision.heads=2"]).model.vision.heads == 2
    own = apply_settings(config, ["model.vision.heads=6"])
    assert apply_settings(own, ["model.vision.width=384"]).model.vision.heads == 6


def test_towers_of_each_kind_have_their_own_fields(tmp_path):
    resnet = tiny_config(tmp_path)
    changed = apply_settings(resnet, ["model.vision.layers=1,2,1,1"])
    assert changed.model.vision.layers == (1, 2, 1, 1)
    compact = recipes.compact_rn(("pairs/",), "run", 1_000_000)
    changed = apply_settings(compact, ["model.vision.widths=16,32", "model.vision.layers=1,1"])
    assert changed.model.vision.widths == (16, 32) and changed.model.vision.heads == 1


def test_every_field_has_a_name_and_a_known_kind(config):
    """A field of a type that the settings cannot read would show here: each is set to its own value."""
    names = field_names(config)
    assert len(names) > 50 and len(set(names)) == len(names)
    for name in names:
        value = config
        for part in name.split("."):
            value = getattr(value, part)
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        assert apply_settings(config, [f"{name}={text}"]) == config, name


def test_contradictions_on_the_way_do_not_matter(config):
    """Both halves of a change are in place before anything is checked."""
    changes = ["loader.global_batch_size=2_000_000", "num_pairs=1_000_000"]
    with pytest.raises(ConfigError, match="global_batch_size"):
        apply_settings(config, changes)
    changed = apply_settings(config, ["num_pairs=100", "loader.global_batch_size=50"])
    assert changed.num_steps == 2
    assert parse_settings(config, ["model.text.width=64"]) == {"model": {"text": {"width": 64}}}
