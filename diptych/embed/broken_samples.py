"""The broken samples of a store by name: the first ones of each shard stand in its shard.json, with the reason."""

from collections.abc import Iterable

from diptych.embed.store import Store, read_json
from diptych.records import Broken

NAMED_PER_SHARD = 20
_LONGEST = 300  # characters of a key or a reason


class BrokenSamples:
    """The broken samples since the last `take`, by key: at most NAMED_PER_SHARD."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}

    def add(self, sample: Broken) -> None:
        """Note a sample; a second reason for the same one replaces the first."""
        key = sample.key[:_LONGEST]
        if key in self._reasons or len(self._reasons) < NAMED_PER_SHARD:
            self._reasons[key] = sample.reason[:_LONGEST]

    def take(self) -> dict[str, str]:
        """Reasons by key; the next call returns those of later samples."""
        taken, self._reasons = self._reasons, {}
        return taken


def broken_samples(stores: Iterable[Store], limit: int) -> dict[str, str]:
    """The reasons of the first broken samples, by key. Stores of earlier versions count them without names.

    Raises:
        DataError: the manifest of a shard is damaged.
    """
    named: dict[str, str] = {}
    for shard in (shard for store in stores if store.num_broken for shard in store.shards):
        if len(named) >= limit:
            break
        content = read_json(shard.folder / "shard.json", "the shard is damaged").get("broken")
        named |= content if isinstance(content, dict) else {}
    return {key: str(named[key]) for key in list(named)[:limit]}
