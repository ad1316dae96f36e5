"""``xfast demo``: a ranked, explained feed in the terminal."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from xfast.errors import ParameterError

if TYPE_CHECKING:
    from xfast.feed import Feed, FeedItem, FeedPage


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--user", type=int, help="viewer's id; a typical one if left out")
    parser.add_argument("--limit", type=int, default=12, help="posts to show (default 12)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the synthetic network (default 0)")
    parser.add_argument("--train", action="store_true", help="train the two models now instead of loading shipped ones")
    parser.add_argument(
        "--movielens", metavar="DIR", help="train on a MovieLens folder (100K or 1M) and rank its films"
    )


def run(args: argparse.Namespace) -> int:
    from xfast.feed import Feed
    from xfast.feed.demo import typical_viewer

    if args.movielens and args.train:
        raise ParameterError("--train is given with --movielens, which always trains")
    started = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - started:5.1f} s] {line}", file=sys.stderr, flush=True)

    if args.movielens:
        feed = Feed.movielens(args.movielens, on_progress=say)
    else:
        feed = Feed.demo(args.seed, train=args.train, on_progress=say)
    user = typical_viewer(feed) if args.user is None else args.user
    clock = time.perf_counter()
    page = feed.for_you(user, args.limit, explain=True)
    say(f"ranked {page.candidates} candidates in {(time.perf_counter() - clock) * 1000:.1f} ms")
    print_page(feed, page)
    return 0


def print_page(feed: Feed, page: FeedPage) -> None:
    """The feed as text: who wrote what, in or out of the viewer's network, what they would do, and why it ranks."""
    from rich.console import Console
    from rich.markup import escape

    network = feed.network
    console = Console(highlight=False, soft_wrap=False)
    width = min(console.width, 118)
    viewer = network.names.get(page.user_id, str(page.user_id))
    history = network.histories.of(page.user_id)
    acted = int((network.interactions.actions[history] != 0).sum())
    console.rule("For You", style="bold")
    console.print(
        f"viewer [bold]@{escape(viewer)}[/] · follows {len(network.follows.of(page.user_id))} · "
        f"acted on {acted} posts · {page.candidates} candidates, {len(page.removed)} removed by filters"
    )
    for item in page:
        place = "[green]in network[/]" if item.in_network else "[cyan]discovered[/]"
        console.print(
            f"\n[bold]{item.rank:>3}[/]  [bold]@{escape(item.author)}[/]  {place}  score [bold]{item.score:.4f}[/]"
        )
        text = " ".join(item.text.split()) or "(no text: a repost)"
        console.print(f"     {escape(text if len(text) <= width - 6 else text[: width - 7] + '…')}")
        console.print(f"     [dim]likely  {_likely(item)}[/]")
        console.print(f"     [dim]because {_because(item)}[/]")
    console.print()


def _likely(item: FeedItem) -> str:
    return " · ".join(f"{name} {100 * p:.1f} %" for name, p in item.top(4))


def _because(item: FeedItem) -> str:
    parts = [f"{name} {value:+.3f}" for name, value in item.why(3)]
    for factor, name in (("author diversity", "author again"), ("out of network", "discovered")):
        if item.terms[factor] != 1:
            parts.append(f"× {item.terms[factor]:.2f} {name}")
    return " · ".join(parts)
