"""AdamW in one pass over memory: clipping folded in, statistics in fp32 or bf16, weights in fp32 or bf16."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from diptych import distributed
from diptych.train.stochastic_rounding import round_into

# Elements that a CPU works on at a time: a few fp32 buffers of this size stay in its cache.
_CHUNK = 2**18
# Slices of the noise start at one of this many positions.
_SPARE_NOISE = 2**14
_MOMENTS = ("exp_avg", "exp_avg_sq")


class AdamW(torch.optim.Optimizer):
    """AdamW through torch's fused kernel.

    Statistics in bf16 halve their memory (for matrices and kernels; those of vectors are small). They are widened,
    updated in fp32 and written back. The first moment is rounded to nearest, since a tenth of it is new in every step
    (it comes within 4 % of a constant gradient). The second is rounded stochastically, since its changes by 1 - β₂ are
    too small for bf16 otherwise. Weights in bf16 are also updated with stochastic rounding.

    Random bits depend only on the seed and the number of the update: ranks with the same weights round in the same way,
    and a resumed run rounds as an uninterrupted one. One set of them serves all chunks, sliced at a different position
    for each: every element gets uniform bits, and new ones in every update.

    Args:
        moments: torch.float32 or torch.bfloat16, for both statistics.
        seed: of the random bits.
    Source: CLIP paper, section 2.5; statistics in half precision after Jukebox (Dhariwal et al. 2020).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float],
        eps: float,
        moments: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> None:
        self._moments, self._seed = moments, seed
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0, "num_updates": 0})

    @torch.no_grad()
    def step(  # type: ignore[override]
        self, closure: Callable[[], float] | None = None, *, divisor: torch.Tensor | None = None
    ) -> None:
        """One update of all parameters that have a gradient.

        Args:
            divisor: () float32, divides the gradients; None means 1.
        """
        if closure is not None:
            raise NotImplementedError("AdamW takes no closure: it evaluates the loss once a step")
        noise: dict[torch.device, _Noise] = {}
        for group in self.param_groups:
            group["num_updates"] += 1
            plain: dict[torch.device, list[list[torch.Tensor]]] = {}
            for update in self._updates(group):
                device = update[0].device
                if all(t.dtype == update[0].dtype != torch.bfloat16 for t in update[:4]):
                    plain.setdefault(device, []).append(update)
                    continue
                if device not in noise:
                    noise[device] = _Noise(device, self._seed, group["num_updates"])
                _in_chunks(update, group, divisor, noise[device])
            for updates in plain.values():
                _fused(updates, group, divisor)

    def _updates(self, group: dict[str, Any]) -> list[list[torch.Tensor]]:
        """[parameter, gradient, first moment, second moment, number of updates] of each parameter with a gradient.

        For sharded tensors, this rank's shard: the update is elementwise.
        """
        updates = []
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), device=parameter.device)
                for name in _MOMENTS:
                    state[name] = torch.zeros_like(parameter, dtype=self._moments_of(parameter))
            tensors = [local(t) for t in (parameter, parameter.grad, *(state[name] for name in _MOMENTS))]
            tensors[1] = _laid_out_as(tensors[1], tensors[0])
            if tensors[0].numel():
                updates.append([*tensors, state["step"]])
        if updates:
            torch._foreach_add_([update[-1] for update in updates], 1)
        return updates

    def _moments_of(self, parameter: torch.Tensor) -> torch.dtype:
        narrow = self._moments == torch.bfloat16 and parameter.ndim >= 2
        return torch.bfloat16 if narrow else torch.promote_types(parameter.dtype, torch.float32)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of state_dict; torch's own would cast the statistics to the type of their weights."""
        super().load_state_dict(state_dict)
        saved = [index for group in state_dict["param_groups"] for index in group["params"]]
        ours = [parameter for group in self.param_groups for parameter in group["params"]]
        for index, parameter in zip(saved, ours, strict=True):
            for name in _MOMENTS if index in state_dict["state"] else ():
                moment = torch.zeros_like(parameter, dtype=self._moments_of(parameter), requires_grad=False)
                self.state[parameter][name] = moment.copy_(state_dict["state"][index][name])
        for group in self.param_groups:
            group.setdefault("num_updates", 0)


