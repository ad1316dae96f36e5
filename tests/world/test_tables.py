"""People's own tables through a map, and what is said about a wrong one."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from xfast.errors import ConfigurationError, DataError
from xfast.events import Follow, MediaKind
from xfast.ids import IdMap
from xfast.world import import_tables, interactions

MAP = """
[[table]]
file = "posts.csv"
kind = "post"
[table.columns]
time = { column = "created", unit = "iso" }
post_id = { column = "slug", ids = "post" }
author_id = { column = "by", ids = "user" }
text = "body"
media = { column = "media" }
topic_ids = { column = "topics", ids = "topic", separator = ";" }
[table.values]
language = "en"

[[table]]
file = "log.tsv"
kind = "engagement"
where = { what = ["like", "open", "odd"] }
[table.columns]
time = { column = "at", unit = "s" }
user_id = { column = "who", ids = "user" }
post_id = { column = "slug", ids = "post" }
action = { column = "what", names = { like = "favorite", open = 29 } }
dwell_ms = "ms"
"""
POSTS = (
    'slug,by,created,body,media,topics\na,ann,2026-06-01T10:00:00Z,"two\nlines, quoted",video:9000|photo,x;y\n'
    "b,bob,2026-06-01T12:00:00+02:00,short,,\n"
)
LOG = "at\twho\tslug\twhat\tms\n1780309000\tcy\ta\tlike\t\n1780309001\tcy\ta\topen\t1500\n1780309002\tcy\tb\tview\t\n"


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    (tmp_path / "map.toml").write_text(MAP)
    (tmp_path / "posts.csv").write_text(POSTS)
    (tmp_path / "log.tsv").write_text(LOG)
    return tmp_path


def test_tables_become_events(tables: Path) -> None:
    imported, maps = import_tables(tables / "map.toml")
    first, second, *_ = list(imported.events)
    post = IdMap(namespace="post")
    ten = int(datetime(2026, 6, 1, 10, tzinfo=UTC).timestamp()) * 1000
    assert first.time_ms == second.time_ms == ten  # 12:00+02:00 is the same moment
    assert (
        first.body.post_id == post.id("a") and first.body.text == "two\nlines, quoted" and first.body.language == "en"
    )
    assert [(item.kind, item.duration_ms) for item in first.body.media] == [
        (MediaKind.VIDEO, 9000),
        (MediaKind.PHOTO, 0),
    ]
    assert len(first.body.topic_ids) == 2 and second.body.topic_ids == () and second.body.media == ()
    rows = interactions(imported.events)
    assert rows.actions.tolist() == [1 << 1 | 1 << 29] and rows.click_dwell_ms.tolist() == [1_500]
    assert imported.report.rows == {"posts.csv": 2, "log.tsv": 3} and imported.report.bad_rows == 0
    assert {ids.namespace: len(ids) for ids in maps} == {"post": 2, "user": 3, "topic": 2}


def test_malformed_rows_are_named_by_line(tables: Path) -> None:
    with (tables / "posts.csv").open("a") as file:
        file.write(
            "c,cy,yesterday,x,,\nd,,2026-06-01T10:00:00Z,x,,\ne,cy,2026-06-01T10:00:00Z,x,film,\nf,cy\n"
            "g,cy,2001-06-01T10:00:00Z,x,,\n"
        )
    with (tables / "log.tsv").open("a") as file:
        file.write("1780309000\tcy\ta\todd\t\n1780309000\tcy\ta\tlike\t1.5\n")
    report = import_tables(tables / "map.toml")[0].report
    told = {(problem.file, problem.line): problem.reason for problem in report.problems}
    assert told["posts.csv", 5] == "created must be a date and time such as 2026-06-01T12:00:00Z: 'yesterday'"
    assert told["posts.csv", 6] == "by must not be empty: ''"
    assert "media must be one of unknown, photo, video, gif" in told["posts.csv", 7]
    assert told["posts.csv", 8] == "2 fields instead of 6" and "shift_weeks" in told["posts.csv", 9]
    assert told["log.tsv", 5] == "what must be one of like, open: 'odd'"
    assert told["log.tsv", 6] == "ms must be a whole number: '1.5'"
    assert report.bad_rows == 7


def test_rows_that_break_the_reader_cost_only_themselves(tables: Path) -> None:
    with (tables / "posts.csv").open("ab") as file:
        file.write(
            b"c,cy,2026-06-01T10:00:00Z,bad \xff byte,,\n"
            b"d,cy,2026-06-01T10:00:00Z,form\x0cfeed and line\xe2\x80\xa8separator,,\n"
            b"e,cy,2026-06-01T10:00:00Z," + b"x" * 140_000 + b",,\n"
            b"f,cy,2026-06-01T10:00:00Z,fine,,\n"
            b'g,cy,2026-06-01T10:00:00Z,"open,,\nh,cy,2026-06-01T10:00:00Z,lost,,\n'
        )
    imported, maps = import_tables(tables / "map.toml")
    told = {(problem.file, problem.line): problem.reason for problem in imported.report.problems}
    assert told == {
        ("posts.csv", 5): "not UTF-8",
        ("posts.csv", 7): "field larger than field limit (131072)",
        ("posts.csv", 9): "4 fields instead of 6: a quote runs to line 10",
    }
    post = next(ids for ids in maps if ids.namespace == "post")
    assert imported.events.columns("post")["post_id"].tolist() == [post.id(key) for key in "abdf"]
    (tables / "log.tsv").write_text('at\twho\tslug\twhat\tms\n1780309000\tcy\ta\tlike\t\n1780309000\t"cy\ta\tlike\t\n')
    map_file = tables / "map.toml"
    map_file.write_text(map_file.read_text().replace('file = "log.tsv"', 'file = "log.tsv"\nquote = ""'))
    assert import_tables(map_file)[0].report.rows["log.tsv"] == 2


def test_parquet_tables(tables: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    when = datetime(2001, 1, 1, tzinfo=UTC)
    columns = {"t": pa.array([when, when], pa.timestamp("us", "UTC")), "a": [1, 2**63], "b": [3, None]}
    pq.write_table(pa.table({**columns, "a": pa.array(columns["a"], pa.uint64())}), tables / "f.parquet")
    (tables / "f.toml").write_text(
        'shift_weeks = 731\n[[table]]\nfile = "f.parquet"\nkind = "follow"\n'
        '[table.columns]\ntime = "t"\nuser_id = "a"\ntarget_user_id = "b"\n'
    )
    imported, maps = import_tables(tables / "f.toml")
    assert [event.body for event in imported.events] == [Follow(1, 3)] and maps == []
    assert int(imported.events.time_ms[0]) == int(when.timestamp() + 731 * 7 * 86_400) * 1000
    assert [str(problem) for problem in imported.report.problems] == ["f.parquet:2: b must not be empty: None"]


def test_units_and_switches(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("t,u,n,gone\n1780309000123456789,5,-1,yes\n1780309000123456789,5,1,maybe\n")
    (tmp_path / "map.toml").write_text(
        '[[table]]\nfile = "t.csv"\nkind = "engagement"\n[table.columns]\ntime = { column = "t", unit = "ns" }\n'
        'user_id = "u"\npost_id = "n"\nremoved = "gone"\n[table.values]\naction = "like"\n'
    )
    imported, _ = import_tables(tmp_path / "map.toml")
    (event,) = imported.events
    assert event.time_ms == 1_780_309_000_123 and event.body.post_id == 2**64 - 1 and event.body.removed
    assert event.body.action == 1 and imported.report.bad_rows == 1


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('kind = "post"', 'kind = "tweet"', "table 1: kind is 'tweet', must be one of post, delete"),
        ('text = "body"', 'txt = "body"', "a post event has no field 'txt'"),
        ('file = "posts.csv"', "", "table 1: file is None"),
        ('post_id = { column = "slug", ids = "post" }\nauthor', "author", "'post_id' is missing"),
        ('unit = "iso"', 'unit = "days"', "unit is 'days', must be iso, s, ms"),
        ('ids = "topic"', 'ids = "../topic"', "must be a namespace of letters"),
        ('separator = ";"', 'split = ";"', "unknown key 'split'"),
        ('text = "body"', "text = 5", r"columns\.text is 5"),
        ('time = { column = "created", unit = "iso" }\n', "", "columns has no 'time'"),
        (
            '[table.values]\nlanguage = "en"',
            '[table.values]\nnullcast = "perhaps"',
            "nullcast is 'perhaps', must be true",
        ),
        ("[[table]]", "[table", "cannot be read"),
    ],
)
def test_a_wrong_map_is_explained(tables: Path, old: str, new: str, text: str) -> None:
    (tables / "map.toml").write_text(MAP.replace(old, new, 1))
    with pytest.raises(ConfigurationError, match=text):
        import_tables(tables / "map.toml")


def test_missing_columns_and_files_are_named(tables: Path) -> None:
    (tables / "posts.csv").write_text("slug,by\n")
    with pytest.raises(DataError, match=r"posts\.csv: has no column 'created', it has slug, by"):
        import_tables(tables / "map.toml")
    (tables / "posts.csv").unlink()
    with pytest.raises(DataError, match=r"posts\.csv: cannot be read"):
        import_tables(tables / "map.toml")
    with pytest.raises(ConfigurationError, match=r"nothing\.toml: cannot be read"):
        import_tables(tables / "nothing.toml")


def test_ids_are_kept_in_a_folder(tables: Path) -> None:
    _, maps = import_tables(tables / "map.toml", ids=tables)
    for ids in maps:
        ids.save()
    _, again = import_tables(tables / "map.toml", ids=tables)
    assert sorted(path.name for path in tables.glob("*.ids")) == ["post.ids", "topic.ids", "user.ids"]
    assert [len(ids) for ids in again] == [len(ids) for ids in maps]
