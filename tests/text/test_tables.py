"""The committed character tables are what the generator writes from the vendored Unicode data."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_tables_are_up_to_date() -> None:
    assert (
        subprocess.run([sys.executable, ROOT / "csrc/text/generate_tables.py", "--check"], check=False).returncode == 0
    )
