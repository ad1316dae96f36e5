"""The ``xfast`` command."""

from xfast.cli.main import main

__all__ = ["main"]
