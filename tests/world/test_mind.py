"""MIND files, clean and cut off."""

from pathlib import Path

import pytest

from xfast.errors import DataError
from xfast.ids import IdMap
from xfast.world import import_mind, interactions
from xfast.world.mind import HISTORY_STEP_MS

NEWS = "N1\tsports\tfootball_nfl\tTitle one\tAbstract\turl\t[]\t[]\nN2\tnews\tnewsus\tTitle two\t\turl\t[]\t[]\n"
BEHAVIORS = (
    "1\tU7\t11/15/2019 8:55:22 AM\tN2 N3 N2\tN1-1 N2-0\n"
    "2\tU8\t11/14/2019 12:00:00 AM\t\tN1-0 N3-1\n"
    "3\tU7\t11/15/2019 12:00:00 PM\tN2 N3 N2\tN2-1\n"
)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    (tmp_path / "news.tsv").write_text(NEWS)
    (tmp_path / "behaviors.tsv").write_text(BEHAVIORS)
    return tmp_path


def test_clicks_and_what_was_not_clicked(small: Path) -> None:
    imported = import_mind(small)
    rows = interactions(imported.events, window_ms=0)
    number = (rows.post_id & (2**22 - 1)).tolist()
    told = list(zip(rows.user_id.tolist(), number, (rows.actions > 0).tolist(), rows.shown.tolist()))
    assert told == [
        *((8, 1, False, True), (8, 3, True, True)),
        *((7, 2, True, False), (7, 3, True, False), (7, 2, True, False)),
        *((7, 1, True, True), (7, 2, False, True), (7, 2, True, True)),
    ]
    morning = 1_573_808_122_000  # 15 November 2019, 8:55:22 UTC
    assert rows.time_ms[5] == morning and rows.time_ms[7] == morning + (3 * 3600 + 4 * 60 + 38) * 1000
    assert rows.time_ms[2:5].tolist() == [morning - back * HISTORY_STEP_MS for back in (3, 2, 1)]
    assert rows.time_ms[0] == 1_573_689_600_000  # 12 AM is midnight
    posts = imported.events.columns("post")
    assert sorted(posts["text"].tolist()) == ["", "Title one\n\nAbstract", "Title two"]
    assert set(posts["author_id"].tolist()) >= {IdMap(namespace="mind publisher").id("newsus")}
    follows = imported.events.columns("follow")
    assert follows["user_id"].tolist() == [7] and imported.events.time_ms[follows.rows].tolist() == [rows.time_ms[7]]
    assert any("1 of 3 news have no usable row" in note for note in imported.report.notes)
    assert imported.report.bad_rows == 0


def test_malformed_rows_are_named_and_counted(small: Path) -> None:
    with (small / "behaviors.tsv").open("a") as file:
        file.write(
            "4\tU9\t13/15/2019 1:00:00 AM\t\tN1-0\n"
            "5\tU9\t11/15/2019 1:00 AM\t\tN1-0\n"
            "6\tX9\t11/15/2019 1:00:00 AM\t\tN1-0\n"
            "7\tU9\t11/15/2019 1:00:00 AM\t\tN1\n"
            "8\tU9\t11/15/2019 1:00:00 AM\tM1\tN1-0\n"
            "9\tU9\t11/15/2019 13:00:00 AM\t\tN1-0\n"
            "10\tU9\t11/15/2019 1:00:00 AM\t\tN9999999-0\n"
            "11\tU9\t11/15/2019 1:00:00 AM\tN1 N\n"
            f"{2**64}\tU9\t11/15/2019 1:00:00 AM\t\tN1-0\n"
            f"13\tU{'9' * 5000}\t11/15/2019 1:00:00 AM\t\tN1-0\n"
        )
    with (small / "news.tsv").open("a") as file:
        file.write("N1\tsports\tagain\tTitle\t\turl\t[]\t[]\nN5\tnews\tnewsworld\tA title that is cut o")
    with (small / "news.tsv").open("ab") as file:
        file.write(b"\nN6\tnews\tnewsworld\tbad byte \xff\t\turl\t[]\t[]\n")
    report = import_mind(small).report
    reasons = {(problem.file, problem.line): problem.reason for problem in report.problems}
    assert {line for file, line in reasons if file == "behaviors.tsv"} == set(range(4, 14)) and report.bad_rows == 13
    assert reasons["behaviors.tsv", 4].startswith("time is no date") and "U13740" in reasons["behaviors.tsv", 6]
    assert reasons["behaviors.tsv", 9].startswith("time has an hour outside [1, 12]")
    assert reasons["behaviors.tsv", 11].startswith("4 fields instead of 5")
    assert reasons["news.tsv", 3] == "news is listed twice: N1"
    assert reasons["news.tsv", 4].startswith("4 fields instead of 8")
    assert reasons["news.tsv", 5].startswith("not utf-8")
    assert report.rows == {"behaviors.tsv": 13, "news.tsv": 5}


def test_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no behaviors\.tsv here"):
        import_mind(tmp_path)
    (tmp_path / "behaviors.tsv").write_text("junk\n")
    with pytest.raises(
        DataError, match=r"no row could be used; first problem: behaviors\.tsv:1: 1 fields instead of 5"
    ):
        import_mind(tmp_path)


def test_the_real_truncated_files(shared: Path) -> None:
    report = import_mind(shared / "data" / "mind-small-truncated").report
    assert report.rows == {"behaviors.tsv": 5_000, "news.tsv": 2_000} and report.bad_rows == 0
    assert report.events["impression"] > 100_000 and any("of 22592 news have no usable row" in x for x in report.notes)
