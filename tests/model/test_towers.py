"""A new image tower, text side or objective is one file and one row: toys of each are trained, measured and saved."""

import dataclasses
import json

import pytest
import torch
from ranks import run_ranks
from torch.utils.flop_counter import FlopCounterMode
from toy_towers import CELLS, GUESSING, SQUARED, Cells, CellsConfig, MeanWordsConfig, add_rows, squared, toy_model
from training import MODEL, batch_of, tiny_config

import diptych
from diptych import distributed
from diptych.errors import ConfigError, WeightsError
from diptych.model.build import build_model
from diptych.model.clip_config import CLIPConfig
from diptych.model.flops import flops_per_pair, image_flops, text_flops
from diptych.model.inference import infer
from diptych.model.layouts import to_huggingface
from diptych.model.presets import architecture_name
from diptych.model.towers import TEXT_SIDES, TOWERS, text_side_of, tower_of
from diptych.model.weights import write_tensors
from diptych.objective.objectives import OBJECTIVES
from diptych.recipes.hyperparameter_search import Search, search_hyperparameters
from diptych.records import Batch
from diptych.train.config import InitConfig, ParallelConfig, PatchDropout
from diptych.train.initial import initialise, locked_modules, locked_parameters
from diptych.train.layers import layer_depth
from diptych.train.learning_check import ChanceWatch
from diptych.train.log import read_log
from diptych.train.optimizer import OptimizerConfig, build_optimizer
from diptych.train.parallel import Towers, shard
from diptych.train.profile import profile_training
from diptych.train.step import ContrastiveStep


@pytest.fixture(autouse=True)
def rows(monkeypatch):
    add_rows(monkeypatch.setitem)


@pytest.fixture
def toy_config(tmp_path):
    """A run of all three toys: of 20 updates where nothing else is said."""

    def make(num_steps: int = 20, out: str = "run", **changes):
        changes = {"model": toy_model(), "objective": "squared"} | changes
        optimizer = OptimizerConfig(learning_rate=1e-2)
        return tiny_config(tmp_path / out, num_steps, **{"optimizer": optimizer, "precision": "fp32"} | changes)

    return make


# ------------------------------------------------------------------ configurations


def test_a_configuration_is_written_and_read_by_its_rows():
    config = toy_model(gain=2.0)
    values = config.to_dict()
    vision = {"kind": "cells", "image_size": 32, "width": 24, "layers": 2}
    assert values["vision"] == vision | {"gain": 2.0} and toy_model().to_dict()["vision"] == vision
    assert values["text"] == {"kind": "mean_words", "context_length": 32, "vocab_size": 560, "width": 24, "depth": 2}
    assert CLIPConfig.from_dict(json.loads(json.dumps(values))) == config
    assert CLIPConfig.from_dict(toy_model().to_dict()) == toy_model()
    network = build_model(config)
    assert isinstance(network.visual, Cells) and network.visual.gain == 2.0
    assert sum(parameter.numel() for parameter in network.parameters()) == config.num_parameters()
    assert architecture_name(config) == "Cells of width 24, layers 2, gain 2.0"


def test_messages_name_the_kinds_that_have_rows():
    for change, words in (
        (
            {"vision": {"kind": "mlp"}},
            "of kind vit or resnet or compact_resnet or antialiased_resnet or siglip_vit or cells, not",
        ),
        (
            {"text": {"kind": "mlp"}},
            "be bag_of_words or word_prediction or caption_decoder or none or mean_words, or not",
        ),
        ({"text": {"kind": "transformer"}}, "model.text.kind must be bag_of_words"),  # it has no kind in config.json
        ({"vision": {"kind": "cells", "image_size": 32}}, "vision lacks width, layers"),
    ):
        with pytest.raises(ConfigError, match=words):
            CLIPConfig.from_dict(toy_model().to_dict() | change)


def test_without_its_row_a_config_is_refused(monkeypatch):
    config = toy_model()
    monkeypatch.delitem(TOWERS, "cells")
    with pytest.raises(ConfigError, match=r"model\.vision must be a vision tower's config"):
        dataclasses.replace(config, embed_dim=8)
    for find in (tower_of, text_side_of):
        with pytest.raises(LookupError, match=r"is not an? .* config"):
            find("vit")


