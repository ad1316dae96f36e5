"""One core for all of it: the calibration and the benchmarks then stand on the same ground on any machine."""

from __future__ import annotations

import os

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
