"""Backoff with full jitter: wait a random time below a bound that doubles with each failure.

Rule: uniform(0, min(cap, base * 2 ** failures)).
Guarantee: clients that failed together do not come back together.
Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 ("Full Jitter").
"""

import random


def full_jitter(failures: int, *, base_s: float, cap_s: float) -> float:
    """Seconds to wait after `failures` earlier failures (0 for the first)."""
    return random.uniform(0, min(cap_s, base_s * 2 ** min(failures, 32)))  # noqa: S311 - spreads load, hides nothing