# ------------------------------------------------------------------ training


@pytest.mark.parametrize("changes", [{}, {"micro_batch_size": 5, "activation_checkpointing": True}])
def test_toys_are_trained_measured_and_saved(toy_config, tmp_path, changes):
    config = toy_config(held_out=0.2, **changes)
    run = diptych.fit(config)
    losses = [row["loss"] for row in read_log(run.folder) if "loss" in row]
    assert len(losses) == 20 and sum(losses[-5:]) / 5 < 0.75 * losses[0]
    assert {one.metric for one in run.results} == {"loss_nats", "recall_at_1"} and run.finished
    loaded = diptych.load(run.folder / "model")
    assert loaded.clip.config == config.model and isinstance(loaded.clip.visual, Cells)
    pictures, captions = run.validation.pictures[:5], run.validation.captions[:5]
    for ours, theirs in ((loaded, run.model),):
        assert torch.equal(ours.encode_images(pictures), theirs.encode_images(pictures))
        assert torch.equal(ours.encode_texts(captions), theirs.encode_texts(captions))
    loaded.save(tmp_path / "again")
    assert diptych.load(tmp_path / "again").clip.config == config.model
    assert "Cells of width 24" in repr(loaded) and loaded.image_features(pictures).shape == (5, 24)
    half = diptych.load(run.folder / "model", precision="bf16")
    assert half.clip.dtype == torch.bfloat16 and half.encode_images(pictures).isfinite().all()


@pytest.mark.parametrize("model", ["tower", "text side"])
def test_each_toy_trains_beside_the_others(toy_config, model):
    changes = {"vision": toy_model().vision} if model == "tower" else {"text": MeanWordsConfig()}
    config = toy_config(8, model=dataclasses.replace(MODEL, **changes), objective="contrastive")
    losses = [row["loss"] for row in read_log(diptych.fit(config).folder) if "loss" in row]
    assert losses[-1] < losses[0]


def test_a_row_says_which_weights_may_be_sharded_and_which_models_suit(toy_config, monkeypatch):
    def narrow(model: CLIPConfig) -> None:
        if model.embed_dim > 8:
            raise ConfigError("squares need a narrow space")

    for row, changes, words in (
        (
            dataclasses.replace(SQUARED, sharded=False),
            {"parallel": ParallelConfig("sharded")},
            "squared trains replicated",
        ),
        (dataclasses.replace(SQUARED, check=narrow), {}, "a narrow space"),
        (
            dataclasses.replace(SQUARED, loss=None),
            {},
            "whose text side is a MeanWordsConfig",
        ),
        (dataclasses.replace(SQUARED, parameters=("logit_bias",)), {}, r"is squared and model\.logit_bias is None"),
        (SQUARED, {"model": dataclasses.replace(toy_model(), logit_bias=-1.0)}, r"squared and model\.logit_bias is -1"),
        (SQUARED, {"objective": "prediction"}, "prediction does not suit"),
        (SQUARED, {"objective": "none"}, "choose one of contrastive, sigmoid, prediction, copies, squared"),
    ):
        monkeypatch.setitem(OBJECTIVES, "squared", row)
        with pytest.raises(ConfigError, match=words):
            toy_config(**changes)
    monkeypatch.setitem(OBJECTIVES, "squared", SQUARED)
    assert toy_config(parallel=ParallelConfig("sharded")).objective == "squared"


def test_a_row_says_whether_patches_can_be_left_out(toy_config, monkeypatch):
    config = toy_config(2, patch_dropout=PatchDropout(0.5))
    assert diptych.fit(config).finished
    monkeypatch.setitem(TOWERS, "cells", dataclasses.replace(CELLS, masks_patches=False))
    with pytest.raises(ConfigError, match="leaves out patches of a Vision Transformer"):
        toy_config(patch_dropout=PatchDropout(0.5))
    with pytest.raises(ConfigError, match="only a Vision Transformer can leave out patches"):
        build_model(toy_model()).encode_image(torch.zeros(1, 3, 32, 32), torch.zeros(1, 2, dtype=torch.long))


