"""Compare a smoke run with the committed medians: reported at 1.5 ×, failing only at 3 ×.

Machines differ, so every median is divided by that of a calibration workload measured in the same run, before and after
the others; the committed file holds such ratios for every instruction set, as the native kernels differ between these.
A machine that is busy for a part of the run moves medians, but hardly the fastest rounds: where the ratio of those is
lower, it counts.
On a processor whose instruction set is not in the file nothing can fail. ``--update`` writes the medians of this run;
XFAST_ISA=avx2 or scalar measures what an older processor would run.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

MEDIANS = Path(__file__).with_name("medians.json")
CALIBRATION = "test_calibration"
REPORT_AT, FAIL_AT = 1.5, 3.0

Medians = dict[str, dict[str, float]]


def relative_medians(path: Path) -> tuple[str, dict[str, float]]:
    """The instruction set of a run, and benchmark name -> its median as a multiple of the calibration workload's."""
    benchmarks: list[dict[str, Any]] = json.loads(path.read_text())["benchmarks"]
    isa = str(benchmarks[0]["extra_info"]["isa"])
    medians, fastest = (_in_units(benchmarks, statistic) for statistic in ("median", "min"))
    return isa, {name: min(median, fastest[name]) for name, median in sorted(medians.items())}


def _in_units(benchmarks: list[dict[str, Any]], statistic: str) -> dict[str, float]:
    values = {b["name"]: float(b["stats"][statistic]) for b in benchmarks}
    units = [values.pop(name) for name in list(values) if name.startswith(CALIBRATION)]
    return {name: value * len(units) / sum(units) for name, value in values.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="the JSON of pytest-benchmark")
    parser.add_argument("--update", action="store_true", help="write the committed medians of this instruction set")
    args = parser.parse_args()
    isa, now = relative_medians(args.run)
    everything: Medians = json.loads(MEDIANS.read_text()) if MEDIANS.exists() else {}
    if args.update:
        everything[isa] = {name: float(f"{value:.4g}") for name, value in now.items()}
        MEDIANS.write_text(json.dumps(everything, indent=2, sort_keys=True) + "\n")
        return 0
    committed = everything.get(isa)
    if committed is None:
        print(f"no committed medians for {isa} (there are {', '.join(everything)}): nothing to compare with")
        committed = {}
    failed = False
    for name, value in now.items():
        if name not in committed:
            print(f"{name}: {value:.4g} units, no committed median; run compare.py --update")
            failed |= isa in everything
            continue
        ratio = value / committed[name]
        if ratio >= REPORT_AT:
            print(f"{name}: {ratio:.2f} × the committed median{'  FAIL' if ratio >= FAIL_AT else ''}")
            failed |= ratio >= FAIL_AT
    missing = committed.keys() - now.keys()
    if missing:
        print(f"committed but not measured: {', '.join(sorted(missing))}")
    print(f"{len(now)} smoke benchmarks compared on {isa}")
    return int(failed or bool(missing))


if __name__ == "__main__":
    sys.exit(main())
