"""Initial weights: those of a trained model, resampled to the run's image size, and locked towers."""

from typing import Any

from torch import nn

from diptych.data.library_tokenizer import AnyTokenizer
from diptych.embed import load_model
from diptych.embed.model import Model
from diptych.errors import ConfigError, WeightsError
from diptych.model.clip import CLIP
from diptych.model.clip_config import CLIPConfig
from diptych.model.resample import resample_positions
from diptych.model.towers import tower_of
from diptych.train.config import InitConfig


def initialise(clip: CLIP, config: InitConfig, tokenizer: AnyTokenizer | None = None) -> None:
    """Load the weights that `config` names into the network, and lock the towers that it locks.

    Call it before the optimizer is built and before the weights are sharded; every rank reads the file. A resumed run
    has its weights from the checkpoint and needs only `lock_towers`.

    Args:
        clip: the network, with random weights, on any device.
        tokenizer: the run's; None skips the check that the weights were trained with it.
    Raises:
        WeightsError: there is no such model, or it has another architecture; the message names the differences.
        ConfigError: the tokenizer is another one, or a tower of random weights is locked.
    """
    if config.weights is not None:
        model = load_initial(config)
        _check_architecture(model, clip.config, config.weights)
        _check_tokenizer(model, tokenizer, config.weights)
        tensors = dict(model.clip.state_dict())
        positions = f"visual.{tower_of(clip.config.vision).positions}"
        if positions in tensors:
            tensors[positions] = resample_positions(tensors[positions], clip.config.vision.grid)
        # A temperature or a bias that those weights lack keeps its initial value from the run's configuration.
        own = {name: value for name, value in clip.state_dict().items() if name.startswith("logit_")}
        clip.load_state_dict({**own, **{name: value for name, value in tensors.items() if name in clip.state_dict()}})
    lock_towers(clip, config)


def load_initial(config: InitConfig) -> Model:
    """The model that a run starts from, on the CPU.

    Raises:
        ConfigError: no model is named.
        WeightsError: there is no such model.
    """
    if config.weights is None:
        raise ConfigError("there are no initial weights: name a model (--init MODEL)")
    return load_model(config.weights, device="cpu", activation=config.activation, heads=config.heads)


def initial_tokenizer(config: InitConfig) -> AnyTokenizer:
    """The tokenizer of the model that a run starts from: the meaning of `tokenizer = "init"`.

    Raises:
        ConfigError: no model is named.
        WeightsError: there is no such model, or it has no tokenizer.
    """
    tokenizer = load_initial(config).tokenizer
    if tokenizer is None:
        raise WeightsError(
            f"{config.weights} has no tokenizer: put its tokenizer.json next to the weights, or name one (--tokenizer)"
        )
    return tokenizer


def lock_towers(clip: CLIP, config: InitConfig) -> None:
    """Exclude the parameters of the locked towers from training; call it before the optimizer is built.

    Raises:
        ConfigError: both towers are locked, or one that has no initial weights.
    """
    if not (config.lock_image or config.lock_text):
        return
    if config.lock_image and config.lock_text:
        raise ConfigError("init.lock_image and init.lock_text leave nothing to train; lock one tower at most")
    if config.weights is None:
        raise ConfigError("a locked tower of random weights learns nothing: name a model to start from (--init MODEL)")
    for parameter in locked_parameters(clip, config):
        parameter.requires_grad_(False)


def locked_parameters(clip: CLIP, config: InitConfig) -> list[nn.Parameter]:
    """The parameters of the locked towers; temperature and bias of the logits belong to neither tower."""
    image = [p for name, p in clip.named_parameters() if name.startswith("visual.")]
    text = [p for name, p in clip.named_parameters() if not name.startswith(("visual.", "logit_"))]
    return [*(image if config.lock_image else []), *(text if config.lock_text else [])]


def locked_modules(clip: CLIP, config: InitConfig) -> list[nn.Module]:
    """Modules that stay in evaluation mode during training, so that BatchNorm of a locked tower keeps its statistics.

    Call `.eval()` on each after every `clip.train()`.
    """
    image = [clip.visual] if config.lock_image else []
    text = [module for name, module in clip.named_children() if name != "visual"] if config.lock_text else []
    return [*image, *text]


def _check_architecture(model: Model, wanted: CLIPConfig, weights: str) -> None:
    """Check that the towers are the same; image size, temperature and bias may differ."""
    theirs, ours = _towers(model.clip.config), _towers(wanted)
    differing = [
        f"{name} is {theirs.get(name)!r} there and {ours.get(name)!r} here"
        for name in sorted(theirs.keys() | ours.keys())
        if theirs.get(name) != ours.get(name)
    ]
    if differing:
        raise WeightsError(
            f"{weights} has another architecture than this run: {'; '.join(differing)}. Use a recipe of its "
            "architecture, or finetune, which takes the architecture from the model"
        )


def _towers(config: CLIPConfig) -> dict[str, Any]:
    values = config.to_dict()
    flat = {f"{group}.{name}": value for group in ("vision", "text") for name, value in values.pop(group).items()}
    for name in tower_of(config.vision).omitted:
        flat[f"vision.{name}"] = getattr(config.vision, name)
    rest = {name: value for name, value in values.items() if not name.startswith("logit_")}
    return {name: value for name, value in {**rest, **flat}.items() if name != "vision.image_size"}


def _check_tokenizer(model: Model, tokenizer: AnyTokenizer | None, weights: str) -> None:
    if tokenizer and model.tokenizer and tokenizer.fingerprint != model.tokenizer.fingerprint:
        raise ConfigError(
            f"{weights} was trained with its own tokenizer, and the run has another one: "
            "leave out --tokenizer, or set tokenizer=init"
        )