def test_a_run_that_does_not_leave_its_rows_loss_of_guessing_is_told(toy_config, caplog):
    watch = ChanceWatch(toy_config(200))
    for step in range(100, 110):
        watch.add(step, GUESSING)
    assert watch.warned and "that of guessing (with cosines of 1/2 it is 0.500)" in caplog.text
    biased = dataclasses.replace(MODEL, logit_bias=-1.0)
    unknown = ChanceWatch(tiny_config("run", 200, model=biased, objective="sigmoid"))
    for step in range(100, 110):
        unknown.add(step, 0.0)
    assert not unknown.warned


def test_held_out_pairs_are_measured_with_the_rows_loss(toy_config, monkeypatch, tmp_path):
    calls = []

    def held_out(images, texts, scale):
        calls.append(len(images))
        return images.new_tensor(7.5)

    monkeypatch.setitem(OBJECTIVES, "squared", dataclasses.replace(SQUARED, held_out=held_out))
    run = diptych.fit(toy_config(2, held_out=0.3))
    assert calls and {one.value for one in run.results if one.metric == "loss_nats"} == {7.5}
    config = toy_config(2, out="search")
    found = search_hyperparameters(Search(config, ("optimizer.learning_rate=1e-3..1e-2",), num_trials=1, held_out=0.3))
    assert found.best.loss == 7.5


# ------------------------------------------------------------------ what else asks the rows


def test_operations_are_those_that_torch_counts():
    config = toy_model(layers=3)
    network, images = build_model(config), torch.randn(2, 3, 32, 32)
    tokens = torch.randint(1, 500, (2, 7))
    for run, ours in (
        (lambda: network.encode_image(images), image_flops(config)),
        (lambda: network.encode_image(images, torch.tensor([[0, 3, 5, 9]] * 2)), image_flops(config, 0.75)),
        (lambda: network.encode_text(tokens, torch.tensor([7, 7])), text_flops(config, 7)),
    ):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            run()
        assert counter.get_total_flops() == 2 * ours
    assert flops_per_pair(config, 7) == 3 * (image_flops(config) + text_flops(config, 7))


def test_the_profile_runs_the_rows_network_and_loss(toy_config, monkeypatch):
    calls = []

    def counted(*arguments):
        calls.append(type(arguments[2]).__name__)
        return squared(*arguments)

    monkeypatch.setitem(OBJECTIVES, "squared", dataclasses.replace(SQUARED, loss=counted))
    found = profile_training(toy_config(), repeats=2, rate=1e9)
    assert calls == ["MeanWords"] * 4  # two steps warm up
    assert found.flops_per_pair == flops_per_pair(toy_model(), found.caption_tokens)
    uncounted = dataclasses.replace(TEXT_SIDES["mean_words"], flops=None)
    monkeypatch.setitem(TEXT_SIDES, "mean_words", uncounted)
    with pytest.raises(ConfigError, match="a CLIP needs a TextConfig"):
        profile_training(toy_config(), repeats=1, rate=1e9)


def test_learning_rates_fall_by_the_rows_depths():
    config = toy_model()
    depths = {
        "visual.cells.weight": 3,
        "visual.places": 3,
        "visual.stack.0.bias": 2,
        "visual.stack.1.weight": 1,
        "visual.out.weight": 0,
        "words.weight": 3,
        "upper.0.bias": 2,
        "upper.1.weight": 1,
        "text_out.weight": 0,
        "logit_scale": 0,
    }
    assert {name: layer_depth(name, config) for name in depths} == depths
    optimizer = build_optimizer(build_model(config), OptimizerConfig(learning_rate=1.0, layer_decay=0.5))
    assert {group["lr"] for group in optimizer.parts["adamw"].param_groups} == {1.0, 0.5, 0.25, 0.125}


def test_muon_leaves_the_first_layer_of_the_row_to_adamw():
    network = build_model(toy_model())
    parts = build_optimizer(network, OptimizerConfig(muon_learning_rate=0.01)).parts
    muons = {id(p) for group in parts["muon"].param_groups for p in group["params"]}
    assert id(network.visual.cells.weight) not in muons and id(network.visual.stack[0].weight) in muons


