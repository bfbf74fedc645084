"""Licences: a notice for those that forbid some uses, and a setting that refuses them."""

import logging
import os

from diptych.embed.catalogue import License
from diptych.errors import ConfigError, WeightsError

logger = logging.getLogger(__name__)

VARIABLE = "DIPTYCH_LICENSES"
_PERMISSIVE = {
    *("mit", "mit-0", "apache-2.0", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "isc", "unlicense"),
    *("cc0-1.0", "cc-by-4.0", "cc-by-3.0", "cc-by-2.0", "zlib", "wtfpl", "0bsd", "afl-3.0", "artistic-2.0"),
}
_RESEARCH = ("-nc", "amlr", "research", "non-commercial", "noncommercial")


def license_named(name: str | None) -> License | None:
    """The licence of an identifier that the hub states; None if it states none."""
    if not name:
        return None
    lower = name.lower()
    if lower in _PERMISSIVE:
        return License(name=lower, terms="permissive")
    return License(name=lower, terms="research" if any(part in lower for part in _RESEARCH) else "custom")


def check_license(name: str, license: License | None) -> None:
    """Refuse a model whose licence the user does not want (DIPTYCH_LICENSES=permissive).

    Args:
        name: of the model, for the message.
        license: None if it is unknown.
    Raises:
        WeightsError: the variable is "permissive" and the licence is not.
        ConfigError: the variable has another value.
    """
    wanted = os.environ.get(VARIABLE, "any") or "any"
    if wanted not in ("any", "permissive"):
        raise ConfigError(f"{VARIABLE} is {wanted!r}; set it to permissive or any")
    if wanted == "permissive" and (license is None or license.terms != "permissive"):
        raise WeightsError(
            f"{name} is {_words(license)}, and {VARIABLE} accepts only permissive ones; `diptych models --license "
            "permissive` lists those"
        )


def announce_license(name: str, license: License | None) -> None:
    """Log a notice about a licence that may forbid some uses."""
    if license is None:
        logger.warning("%s: its publisher states no licence", name)
    elif license.terms != "permissive":
        logger.warning("%s is %s", name, _words(license))


def _words(license: License | None) -> str:
    if license is None:
        return "a model without a stated licence"
    if license.terms == "research":
        return f"licensed for research only ({license.name}): it may not be used in a product"
    return f"under a licence of its publisher's own ({license.name}); read it before you use the model"
