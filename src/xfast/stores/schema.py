"""The tables, as numbered migrations that SQLite and PostgreSQL both run.

Types are written as ``{id}`` (64-bit integer; ids are bit-cast to signed), ``{int}``, ``{real}``, ``{text}`` and
``{blob}``; ``{clustered}`` stores the table in key order where the database can. A migration is never edited after a
release: a change is a new one at the end.
"""

from __future__ import annotations

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # Who follows, blocks, mutes, subscribes to whom, and which topics; the last event wins, also one that ends it.
        """CREATE TABLE relations (kind {int} NOT NULL, source {id} NOT NULL, target {id} NOT NULL,
            time_ms {id} NOT NULL, active {int} NOT NULL, PRIMARY KEY (kind, source, target)) {clustered}""",
        "CREATE INDEX relations_by_target ON relations (kind, target)",
        """CREATE TABLE keywords (user_id {id} NOT NULL, keyword {text} NOT NULL, time_ms {id} NOT NULL,
            active {int} NOT NULL, PRIMARY KEY (user_id, keyword)) {clustered}""",
        """CREATE TABLE users (user_id {id} PRIMARY KEY, state {int} NOT NULL DEFAULT 0,
            state_ms {id} NOT NULL DEFAULT -1, profile_ms {id} NOT NULL DEFAULT -1,
            screen_name {text} NOT NULL DEFAULT '',
            display_name {text} NOT NULL DEFAULT '', description {text} NOT NULL DEFAULT '',
            languages {text} NOT NULL DEFAULT '[]', country_code {text} NOT NULL DEFAULT '',
            age_years {int} NOT NULL DEFAULT 0, subscription_level {int} NOT NULL DEFAULT 0,
            created_at_ms {id} NOT NULL DEFAULT 0, followers {id} NOT NULL DEFAULT 0,
            following {id} NOT NULL DEFAULT 0)""",
        """CREATE TABLE sketches (user_id {id} NOT NULL, positions {int} NOT NULL, sketch {blob} NOT NULL,
            PRIMARY KEY (user_id, positions))""",
        """CREATE TABLE engagements (user_id {id} NOT NULL, time_ms {id} NOT NULL, post_id {id} NOT NULL,
            action {int} NOT NULL, removed {int} NOT NULL, author_id {id} NOT NULL, surface {int} NOT NULL,
            dwell_ms {int} NOT NULL, request_id {id} NOT NULL,
            PRIMARY KEY (user_id, time_ms, post_id, action, removed)) {clustered}""",
        """CREATE TABLE posts (post_id {id} PRIMARY KEY, time_ms {id} NOT NULL, deleted {int} NOT NULL,
            author_id {id} NOT NULL, created_at_ms {id} NOT NULL, text {text} NOT NULL, language {text} NOT NULL,
            in_reply_to_post_id {id} NOT NULL, in_reply_to_user_id {id} NOT NULL, source_post_id {id} NOT NULL,
            source_user_id {id} NOT NULL, quoted_post_id {id} NOT NULL, quoted_user_id {id} NOT NULL,
            conversation_id {id} NOT NULL, subscription_author_id {id} NOT NULL, nullcast {int} NOT NULL,
            media {blob} NOT NULL, topics {blob} NOT NULL)""",
        "CREATE INDEX posts_by_author ON posts (author_id)",
        """CREATE TABLE labels (subject {int} NOT NULL, subject_id {id} NOT NULL, label {text} NOT NULL,
            time_ms {id} NOT NULL, active {int} NOT NULL, category {int} NOT NULL, source {text} NOT NULL,
            rule_id {id} NOT NULL, score {real} NOT NULL, PRIMARY KEY (subject, subject_id, label)) {clustered}""",
        """CREATE TABLE counts (post_id {id} NOT NULL, counter {int} NOT NULL, number {id} NOT NULL,
            PRIMARY KEY (post_id, counter)) {clustered}""",
        """CREATE TABLE impressions (user_id {id} NOT NULL, time_ms {id} NOT NULL, post_id {id} NOT NULL,
            author_id {id} NOT NULL, surface {int} NOT NULL, position {int} NOT NULL, request_id {id} NOT NULL,
            PRIMARY KEY (user_id, time_ms, post_id)) {clustered}""",
        """CREATE TABLE impression_filters (user_id {id} NOT NULL, number {int} NOT NULL, members {int} NOT NULL,
            newest_ms {id} NOT NULL, filter {blob} NOT NULL, PRIMARY KEY (user_id, number))""",
        """CREATE TABLE served (user_id {id} NOT NULL, request_id {id} NOT NULL, served_ms {id},
            response {text} NOT NULL, PRIMARY KEY (user_id, request_id))""",
        "CREATE TABLE request_times (user_id {id} PRIMARY KEY, times {text} NOT NULL)",
        """CREATE TABLE cached_candidates (cache_key {text} PRIMARY KEY, user_id {id} NOT NULL,
            expires_ms {id} NOT NULL, payload {blob} NOT NULL)""",
        "CREATE INDEX cached_candidates_by_user ON cached_candidates (user_id)",
        """CREATE TABLE erasures (user_id {id} NOT NULL, erased_ms {id} NOT NULL, receipt {text} NOT NULL,
            PRIMARY KEY (user_id, erased_ms))""",
    ),
    (
        # Holds all that is asked for, so that a planner without statistics prefers it to the key, whose first column is
        # all that a search by target can use (and reads every relation of the kind).
        "DROP INDEX relations_by_target",
        "CREATE INDEX relations_by_target ON relations (kind, target, active, source)",
    ),
)
