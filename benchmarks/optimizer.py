"""One update of all weights of a model, gradients at hand: ours against torch's clip_grad_norm_ and fused AdamW.

    python benchmarks/optimizer.py                              # ViT-B/32, statistics in fp32
    python benchmarks/optimizer.py --moments bf16 --stochastic
    python benchmarks/optimizer.py --model compact-rn --muon 4e-3

Random gradients whose norm is above the clip, so that both sides scale them, at every update.
"""

import common
import torch

from diptych.model.clip import CLIP
from diptych.model.presets import get_preset
from diptych.train.optimizer import OptimizerConfig, build_optimizer
from diptych.train.stochastic_rounding import prepare_weights


def main() -> None:
    """Time updates of both, in turn."""
    parser = common.parser(__doc__, peers=["torch"])
    parser.add_argument("--model", default="ViT-B/32", help="a preset (%(default)s)")
    parser.add_argument("--moments", choices=("fp32", "bf16"), default="fp32", help="Adam's statistics (%(default)s)")
    parser.add_argument("--stochastic", action="store_true", help="text weights in bf16, stochastic rounding")
    parser.add_argument("--muon", type=float, help="learning rate of Muon for the inner matrices; none without")
    arguments = parser.parse_args()
    config = OptimizerConfig(
        moments=arguments.moments, stochastic_rounding=arguments.stochastic, muon_learning_rate=arguments.muon
    )
    ours, peer = our_update(arguments.model, config), torch_update(arguments.model)
    ours(), peer()
    seconds, peer_seconds = common.time_alternately(ours, peer, arguments.repeats)
    print(f"{1000 * seconds:.1f} ms, torch {1000 * peer_seconds:.1f} ms")
    details = {"model": arguments.model, "moments": arguments.moments, "stochastic_rounding": arguments.stochastic}
    rates = {"ours": 1 / seconds, "peer": 1 / peer_seconds}
    common.report(arguments, benchmark="optimizer", unit="updates/s", **rates, **details, muon=arguments.muon)


def our_update(name: str, config: OptimizerConfig):
    """A function that makes one update of ours."""
    model = make_model(name)
    prepare_weights(model, config.stochastic_rounding, torch.bfloat16)
    optimizer = build_optimizer(model, config)
    gradients = set_gradients(model)

    def run() -> None:
        give(gradients)
        optimizer.step(1e-6, config.clip_norm)

    return run


def torch_update(name: str):
    """The same with what torch has."""
    model = make_model(name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-9, fused=True)
    gradients = set_gradients(model)

    def run() -> None:
        give(gradients)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return run


def make_model(name: str) -> CLIP:
    """The network as the trainer holds it."""
    torch.manual_seed(0)
    return CLIP(get_preset(name)).to(memory_format=torch.channels_last)


def set_gradients(model: torch.nn.Module) -> list[torch.Tensor]:
    """Random ones of norm 1 altogether, set once."""
    number = sum(parameter.numel() for parameter in model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter) * number**-0.5
    return [parameter.grad for parameter in model.parameters()]


def give(gradients: list[torch.Tensor]) -> None:
    """Lift the norm a little above the clip again; whole gradients need not be written anew."""
    for gradient in gradients:
        if gradient.ndim == 0:
            gradient.fill_(0.3)


if __name__ == "__main__":
    main()
