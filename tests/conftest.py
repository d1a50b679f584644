"""What holds for every test: Hypothesis is deterministic and leaves no files.

The gate must say the same about the same tree twice, so examples follow from
the test's own code alone. To hunt with fresh examples instead:

    pytest --hypothesis-profile=hunt tests/models
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "gate",
    derandomize=True,
    database=None,
    # A shared, busy machine; slowness is the benchmarks' affair.
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("hunt", derandomize=False, deadline=None, max_examples=2000)
settings.load_profile("gate")
