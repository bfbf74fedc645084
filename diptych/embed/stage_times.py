"""Where the time of an embedding run goes, as the consumer of batches sees it."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator

from diptych.data.decoding_threads import Waits

STAGES = ("reading", "decoding", "computing", "writing")


@dataclasses.dataclass
class StageTimes(Waits):
    """Seconds of each stage. Reading and decoding run beside computing, and count while the computation waits.

    Attributes:
        computing: in the model. writing: in the store.
    """

    computing: float = 0.0
    writing: float = 0.0

    @contextlib.contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the seconds of the block to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, stage, getattr(self, stage) + time.perf_counter() - start)

    def add(self, other: "StageTimes") -> None:
        """Add the seconds of another process."""
        for stage in STAGES:
            setattr(self, stage, getattr(self, stage) + getattr(other, stage))

    @property
    def limit(self) -> str:
        """The stage that takes most of the time."""
        return max(STAGES, key=lambda stage: getattr(self, stage))

    @property
    def shares(self) -> dict[str, float]:
        """The fraction of each stage, the largest first."""
        total = sum(getattr(self, stage) for stage in STAGES) or 1.0
        shares = {stage: getattr(self, stage) / total for stage in STAGES}
        return dict(sorted(shares.items(), key=lambda share: -share[1]))

    def __str__(self) -> str:
        """Such as "computing 80 %, decoding 15 %, reading 4 %, writing 1 %"."""
        return ", ".join(f"{stage} {100 * share:.0f} %" for stage, share in self.shares.items())
