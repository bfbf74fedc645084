"""Pack sequences of different lengths into the rows of one matrix, so that short texts cost less than long ones."""

import dataclasses
from collections.abc import Iterator

import torch

# Texts are sorted and cut into this many groups, each as long as its longest text. More or smaller groups save nothing
# more: each adds kernel launches.
_MAX_GROUPS = 4
_MIN_GROUP = 16


@dataclasses.dataclass(frozen=True, eq=False)
class Packing:
    """N sequences stacked as T rows, in groups of equal length.

    Attributes:
        groups: (number of sequences, length) of each group; T is the sum of the products.
        positions: int (N,), the position in each sequence whose output is used.
        causal: no row attends to a later row of its sequence.
    """

    groups: tuple[tuple[int, int], ...]
    positions: torch.Tensor
    causal: bool

    def rows(self) -> torch.Tensor:
        """int (N,), the row among the T of each sequence's output position."""
        starts, before = [], 0
        for number, length in self.groups:
            starts.append(before + length * torch.arange(number, device=self.positions.device))
            before += number * length
        return torch.cat(starts) + self.positions

    def spans(self) -> Iterator[tuple[slice, slice, int, int]]:
        """For each group: its rows, its sequences, and their number and length."""
        row = sequence = 0
        for number, length in self.groups:
            yield slice(row, row + number * length), slice(sequence, sequence + number), number, length
            row, sequence = row + number * length, sequence + number

    def seen(self, sequences: slice, length: int) -> torch.Tensor | None:
        """bool (n, 1, 1, L), the keys that the output positions may attend to; None for all."""
        if not self.causal:
            return None
        places = torch.arange(length, device=self.positions.device)
        return (places <= self.positions[sequences, None])[:, None, None]


def pack_texts(lengths: torch.Tensor, device: torch.device) -> tuple[Packing, torch.Tensor]:
    """Group texts by length; the output position of each is its end.

    Args:
        lengths: int64 (N,) on the CPU, tokens of each text with its start and end.
        device: where the tokens are.
    Returns:
        the Packing, and the order int64 (N,) on `device` of the texts in it.
    """
    num_groups = min(_MAX_GROUPS, max(1, len(lengths) // _MIN_GROUP))
    ordered, order = lengths.sort(stable=True)
    groups: list[tuple[int, int]] = []
    for group in ordered.tensor_split(num_groups):
        number, length = len(group), int(group[-1]) if len(group) else 0
        if groups and groups[-1][1] == length:
            number += groups.pop()[0]
        groups.append((number, length))
    return Packing(tuple(groups), (ordered - 1).to(device), causal=True), order.to(device)
