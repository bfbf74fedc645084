"""The moving average of weights: by hand, swapped in and out exactly, saved and loaded."""

import copy

import pytest
import torch
from torch import nn
from training import MODEL

from diptych.errors import ConfigError
from diptych.model.clip import CLIP
from diptych.train.averaging import WeightAverage
from diptych.train.stochastic_rounding import prepare_weights


def shift(module: nn.Module, by: float) -> None:
    """Another update: every weight and statistic moves."""
    with torch.no_grad():
        for tensor in (*module.parameters(), *(b for b in module.buffers() if b.is_floating_point())):
            tensor.add_(by)


def test_by_hand():
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 1.0)
    average = WeightAverage(module, decay=0.15)
    nn.init.constant_(module.weight, 2.0)
    average.update(0)  # 1/10 of the old, which is below the decay
    assert average.state_dict()["weight"].item() == pytest.approx(0.1 * 1 + 0.9 * 2)
    nn.init.constant_(module.weight, 4.0)
    average.update(1)  # (1 + 1) / (10 + 1) is above the decay
    assert average.state_dict()["weight"].item() == pytest.approx(0.15 * 1.9 + 0.85 * 4)


def test_swapped_in_and_out_exactly_with_statistics():
    torch.manual_seed(0)
    clip = CLIP(MODEL)
    average, mirror = WeightAverage(clip, 0.9), {k: v.clone().double() for k, v in clip.state_dict().items()}
    for step in range(5):
        shift(clip, 0.01)
        average.update(step)
        share = 1 - min(0.9, (1 + step) / (10 + step))
        for name, tensor in clip.state_dict().items():
            mirror[name] += share * (tensor.double() - mirror[name])
    own = copy.deepcopy(clip.state_dict())
    places = {name: tensor.data_ptr() for name, tensor in clip.state_dict().items()}
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), average.applied():
            for name, tensor in clip.state_dict().items():
                if tensor.is_floating_point():
                    assert torch.allclose(tensor.double(), mirror[name], atol=1e-6), name
            assert not torch.equal(clip.visual.bn1.running_var, own["visual.bn1.running_var"])
            raise KeyboardInterrupt
        assert all(torch.equal(tensor, own[name]) for name, tensor in clip.state_dict().items())
    assert places == {name: tensor.data_ptr() for name, tensor in clip.state_dict().items()}


def test_weights_in_bf16_are_averaged_in_fp32():
    clip = CLIP(MODEL)
    prepare_weights(clip, True, torch.bfloat16)
    with torch.no_grad():
        clip.text_projection.fill_(1.0)
    average = WeightAverage(clip, 0.999)
    with torch.no_grad():
        clip.text_projection.fill_(1 + 2**-7)  # the next number in bf16
    for step in range(10_000, 10_100):
        average.update(step)
    own = clip.text_projection.data
    with average.applied():
        assert clip.text_projection.dtype == torch.float32
        assert clip.text_projection[0, 0].item() == pytest.approx(1 + 2**-7 * (1 - 0.999**100), abs=1e-5)
    assert clip.text_projection.data.data_ptr() == own.data_ptr() and clip.text_projection.dtype == torch.bfloat16
    assert (clip.text_projection == 1 + 2**-7).all()


def test_saved_and_loaded_goes_on_the_same_way(tmp_path):
    first = CLIP(MODEL)
    first.visual.requires_grad_(False)
    average = WeightAverage(first, 0.99)
    shift(first, 0.5)
    average.update(3)
    torch.save(average.state_dict(), tmp_path / "average.pt")
    second = copy.deepcopy(first)
    loaded = WeightAverage(second, 0.99)
    loaded.load_state_dict(torch.load(tmp_path / "average.pt", weights_only=True))
    for module, one in ((first, average), (second, loaded)):
        shift(module, 0.25)
        one.update(4)
    assert average.state_dict().keys() == loaded.state_dict().keys()
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in average.state_dict().items())
    assert "visual.conv1.weight" not in average.state_dict() and "visual.bn1.running_var" in average.state_dict()
    with pytest.raises(ConfigError, match="another model"):
        WeightAverage(nn.Linear(1, 1), 0.9).load_state_dict(average.state_dict())


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_that_cannot_be(decay):
    with pytest.raises(ConfigError, match="average_decay"):
        WeightAverage(nn.Linear(1, 1), decay)
