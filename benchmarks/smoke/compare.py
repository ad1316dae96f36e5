"""Compare a smoke run with the committed medians: reported at 1.5 ×, failing only at 3 ×.

Machines differ, so every median is divided by that of a calibration workload measured in the same run; the committed
file holds such ratios. ``--update`` writes them anew.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

MEDIANS = Path(__file__).with_name("medians.json")
CALIBRATION = "test_calibration"
REPORT_AT, FAIL_AT = 1.5, 3.0


def relative_medians(path: Path) -> dict[str, float]:
    """Benchmark name -> its median as a multiple of the calibration workload's."""
    medians = {b["name"]: float(b["stats"]["median"]) for b in json.loads(path.read_text())["benchmarks"]}
    unit = medians.pop(CALIBRATION)
    return {name: median / unit for name, median in sorted(medians.items())}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="the JSON of pytest-benchmark")
    parser.add_argument("--update", action="store_true", help="write the committed medians")
    args = parser.parse_args()
    now = relative_medians(args.run)
    if args.update:
        MEDIANS.write_text(json.dumps({name: round(value, 4) for name, value in now.items()}, indent=2) + "\n")
        return 0
    committed: dict[str, float] = json.loads(MEDIANS.read_text())
    failed = False
    for name, value in now.items():
        if name not in committed:
            print(f"{name}: no committed median; run compare.py --update")
            failed = True
            continue
        ratio = value / committed[name]
        if ratio >= REPORT_AT:
            print(f"{name}: {ratio:.2f} × the committed median{'  FAIL' if ratio >= FAIL_AT else ''}")
            failed |= ratio >= FAIL_AT
    missing = committed.keys() - now.keys()
    if missing:
        print(f"committed but not measured: {sorted(missing)}")
    print(f"{len(now)} smoke benchmarks compared")
    return int(failed or bool(missing))


if __name__ == "__main__":
    sys.exit(main())
