"""The broken samples of a store by name: all in each shard's broken.jsonl, the first ones also in its shard.json."""

import collections
import json
from collections.abc import Iterable, Iterator

from diptych.embed.store import BROKEN_FILE, Store, read_json
from diptych.errors import DataError
from diptych.records import Broken

_LONGEST_REASON = 300


class BrokenSamples:
    """The broken samples of the parts of a unit, by key."""

    def __init__(self) -> None:
        self._reasons: dict[int, dict[str, str]] = collections.defaultdict(dict)

    def add(self, sample: Broken, part: int) -> None:
        """Note a sample; a second reason for the same one replaces the first."""
        self._reasons[part][sample.key] = sample.reason[:_LONGEST_REASON]

    def take(self, part: int, *, is_last: bool = False) -> dict[str, str]:
        """Reasons by key of a part's samples; of the last part, also of those that follow it."""
        taken = self._reasons.pop(part, {})
        while is_last and self._reasons:
            taken |= self._reasons.pop(min(self._reasons))
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


def all_broken_samples(store: Store) -> Iterator[tuple[str, str]]:
    """The key and the reason of every broken sample of a store, in the order of the source.

    Raises:
        DataError: a list is damaged.
    """
    for shard in store.shards:
        if "broken" not in shard.digests:
            continue
        path = shard.folder / BROKEN_FILE
        try:
            with path.open(encoding="utf-8") as file:
                for line in file:
                    row = json.loads(line)
                    yield str(row["key"]), str(row["reason"])
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise DataError(f"cannot read {path}: {error}; delete {shard.folder} and encode it again") from error
