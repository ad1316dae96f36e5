"""``xfast serve WHAT``: run a service until it is told to stop (SIGTERM or SIGINT)."""

from __future__ import annotations

import argparse
from importlib import import_module

# What -> (module with `add_arguments(parser)` and `run(args) -> int`, one-line help).
SERVICES: dict[str, tuple[str, str]] = {
    "thunder": ("xfast.cli.serve_thunder", "the in-network post store over gRPC, or the feeder of its topic"),
    "phoenix": ("xfast.cli.serve_phoenix", "ranking and retrieval models over gRPC"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one sub-command per service."""
    services = parser.add_subparsers(dest="service", metavar="SERVICE", required=True)
    for name, (module, text) in SERVICES.items():
        import_module(module).add_arguments(services.add_parser(name, help=text, description=text))


def run(args: argparse.Namespace) -> int:
    """Run the chosen service."""
    return int(import_module(SERVICES[args.service][0]).run(args))
