"""``xfast demo``: a ranked, explained feed in the terminal."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

from xfast.errors import ParameterError

if TYPE_CHECKING:
    from rich.console import Console

    from xfast.feed import Feed, FeedItem, FeedPage, PromotedItem, SuggestionsItem

#: Who brought a post whose author the viewer does not follow.
_SOURCES = {
    "for_you_phoenix_retrieval": "[cyan]discovered[/]",
    "for_you_phoenix_retrieval_moe": "[cyan]discovered[/]",
    "for_you_tweet_mixer": "[blue]popular now[/]",
    "for_you_fallback": "[blue]fresh and popular[/]",
}

_FACTORS = {"author diversity": "same author again", "out of network": "discovered", "value model": "too alike"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--user", type=int, help="viewer's id; a typical one if left out")
    parser.add_argument("--limit", type=int, default=12, help="posts to show (default 12)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the synthetic network (default 0)")
    parser.add_argument("--train", action="store_true", help="train the two models now instead of loading shipped ones")
    parser.add_argument(
        "--movielens", metavar="DIR", help="train on a MovieLens folder (100K or 1M) and rank its films"
    )
    parser.add_argument(
        "--models", metavar="DIR", help="with --movielens: load the models there, or train and keep them there"
    )


def run(args: argparse.Namespace) -> int:
    from xfast.cli.screen import console
    from xfast.feed import Feed
    from xfast.feed.demo import typical_viewer

    if args.movielens and args.train:
        raise ParameterError("--train is given with --movielens, which always trains")
    if args.models and not args.movielens:
        raise ParameterError("--models is given without --movielens, which trains the models that it keeps")
    started = time.monotonic()

    def say(line: str) -> None:
        print(f"[{time.monotonic() - started:5.1f} s] {line}", file=sys.stderr, flush=True)

    if args.movielens:
        feed = Feed.movielens(args.movielens, models=args.models, on_progress=say)
    else:
        feed = Feed.demo(args.seed, train=args.train, on_progress=say)
    with feed:
        user = typical_viewer(feed) if args.user is None else args.user
        clock = time.perf_counter()
        page = feed.for_you(user, args.limit, explain=True)
        say(f"ranked {page.candidates:,} candidates in {(time.perf_counter() - clock) * 1000:.0f} ms")
        print_page(console(), feed, page, how=_how_to_explain(args))
    return 0


def _how_to_explain(args: argparse.Namespace) -> str | None:
    """The command, without its user and post; ``None`` if there is none for this feed."""
    if args.movielens:
        kept = f" --models {shlex.quote(args.models)}" if args.models else ""
        return f"xfast explain --movielens {shlex.quote(args.movielens)}{kept}"
    return "xfast explain" if args.seed == 0 and not args.train else None


def print_page(screen: Console, feed: Feed, page: FeedPage, *, how: str | None) -> None:
    """The feed as text: who wrote what, where it came from, what the viewer would do, and why it ranks there."""
    from rich.markup import escape

    from xfast.cli.screen import clipped

    width = screen.width
    screen.rule("For You", style="bold")
    _print_viewer(screen, feed, page)
    for item in page.timeline:
        screen.print()
        if item.kind == "post":
            _print_post(screen, item)  # type: ignore[arg-type]
        elif item.kind == "promoted":
            _print_promoted(screen, item)  # type: ignore[arg-type]
        elif item.kind == "who_to_follow":
            _print_suggestions(screen, item)  # type: ignore[arg-type]
        else:
            screen.print(f"     [magenta]{item.kind}[/] {escape(clipped(getattr(item, 'text', ''), width - 14))}")
    screen.print()
    if len(page) and how:
        screen.print(f"[dim]why?  {escape(how)} {page.user_id} {page[0].post_id}[/]", soft_wrap=True)


def _print_viewer(screen: Console, feed: Feed, page: FeedPage) -> None:
    from rich.markup import escape

    from xfast.cli.screen import clipped

    profile = feed.network.store.users([page.user_id])
    name = str(profile.screen_name[0]) or str(page.user_id)
    screen.print(f"viewer [bold]@{escape(name)}[/] · follows {int(profile.following[0])}")
    if not profile.found[0]:
        screen.print("[yellow]nothing is known of this viewer: fresh and popular posts[/]")
    counts = Counter(each.filter.removesuffix("Filter") for each in page.removed)
    gone = [f"{name} {count}" for name, count in counts.most_common()]
    screen.print(f"[dim]{page.candidates:,} candidates, removed by filters:{'' if gone else ' none'}[/]")
    while gone:
        line = _fitting(gone, screen.width - 2)
        gone = gone[line.count(" · ") + 1 :]
        screen.print(f"  [dim]{line}[/]")
    for failure in page.failures:
        screen.print(f"[red]failed: {escape(clipped(failure, screen.width - 8))}[/]")


def _print_post(screen: Console, item: FeedItem) -> None:
    from rich.markup import escape

    from xfast.cli.screen import clipped

    badge = " [blue]✓[/]" if item.verified else ""
    source = "[green]followed[/]" if item.in_network else _SOURCES.get(item.source, item.source)
    head = f"{item.rank:>3}  @{clipped(item.author, screen.width - 61)}"
    screen.print(
        f"[bold]{escape(head)}[/]{badge}  {source}  [dim]score[/] [bold]{item.score:#.4g}[/]  [dim]{item.post_id}[/]"
    )
    text = item.text or f"reposts @{item.reposted_author}"
    screen.print(f"     {escape(clipped(text, screen.width - 6))}")
    screen.print(f"     [dim]likely  {_fitting(_likely(item), screen.width - 14)}[/]")
    screen.print(f"     [dim]because {_because(item, screen.width - 14)}[/]")


def _print_promoted(screen: Console, item: PromotedItem) -> None:
    from rich.markup import escape

    from xfast.cli.screen import clipped

    screen.print(f" [yellow]ad[/]  [bold]@{escape(item.author)}[/]  [yellow]promoted[/]")
    screen.print(f"     {escape(clipped(item.text, screen.width - 6))}")


def _print_suggestions(screen: Console, item: SuggestionsItem) -> None:
    from rich.markup import escape

    screen.print("     [magenta]who to follow[/]")
    for account in item.accounts:
        screen.print(f"     [bold]@{escape(account.name)}[/]  [dim]{escape(account.reason)}[/]")


def _likely(item: FeedItem) -> list[str]:
    return [f"{name.replace('_', ' ')} {100 * p:.1f} %" for name, p in item.top(5)]


def _because(item: FeedItem, width: int) -> str:
    """The largest terms, what speaks for it first, as many as fit before the factors."""
    factors = [
        f"× {item.terms[factor]:.2g} {name}" for factor, name in _FACTORS.items() if item.terms.get(factor, 1.0) != 1
    ]
    tail = "".join(f" · {factor}" for factor in factors)
    largest = sorted(item.why(4), key=lambda term: term[1] < 0)
    terms = [f"{name.replace('_', ' ')} {value:+.3f}" for name, value in largest]
    return _fitting(terms, width - len(tail)) + tail


def _fitting(parts: list[str], width: int) -> str:
    """As many parts as fit on the line."""
    line = ""
    for part in parts:
        longer = f"{line} · {part}" if line else part
        if len(longer) > width:
            break
        line = longer
    return line
