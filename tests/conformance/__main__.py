"""``python -m tests.conformance FILE.json …`` and ``python -m tests.conformance phoenix DIR …``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from tests.conformance.report import Report

# A top-level key that only files of one kind have -> the adapter module; its `run(document, report)` replays the file.
ADAPTERS = {"suites": "home_mixer", "thunder": "thunder", "routing": "grox"}


def main(arguments: Sequence[str]) -> int:
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    report = Report()
    if arguments[0] == "phoenix":
        adapter = import_module("tests.conformance.phoenix")
        for directory in arguments[1:]:
            adapter.run(Path(directory), report)
        return report.finish()
    for name in arguments:
        document = json.loads(Path(name).read_text())
        kinds = [module for key, module in ADAPTERS.items() if key in document]
        if len(kinds) != 1:
            print(f"{name}: not a vector file of a known kind (looked for the keys {sorted(ADAPTERS)})")
            report.suite(name, 0, 1)
            continue
        import_module(f"tests.conformance.{kinds[0]}").run(document, report)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
