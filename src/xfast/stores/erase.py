"""Erasing a user (DECISIONS, "account state is honoured"): every row of theirs, with a receipt."""

from __future__ import annotations

from xfast.events import AccountState
from xfast.stores.database import Session
from xfast.stores.model import EraseReceipt, Relation

__all__ = ["ERASED_POST", "erase_user"]

#: In the column ``deleted``: gone for good, not even a later event about it counts.
ERASED_POST = 2

# What names the user as its owner; posts come first, because what hangs on them is found through them.
_OF_POSTS = (
    (
        "labels",
        "DELETE FROM labels WHERE subject = 0 AND subject_id IN (SELECT post_id FROM posts WHERE author_id = ?)",
    ),
    ("counts", "DELETE FROM counts WHERE post_id IN (SELECT post_id FROM posts WHERE author_id = ?)"),
)
_OF_USER = (
    ("labels", "DELETE FROM labels WHERE subject = 1 AND subject_id = ?"),
    ("keywords", "DELETE FROM keywords WHERE user_id = ?"),
    ("sketches", "DELETE FROM sketches WHERE user_id = ?"),
    ("engagements", "DELETE FROM engagements WHERE user_id = ?"),
    ("impressions", "DELETE FROM impressions WHERE user_id = ?"),
    ("impression_filters", "DELETE FROM impression_filters WHERE user_id = ?"),
    ("served", "DELETE FROM served WHERE user_id = ?"),
    ("request_times", "DELETE FROM request_times WHERE user_id = ?"),
    ("cached_candidates", "DELETE FROM cached_candidates WHERE user_id = ?"),
    # What others did with the user's posts keeps the post, not the person.
    ("authorship", "UPDATE engagements SET author_id = 0 WHERE author_id = ?"),
    ("authorship", "UPDATE impressions SET author_id = 0 WHERE author_id = ?"),
    ("users", "DELETE FROM users WHERE user_id = ?"),
)
_NUMBERS = (
    "author_id", "created_at_ms", "in_reply_to_post_id", "in_reply_to_user_id", "source_post_id", "source_user_id",
    "quoted_post_id", "quoted_user_id", "conversation_id", "subscription_author_id", "nullcast",
)  # fmt: skip
_BLANK = ", ".join(
    [
        *(f"{name} = 0" for name in _NUMBERS),
        "text = ''",
        "language = ''",
        "media = ?",
        "topics = ?",
        f"deleted = {ERASED_POST}",
    ]
)


def erase_user(session: Session, user: int, now_ms: int) -> EraseReceipt:
    """Remove a user (signed id) within the caller's transaction, leave a tombstone, keep and return the receipt."""
    rows: dict[str, int] = {}
    session.lift_deadline()  # whole tables are searched for the user's traces

    def run(table: str, sql: str, *parameters: int | bytes) -> None:
        rows[table] = rows.get(table, 0) + max(0, session.execute(sql, parameters))

    follow = int(Relation.FOLLOW)
    edges = "SELECT {far} FROM relations WHERE kind = ? AND {near} = ? AND active = 1"
    for column, near, far in (("followers", "source", "target"), ("following", "target", "source")):
        chosen = edges.format(near=near, far=far)
        session.execute(f"UPDATE users SET {column} = {column} - 1 WHERE user_id IN ({chosen})", (follow, user))
    # The sketch of a follower counts the erased user: it is rebuilt without.
    followers = edges.format(near="target", far="source")
    session.execute(f"DELETE FROM sketches WHERE user_id IN ({followers})", (follow, user))
    for kind in Relation:
        run("relations", "DELETE FROM relations WHERE kind = ? AND source = ?", int(kind), user)
        if kind is not Relation.TOPIC:
            run("relations", "DELETE FROM relations WHERE kind = ? AND target = ?", int(kind), user)
    for table, sql in _OF_POSTS:
        run(table, sql, user)
    # A tombstone per post keeps a late copy from bringing it back; it names nobody.
    run("posts", f"UPDATE posts SET {_BLANK}, time_ms = ? WHERE author_id = ?", b"", b"", now_ms, user)
    for table, sql in _OF_USER:
        run(table, sql, user)
    session.execute(
        "INSERT INTO users (user_id, state, state_ms) VALUES (?, ?, ?)", (user, int(AccountState.ERASED), now_ms)
    )
    receipt = EraseReceipt(user % 2**64, now_ms, rows)
    session.execute(
        """INSERT INTO erasures (user_id, erased_ms, receipt) VALUES (?, ?, ?)
        ON CONFLICT (user_id, erased_ms) DO UPDATE SET receipt = excluded.receipt""",
        (user, now_ms, receipt.to_json()),
    )
    return receipt
