"""``xfast explain USER POST``: what became of one post in a viewer's feed, and why."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from xfast.errors import ParameterError

if TYPE_CHECKING:
    from rich.console import Console

    from xfast.feed import Explanation, Feed, Story

_STYLES = {"shown": "green", "not selected": "yellow", "removed": "red", "not retrieved": "cyan", "unknown": "magenta"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("user", help="viewer: an id, or @name in the demo network's and MovieLens' feeds")
    parser.add_argument("post", help="post id, or #RANK for that place of the viewer's page")
    parser.add_argument("feed", nargs="?", help="feed.toml, or the folder with it; the demo network if left out")
    parser.add_argument("--movielens", metavar="DIR", help="the feed of `xfast demo --movielens DIR`")
    parser.add_argument("--models", metavar="DIR", help="the models that `xfast demo --models DIR` kept")
    parser.add_argument("--following", action="store_true", help="explain the feed of followed accounts instead")
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(args: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict

    from xfast.cli.screen import console
    from xfast.feed import Feed as Opened

    if args.feed and args.movielens:
        raise ParameterError("feed is given together with --movielens, there can be one")
    if args.models and not args.movielens:
        raise ParameterError("--models is given without --movielens, whose models it keeps")
    if args.feed:
        feed = Opened.open(args.feed)
    elif args.movielens:
        feed = Opened.movielens(
            args.movielens, models=args.models, on_progress=lambda line: print(line, file=sys.stderr, flush=True)
        )
    else:
        feed = Opened.demo()
    with feed:
        user = _user(feed, args.user)
        which = "following" if args.following else "for_you"
        post = _post(feed, user, args.post, which)
        found = feed.explain(user, post, feed=which)  # type: ignore[arg-type]
        name = str(feed.network.store.users([user]).screen_name[0]) or str(user)
    if args.json:
        print(json.dumps(asdict(found), indent=2))
    else:
        print_explanation(console(), found, name)
    return 0


def _user(feed: Feed, text: str) -> int:
    if not text.startswith("@"):
        return _number("user", text)
    users = feed.users
    names = feed.network.store.users(users).screen_name.tolist()
    if text[1:] not in names:
        raise ParameterError(f"user is {text!r}, nobody has that name")
    return int(users[names.index(text[1:])])


def _post(feed: Feed, user: int, text: str, which: str) -> int:
    if not text.startswith("#"):
        return _number("post", text)
    page = (feed.following if which == "following" else feed.for_you)(user, remember=False)
    rank = _number("rank", text[1:])
    if not 1 <= rank <= len(page):
        raise ParameterError(f"rank is {rank}, the page has 1 to {len(page)}")
    return page[rank - 1].post_id


def _number(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ParameterError(f"{name} is {text!r}, must be an id") from None


def print_explanation(screen: Console, found: Explanation, viewer: str) -> None:
    """The explanation as text: verdict, facts, then the story of each candidate with its score term by term."""
    from rich.markup import escape

    screen.rule("Explain", style="bold")
    who = f" by [bold]@{escape(found.author)}[/]" if found.author else ""
    screen.print(f"post {found.post_id}{who} for viewer [bold]@{escape(viewer)}[/]")
    if found.text:
        screen.print(f"[italic]{escape(' '.join(found.text.split()))}[/]")
    screen.print()
    rest = found.summary.removeprefix(found.status)
    gap = "  " if rest == found.summary else ""
    screen.print(f"[bold {_STYLES[found.status]}]{found.status}[/]{gap}{escape(rest)}")
    for note in found.notes:
        screen.print(f"  [dim]·[/] {escape(note)}")
    for story in found.stories:
        screen.print()
        _print_story(screen, found, story)
    screen.print()


def _print_story(screen: Console, found: Explanation, story: Story) -> None:
    from rich.markup import escape
    from rich.table import Table

    head = f"[bold]{escape(story.source)}[/] brought it"
    if story.post_id != found.post_id:
        head += f" as the repost {story.post_id}"
    if story.removed_by:
        head += f"; [red]{escape(story.removed_by)}[/] removed it: {escape(story.reason)}"
    screen.print(head)
    places = [f"{_STAGES[stage]} {place}" for stage, place in story.ranks if stage in _STAGES]
    if places:
        screen.print(f"  places: {', '.join(places)} of {found.candidates:,}")
    for component, message in story.errors:
        screen.print(f"  [red]{escape(component)} failed for it:[/] {escape(message)}")
    weighted = {name.removesuffix(" x weight"): value for name, value in story.terms.items() if "x weight" in name}
    if not weighted:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("  prediction")
    table.add_column("probability", justify="right")
    table.add_column("adds to the score", justify="right")
    for name, value in sorted(weighted.items(), key=lambda pair: -abs(pair[1])):
        chance = story.probabilities.get(name)
        if value or chance:
            shown = "" if chance is None else f"{100 * chance:.2f} %"
            table.add_row(f"  {name.replace('_', ' ')}", shown, f"{value:+.4f}" if value else "[dim]0[/]")
    screen.print(table)
    factors = [
        f"× {story.terms[name]:.3f} {label}" for name, label in _FACTORS.items() if story.terms.get(name, 1.0) != 1
    ]
    total, offset = sum(weighted.values()), story.terms.get("weighted_score", 0.0)
    line = f"  sum {total:+.4f}, offset to {offset:#.4g}" + "".join(f" {factor}" for factor in factors)
    if story.score is not None:
        line += f" = [bold]score {story.score:#.4g}[/]"
    screen.print(line)


_FACTORS = {
    "author diversity": "author diversity",
    "out of network": "out of network",
    "value model": "value model (too like the posts above)",
}
_STAGES = {
    "RankingScorer": "after ranking",
    "VMRanker": "after the value model",
    "Result": "on the page",
}
