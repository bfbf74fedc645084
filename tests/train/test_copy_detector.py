"""The copy detector: its copies, its network, and its training through the same `fit` as every other model."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from loading import make
from PIL import Image
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from training import tiny_config

import diptych
from diptych.data.copies import CopyAugmentation, copy_image, jitter_hsv
from diptych.data.loader import Loader, LoaderConfig
from diptych.data.transforms import Preprocessing
from diptych.errors import ConfigError
from diptych.model.antialiased_resnet import WeightNormConv2d, halve
from diptych.model.antialiased_resnet_config import AntialiasedResNetConfig
from diptych.model.build import build_model
from diptych.model.clip_config import CLIPConfig
from diptych.model.flops import flops_per_pair, image_flops
from diptych.model.text_config import NoTextConfig
from diptych.recipes import copy_detector, paper_copy_detector
from diptych.train import OptimizerConfig, fit
from diptych.train.held_out import HeldOutCopies

MODEL = CLIPConfig(16, AntialiasedResNetConfig(32, (8, 16), (1, 1)), NoTextConfig())
GENTLE = CopyAugmentation(crop=0, margin=0, rotate=0, jpeg=0, hue=0, saturation=0, value=0, aspect=0, sides=(32, 32))


def detector_config(out, num_steps=12, **changes):
    values = {"model": MODEL, "objective": "copies", "copies": CopyAugmentation(), "precision": "fp32"}
    return tiny_config(out, num_steps, **{**values, **changes})


def gradient(size=(64, 48)):
    width, height = size
    red = np.linspace(0, 255, width)[None, :].repeat(height, 0)
    green = np.linspace(0, 255, height)[:, None].repeat(width, 1)
    return Image.fromarray(np.stack([red, green, np.full_like(red, 128)], axis=-1).astype(np.uint8))


# ---- copies


def test_a_copy_without_changes_is_the_image_resized():
    image = gradient()
    copy = copy_image(image, GENTLE, np.random.default_rng(0))
    assert copy.size == (round(32 * 64 / 48), 32)
    reference = image.resize(copy.size, Image.Resampling.BICUBIC)
    assert np.abs(np.asarray(copy, int) - np.asarray(reference, int)).mean() < 3


def test_copies_depend_only_on_the_generator():
    copies = [np.asarray(copy_image(gradient(), CopyAugmentation(), np.random.default_rng(7))) for _ in range(2)]
    assert np.array_equal(*copies)
    other = np.asarray(copy_image(gradient(), CopyAugmentation(), np.random.default_rng(8)))
    assert other.shape != copies[0].shape or not np.array_equal(other, copies[0])


def test_a_crop_keeps_at_least_its_share_of_the_area():
    """Red grows from left to right and green from top to bottom: a crop's range of both tells what it shows."""
    config = dataclasses.replace(GENTLE, crop=1.0, least_area=0.3, sides=(64, 64))
    shares = []
    for seed in range(200):
        pixels = np.asarray(copy_image(gradient((200, 200)), config, np.random.default_rng(seed)), float)
        shares.append(np.ptp(pixels[..., 0]) / 255 * np.ptp(pixels[..., 1]) / 255)
    assert 0.25 < min(shares) < 0.4 and max(shares) > 0.9


def test_zooming_out_shows_the_whole_image_on_a_plain_ground():
    config = dataclasses.replace(GENTLE, margin=1.0, least_zoom=0.5, sides=(64, 64))
    white = Image.new("RGB", (64, 64), "white")
    shares = []
    for seed in range(50):
        pixels = np.asarray(copy_image(white, config, np.random.default_rng(seed))).astype(int)
        shares.append((np.abs(pixels - 255).max(axis=2) < 30).mean())
    assert 0.2 < min(shares) < 0.4 and max(shares) > 0.85


def test_the_hue_turns_and_the_rest_stays():
    red = Image.new("RGB", (4, 4), (200, 0, 0))
    assert np.asarray(jitter_hsv(red, 1 / 3, 1, 1))[0, 0].tolist() == pytest.approx([0, 200, 0], abs=6)
    assert np.asarray(jitter_hsv(red, 0, 1, 0.5))[0, 0].tolist() == pytest.approx([100, 0, 0], abs=2)
    assert np.ptp(np.asarray(jitter_hsv(red, 0, 0, 1))[0, 0].astype(int)) <= 1  # grey


