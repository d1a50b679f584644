"""Hypothesis profiles: how long the machine looks, and whether it repeats itself.

    pr        the same examples for the same code, everywhere; a few
    fuzz      new examples each time, failing ones kept in a database
    nightly   the same, many more

    from boltmodel.profiles import register
    register()
    settings.load_profile("pr")

`pr` is derandomised because a gate must say the same about the same tree twice.
`fuzz` keeps what failed and tries it first, as the corpus does for programs.
"""

from __future__ import annotations

from typing import Final

from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

__all__ = ["EXAMPLES", "register"]

EXAMPLES: Final = {"pr": 40, "fuzz": 500, "nightly": 5000}
"""Examples of each profile. One takes 60 ms on the engine, on one core."""

# A crash is closed inside of an example, so that examples are long on purpose;
# and a loaded machine is no reason to fail.
_ALLOWED: Final = (HealthCheck.too_slow, HealthCheck.data_too_large)


def register(directory: str = ".tornpage/hypothesis") -> None:
    """Make the profiles known to Hypothesis.

    Args:
        directory: Where `fuzz` and `nightly` keep what failed.
    """
    plain = settings(deadline=None, suppress_health_check=_ALLOWED, print_blob=True)
    settings.register_profile(
        "pr",
        plain,
        derandomize=True,
        database=None,
        max_examples=EXAMPLES["pr"],
    )
    kept = DirectoryBasedExampleDatabase(directory)
    for name in ("fuzz", "nightly"):
        settings.register_profile(
            name,
            plain,
            derandomize=False,
            database=kept,
            max_examples=EXAMPLES[name],
        )
