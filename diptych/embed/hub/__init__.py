"""Fetch published models: found by name, verified, resumed, cached where the ecosystem caches. It needs no torch."""

from typing import TYPE_CHECKING

from diptych.embed.hub.offline import forget_offline, is_offline, libraries_offline, state_offline
from diptych.lazy import lazy_names

if TYPE_CHECKING:
    from diptych.embed.hub.fetch_model import Fetched, fetch

__all__ = ["Fetched", "fetch", "forget_offline", "is_offline", "libraries_offline", "state_offline"]

__getattr__, __dir__ = lazy_names(__name__, {"diptych.embed.hub.fetch_model": ("Fetched", "fetch")})
