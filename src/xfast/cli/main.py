"""The command line: one sub-command per module of this folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

import xfast
from xfast.errors import XfastError

# Sub-command -> (module, one-line help). The module has `add_arguments(parser)` and `run(args) -> int`; only the chosen
# one is imported, so `xfast --help` and `xfast doctor` start at once.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("xfast.cli.demo", "a ranked, explained feed of a small synthetic network, in the terminal"),
    "explain": (
        "xfast.cli.explain",
        "what became of one post in a viewer's feed: shown, removed and why, or never found",
    ),
    "doctor": ("xfast.cli.doctor", "versions, processor features, engines, and what is missing"),
    "import": ("xfast.cli.import_events", "turn data sets, your own tables or a synthetic network into events"),
    "train": ("xfast.cli.train", "train a ranker or a retrieval model on events"),
    "eval": ("xfast.cli.eval", "measure trained models: actions, recall, the next post beside the baselines"),
    "serve": ("xfast.cli.serve", "run a service: the in-network store, or the models"),
    "rank": ("xfast.cli.rank", "retrieve and rank with published model files, as the published pipeline does"),
    "quantize": ("xfast.cli.quantize", "write model files with int8 weights and tables, and report their sizes"),
    "research": ("xfast.cli.research", "run the preference experiments and compare them with published numbers"),
    "audit": ("xfast.cli.audit", "does a feed that follows these weights work for or against society?"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ``xfast`` command; bad input prints one line on stderr and returns 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="xfast", description="A For You feed: events in, a ranked, explained feed out."
    )
    parser.add_argument("--version", action="version", version=f"xfast {xfast.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen = next((word for word in arguments if not word.startswith("-")), None)
    for name, (module, help_text) in COMMANDS.items():
        sub = commands.add_parser(name, help=help_text, description=help_text)
        if name == chosen:
            import_module(module).add_arguments(sub)
    args = parser.parse_args(arguments)
    try:
        return int(import_module(COMMANDS[args.command][0]).run(args))
    except XfastError as error:
        print(f"xfast {args.command}: {error}", file=sys.stderr)
        for note in getattr(error, "__notes__", ()):
            print(f"  {note}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 1


if __name__ == "__main__":
    sys.exit(main())