def local(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's shard of a sharded tensor; any other tensor itself."""
    return tensor.to_local() if distributed.is_sharded(tensor) else tensor


class _Noise:
    """Uniform int32 from 0 to 2^16 - 1, for rounding. A CPU slices one set of numbers, since drawing new ones takes
    longer than the whole update; a GPU draws new ones."""

    def __init__(self, device: torch.device, seed: int, update: int) -> None:
        self._device = device
        # A digest, because torch's CPU generator uses only 32 bits of a seed.
        digest = hashlib.blake2b(f"{seed} {update}".encode(), digest_size=4).digest()
        self._generator = torch.Generator(device).manual_seed(int.from_bytes(digest))
        if device.type == "cpu":
            self._tile = self._draw(_CHUNK + _SPARE_NOISE)
            self._offsets: list[int] = []

    def _draw(self, number: int) -> torch.Tensor:
        return torch.empty(number, dtype=torch.int32, device=self._device).random_(0, 2**16, generator=self._generator)

    def next(self, number: int) -> torch.Tensor:
        """int32 (number,); on a CPU at most _CHUNK."""
        if self._device.type != "cpu":
            return self._draw(number)
        if not self._offsets:
            self._offsets = torch.randint(0, _SPARE_NOISE, (1024,), generator=self._generator).tolist()
        offset = self._offsets.pop()
        return self._tile[offset : offset + number]


def _fused(updates: Sequence[Sequence[torch.Tensor]], group: dict[str, Any], divisor: torch.Tensor | None) -> None:
    """Call torch's kernel; it changes all tensors of every update in place except the last."""
    parameters, gradients, means, squares, steps = (list(tensors) for tensors in zip(*updates, strict=True))
    torch._fused_adamw_(
        parameters,
        gradients,
        means,
        squares,
        [],
        steps,
        lr=group["lr"],
        beta1=group["betas"][0],
        beta2=group["betas"][1],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        amsgrad=False,
        maximize=False,
        grad_scale=divisor,
    )


def _in_chunks(
    update: Sequence[torch.Tensor], group: dict[str, Any], divisor: torch.Tensor | None, noise: _Noise
) -> None:
    """The same update if some tensors are bf16: widened, updated and rounded chunk by chunk."""
    *tensors, step = update
    flat = _flat(tensors)
    size = _CHUNK if flat[0].device.type == "cpu" else flat[0].numel()
    buffers = [torch.empty(min(size, len(t)), device=t.device) if t.dtype != torch.float32 else None for t in flat]
    for pieces in zip(*(t.split(size) for t in flat), strict=True):
        wide = [
            piece if buffer is None else buffer[: len(piece)] for piece, buffer in zip(pieces, buffers, strict=True)
        ]
        narrow = [index for index, buffer in enumerate(buffers) if buffer is not None]
        # _foreach_copy_, because it uses vector instructions here.
        torch._foreach_copy_([wide[index] for index in narrow], [pieces[index] for index in narrow])
        _fused([[*wide, step]], group, divisor)
        parameter, _, mean, square = pieces
        if mean.dtype == torch.bfloat16:
            mean.copy_(wide[2])
        for piece, widened in ((square, wide[3]), (parameter, wide[0])):
            if piece.dtype == torch.bfloat16:
                round_into(piece, widened, noise.next(len(piece)))


def _laid_out_as(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The same numbers in the memory layout of `like`, which the kernels assume; rarely a copy."""
    return tensor if tensor.stride() == like.stride() else torch.empty_like(like, dtype=tensor.dtype).copy_(tensor)


def _flat(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Tensors of one shape and layout as vectors over their memory."""
    strides = tensors[0].stride()
    order = sorted(range(len(strides)), key=lambda axis: -strides[axis])
    return [t.permute(order).view(-1) for t in tensors]