@pytest.mark.parametrize(
    "changes",
    [
        {"crop": 2},
        {"sides": (0, 8)},
        {"quality": (90, 10)},
        {"degrees": -1},
        {"aspect": math.nan},
        {"crop": 0.9, "margin": 0.2},
    ],
)
def test_impossible_copies_are_refused(changes):
    with pytest.raises(ConfigError, match=f"CopyAugmentation.{next(iter(changes))}"):
        CopyAugmentation(**changes)


def test_a_strip_is_no_image_of_millions_of_pixels():
    copy = copy_image(Image.new("RGB", (5000, 1)), CopyAugmentation(), np.random.default_rng(0))
    assert copy.width * copy.height < 5_000_000


# ---- batches


def test_a_batch_holds_each_image_and_its_copy():
    preprocessing = Preprocessing(32, resize="squash")
    config = LoaderConfig(global_batch_size=6, lanes=1, shuffle_buffer=0, num_workers=0)
    batch = next(iter(Loader(make([10]), None, preprocessing, config, GENTLE)))
    assert batch.images.shape == batch.copies.shape == (6, 3, 32, 32)
    assert batch.tokens.shape == (6, 0) and batch.lengths.tolist() == [0] * 6
    differences = (batch.images[:, None].float() - batch.copies[None].float()).abs().mean(dim=(2, 3, 4))
    assert (differences.argmin(dim=1) == torch.arange(6)).all()  # row i of both is image i


def test_batches_do_not_depend_on_workers():
    preprocessing, batches = Preprocessing(32, resize="squash"), []
    for num_workers in (0, 2):
        config = LoaderConfig(global_batch_size=16, num_workers=num_workers, chunk_size=4)
        loader = Loader(make([20, 20]), None, preprocessing, config, CopyAugmentation())
        batches.append(next(iter(loader)))
        loader.close()
    assert torch.equal(batches[0].images, batches[1].images) and torch.equal(batches[0].copies, batches[1].copies)


# ---- network


def test_the_filter_is_the_binomial_of_a_reference():
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64)
    expected = torch.zeros(2, 3, 4, 4, dtype=torch.float64)
    for row in range(4):
        for column in range(4):
            expected += taps[row] * taps[column] * padded[:, :, row : row + 8 : 2, column : column + 8 : 2] / 64
    assert torch.allclose(halve(x), expected)


def test_a_shift_by_two_pixels_shifts_the_halved_map_by_one():
    x = torch.randn(1, 1, 16, 16)
    assert torch.allclose(halve(x)[..., 2:6, 2:6], halve(x.roll(2, dims=3))[..., 2:6, 3:7], atol=1e-6)


def test_weight_norm_is_that_of_torch():
    conv = WeightNormConv2d(3, 5, 3, stride=2)
    reference = torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv2d(3, 5, 3, 2, 1), dim=0)
    with torch.no_grad():
        conv.weight *= torch.rand(5, 1, 1, 1) + 0.5  # lengths that the norm must take away
        reference.parametrizations.weight.original0.copy_(conv.gain[:, None, None, None])
        reference.parametrizations.weight.original1.copy_(conv.weight)
        reference.bias.copy_(conv.bias)
    x = torch.randn(2, 3, 8, 8)
    assert torch.allclose(conv(x), reference(x), atol=1e-6)


def test_no_image_depends_on_the_others_of_its_batch():
    network = build_model(MODEL).train()
    images = torch.randn(6, 3, 32, 32)
    together, alone = network.encode_image(images), torch.cat([network.encode_image(image[None]) for image in images])
    assert torch.allclose(together, alone, atol=1e-5)


def test_activations_keep_their_size_at_the_start():
    network = build_model(copy_detector(("x",), "x", 512).model)
    features = network.visual.features(torch.randn(16, 3, 64, 64))
    assert 0.1 < features.std() < 10 and features.isfinite().all()


