"""Adapter of ``home_mixer.json``: builds inputs from JSON, calls the shipped component, compares.

Components run in reference mode. A key of a case that is neither the suite's own nor a field of HOME_MIXER §1 fails the
case, and so does an expected key that the suite does not produce. Importing a module of suites registers them.
"""

from tests.conformance.home_mixer import ads, filters, hydration, scoring
from tests.conformance.home_mixer.replay import run

__all__ = ["ads", "filters", "hydration", "run", "scoring"]