def test_weights_to_begin_with_another_size_and_a_locked_tower(toy_config, tmp_path):
    diptych.fit(toy_config(2)).model.save(tmp_path / "first")
    init = InitConfig(str(tmp_path / "first"), lock_image=True)
    before = diptych.load(tmp_path / "first").clip
    larger = build_model(toy_model(image_size=48))
    initialise(larger, init)
    assert larger.visual.places.shape == (37, 24) and torch.equal(larger.visual.places[0], before.visual.places[0])
    assert torch.equal(larger.words.weight, before.words.weight) and locked_modules(larger, init) == [larger.visual]
    assert {id(p) for p in locked_parameters(larger, init)} == {id(p) for p in larger.visual.parameters()}
    run = diptych.fit(toy_config(4, init=init, tokenizer="init", out="tuned"))
    after = run.model.clip
    same = {name for name, tensor in after.state_dict().items() if torch.equal(tensor, before.state_dict()[name])}
    assert {name for name in after.state_dict() if name.startswith("visual.")} <= same and "words.weight" not in same
    with pytest.raises(WeightsError, match=r"vision\.gain is 1\.0 there and 2\.0 here"):
        initialise(build_model(toy_model(gain=2.0)), init)


def test_activations_are_computed_again_where_asked():
    network, images = build_model(toy_model()), torch.randn(3, 3, 32, 32)
    gradients = []
    for on in (False, True):
        network.checkpoint_activations(on)
        assert network.visual.checkpointing is on
        network.zero_grad()
        network.encode_image(images).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in network.visual.parameters()])
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


def test_layouts_of_others_are_refused_in_the_rows_words(tmp_path):
    config = dataclasses.replace(MODEL, vision=toy_model().vision)
    with pytest.raises(ConfigError, match=r"has no mosaic image tower; keep the model in Diptych's$"):
        to_huggingface(build_model(config).state_dict(), config)
    with pytest.raises(ConfigError, match="only Diptych's layout supports the text side"):
        to_huggingface({}, toy_model())


def test_a_bare_weight_file_is_recognised_by_its_row(tmp_path, caplog):
    config = dataclasses.replace(MODEL, vision=CellsConfig(40, 24, 3))
    tensors = build_model(config).state_dict()
    assert infer(tensors).config.vision == config.vision
    write_tensors(tensors, tmp_path / "bare.safetensors")
    loaded = diptych.load(tmp_path / "bare.safetensors")
    assert isinstance(loaded.clip.visual, Cells)
    assert "assumed: 1 heads in the text tower, quick_gelu as the activation, a gain of 1, a causal" in caplog.text


# ------------------------------------------------------------------ ranks


def sharded_gradient(weights: str) -> dict[str, torch.Tensor]:
    """The gradients of one batch under the contrastive loss, of which each rank takes its half."""
    add_rows()
    torch.manual_seed(0)
    network = build_model(toy_model()).double().train()
    whole = batch_of(8)
    half = slice(4 * distributed.rank(), 4 * distributed.rank() + (8 if distributed.world_size() == 1 else 4))
    batch = Batch(whole.images[half], whole.tokens[half], whole.lengths[half], whole.keys[half])
    config = tiny_config("run", model=toy_model())
    ContrastiveStep(Towers(network, ParallelConfig(weights), torch.float64), config)(batch, 0)
    found = {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}
    return {name: grad.full_tensor() if hasattr(grad, "full_tensor") else grad for name, grad in found.items()}


def sharded_blocks() -> list[str]:
    """Which modules of the toys FSDP2 gathers by themselves."""
    add_rows()
    network = build_model(toy_model())
    shard(network)
    return [name for name, module in network.named_modules() if type(module).__name__.startswith("FSDP")]


@pytest.mark.parametrize("weights", ["replicated", "sharded"])
def test_two_ranks_leave_the_gradient_of_one(weights):
    alone = sharded_gradient(weights)
    for found in run_ranks(2, sharded_gradient, weights):
        assert found.keys() == alone.keys()
        for name, gradient in alone.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12)


def test_the_rows_blocks_are_cut_up_one_by_one():
    [blocks, _] = run_ranks(2, sharded_blocks)
    assert sorted(blocks) == ["", "upper.0", "upper.1", "visual.stack.0", "visual.stack.1"]
