"""Rewrite ``descriptors.binpb`` from the .proto files: ``python -m xfast.events.generate``.

Needs grpcio-tools (extra ``dev``). ``--check`` writes nothing and returns 1 if the file that is checked in is not what
protoc makes of the sources.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from xfast.errors import DataError

FOLDER = Path(__file__).resolve().parent
PROTOS = ("network_event.proto", "in_network_event.proto", "in_network_service.proto", "phoenix_service.proto")


def generate() -> bytes:
    """Return the serialised ``FileDescriptorSet`` of the .proto files, without source positions and comments.

    Raises
    ------
    DataError
        protoc refuses a file; it has printed why.
    """
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "descriptors.binpb")
        status = protoc.main(["protoc", f"--proto_path={FOLDER}", f"--descriptor_set_out={target}", *PROTOS])
        if status != 0:
            raise DataError(f"protoc ended with status {status} for {', '.join(PROTOS)}")
        return target.read_bytes()


def main(argv: list[str] | None = None) -> int:
    """Write or check ``descriptors.binpb``."""
    parser = argparse.ArgumentParser(prog="python -m xfast.events.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the file that is checked in")
    args = parser.parse_args(argv)
    target = FOLDER / "descriptors.binpb"
    data = generate()
    if args.check:
        current = target.is_file() and target.read_bytes() == data
        print(f"{target.name} is {'current' if current else 'not what protoc makes of the .proto files'}")
        return 0 if current else 1
    target.write_bytes(data)
    print(f"{target}: {len(data)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