def test_sizes_and_costs_are_those_of_the_network():
    for config in (MODEL, dataclasses.replace(MODEL, vision=AntialiasedResNetConfig(32, (8, 8), (2, 1), 4, 7))):
        network = build_model(config)
        assert sum(parameter.numel() for parameter in network.parameters()) == config.num_parameters()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network.encode_image(torch.randn(1, 3, 32, 32))
        halving = (
            2
            * 16
            * sum(  # the filters are not counted: 16 taps a channel
                width * (16 // 2**stage // 2) ** 2
                for stage, width in enumerate([config.vision.widths[0], *(w * config.vision.expansion for w in (8,))])
            )
        )
        assert image_flops(config) == pytest.approx(counter.get_total_flops() - halving, rel=0.02)
    assert flops_per_pair(MODEL, 0) == 6 * image_flops(MODEL)  # two images, forward and backward


def test_the_temperature_is_fixed():
    network = build_model(MODEL)
    assert network.logit_scale.exp().item() == pytest.approx(1 / 0.07)
    assert "logit_scale" not in dict(network.named_parameters()) and "logit_scale" in network.state_dict()


# ---- training


def test_fit_trains_saves_and_resumes(tmp_path):
    changes = {"optimizer": OptimizerConfig(learning_rate=1e-2)}
    changes["copies"] = dataclasses.replace(GENTLE, crop=0.8, least_area=0.5)
    whole = fit(detector_config(tmp_path / "whole", 40, **changes))
    halted = detector_config(tmp_path / "halted", 40, **changes)
    losses = read_losses(tmp_path / "whole")
    assert losses[0] < math.log(16) and np.mean(losses[-8:]) < 0.5 * np.mean(losses[:8])
    model = diptych.load(tmp_path / "whole" / "model")
    images = [gradient(), gradient((32, 32))]
    assert torch.equal(model.encode_images(images), whole.model.encode_images(images))
    assert model.logit_scale == pytest.approx(1 / 0.07)
    with pytest.raises(ConfigError, match="has no text side"):
        model.encode_texts(["a cat"])

    def stop(encoder):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(dataclasses.replace(halted, evaluate_steps=24), [stop])
    fit(halted, resume=True)
    assert read_losses(tmp_path / "halted") == losses


def read_losses(folder):
    return [row["loss"] for row in diptych.train.read_log(folder)]


def test_micro_batches_give_the_same_gradient(tmp_path):
    fit(detector_config(tmp_path / "whole", 3))
    fit(detector_config(tmp_path / "pieces", 3, micro_batch_size=5))
    assert read_losses(tmp_path / "pieces") == pytest.approx(read_losses(tmp_path / "whole"), abs=1e-5)


def test_held_out_copies_of_an_encoder_that_knows_the_truth_are_all_found():
    class ByColour:
        """Copies keep the colours: the mean colour identifies each image."""

        name, logit_scale = "by colour", 100.0

        def encode_images(self, images):
            means = torch.tensor(np.array([np.asarray(image).mean(axis=(0, 1)) for image in images])).float() - 128
            return F.normalize(means, dim=1)

    colours = [(40 * a, 40 * b, 40 * c) for a in (1, 5) for b in (1, 3, 5) for c in (1, 3, 5)]
    samples = [
        diptych.Sample(str(index), np.full((40, 40, 3), colour, np.uint8), ()) for index, colour in enumerate(colours)
    ]
    [loss, recall] = HeldOutCopies(samples, GENTLE)(ByColour())
    assert recall.value == 1.0 and recall.n == len(colours)
    assert loss.value < 0.2


def test_a_run_reports_its_held_out_copies(tmp_path):
    run = fit(detector_config(tmp_path / "run", held_out=0.2))
    assert {result.metric for result in run.results} == {"loss_nats", "recall_at_1"}
    assert len(run.validation) == 32


@pytest.mark.parametrize(
    "changes",
    [{"copies": None}, {"objective": "contrastive"}, {"model": tiny_config("x").model}],
    ids=["no copies", "another objective", "a text side"],
)
def test_what_does_not_fit_together_is_refused(changes):
    with pytest.raises(ConfigError, match=r"cop|NoText"):
        detector_config("run", **changes)


def test_the_papers_recipe_has_the_papers_numbers():
    config = paper_copy_detector(("x",), "x", 30_000_000)
    assert config.global_batch_size == 1712 and config.model.text.temperature == 0.07
    assert config.num_steps == pytest.approx(17_500, rel=0.01)  # method.md derives it
    assert config.model.vision.layers == (3, 4, 6, 3)
    assert 24e6 < config.model.num_parameters() < 26e6  # a ResNet-50
