"""MovieLens files in both layouts, clean and damaged."""

from pathlib import Path

import numpy as np
import pytest

from xfast.errors import DataError
from xfast.ids import snowflake_time_ms
from xfast.world import import_movielens, interactions
from xfast.world.dataset import REPLAY_SHIFT_MS
from xfast.world.movielens import ACTIONS, MASKS, STUDIO, item_numbers, ratings_of

LATIN = "3|Voilà (1995)|01-Jan-1995||u|1|0|0\n"


@pytest.fixture
def small_100k(tmp_path: Path) -> Path:
    """Three items, two genres and 'unknown', ratings with ties out of user order."""
    (tmp_path / "u.genre").write_text("unknown|0\nAction|1\nDrama|2\n\n")
    (tmp_path / "u.item").write_text(
        "1|Heat (1995)|01-Jan-1995||u|0|1|0\n2|Toys (1992)|01-Jan-1992||u|0|1|1\n" + LATIN, "latin-1"
    )
    (tmp_path / "u.user").write_text("7|24|M|student|00000\n9|53|F|other|00000\n")
    (tmp_path / "u.data").write_text("9\t2\t4\t900000000\n7\t1\t5\t880000000\n9\t1\t1\t900000000\n7\t3\t3\t880000000\n")
    return tmp_path


def test_100k_layout(small_100k: Path) -> None:
    imported = import_movielens(small_100k)
    rows = interactions(imported.events)
    # Time order, ties by row of the file.
    assert rows.user_id.tolist() == [7, 7, 9, 9] and item_numbers(rows.post_id).tolist() == [1, 3, 2, 1]
    assert ratings_of(rows.actions).tolist() == [5, 3, 4, 1] and rows.request_id.tolist() == [2, 4, 1, 3]
    assert rows.author_id.tolist() == [STUDIO + 2, STUDIO + 1, STUDIO + 6, STUDIO + 2]
    posts = imported.events.columns("post")
    texts = dict(zip(item_numbers(posts["post_id"]).tolist(), posts["text"].tolist()))
    assert texts == {1: "Heat (1995)", 2: "Toys (1992)", 3: "Voilà (1995)"}
    assert posts["topic_ids"].tolist()[posts["text"].tolist().index("Toys (1992)")] == [2, 3]
    assert snowflake_time_ms(posts["post_id"]).tolist() == posts["created_at_ms"].tolist()
    assert min(posts["created_at_ms"]) == 880_000_000_000 + REPLAY_SHIFT_MS and REPLAY_SHIFT_MS % (7 * 86_400_000) == 0
    profiles = imported.events.columns("profile")
    ages = dict(zip(profiles["user_id"].tolist(), profiles["age_years"].tolist()))
    assert ages[7] == 24 and ages[9] == 53
    assert "action_drama" in profiles["screen_name"].tolist()
    assert imported.report.bad_rows == 0 and imported.report.rows == {"u.data": 4, "u.item": 3, "u.user": 2}


def test_1m_layout_and_splits(tmp_path: Path) -> None:
    (tmp_path / "movies.dat").write_text("1::Alien::Again (1986)::Action|Sci-Fi\n2::X (2000)::Nonsense\n", "latin-1")
    (tmp_path / "users.dat").write_text("1::F::25::10::48067\n")
    (tmp_path / "ratings.dat").write_text("1::1::5::978300760\n1::2::2::978300761\n")
    imported = import_movielens(tmp_path)
    assert imported.events.columns("post")["text"].tolist() == ["Alien::Again (1986)", ""]
    assert [str(problem) for problem in imported.report.problems] == [
        "movies.dat:2: a genre is not one of the 18: '2::X (2000)::Nonsense'"
    ]
    assert 25 in imported.events.columns("profile")["age_years"].tolist()
    (tmp_path / "u1.base").write_text("5\t1\t4\t978300760\n")
    split = import_movielens(tmp_path / "u1.base")
    assert split.events.columns("engagement")["user_id"].tolist() == [5] * len(ACTIONS[4])
    assert any("no u.item beside the ratings" in note for note in split.report.notes)


def test_malformed_rows_are_named_and_counted(small_100k: Path) -> None:
    with (small_100k / "u.data").open("a") as file:
        file.write(
            "7\t2\t6\t880000001\n7\t2\t4\n7\tx\t4\t880000001\n\n7\t0\t4\t1\n7\t1\t4\t99999999999\n0\t1\t4\t1\n7\t2\t3.5\t1\n7\t2\t4\t880"
        )
    with (small_100k / "u.item").open("a") as file:
        file.write("1|Again|||u|0|0|0\n4|Short|\n")
    long = "9" * 5000  # more digits than Python turns into a number
    with (small_100k / "u.user").open("a") as file:
        file.write(f"{long}|20|F|other|00000\n8|{long}|F|other|00000\n")
    report = import_movielens(small_100k).report
    reasons = {(problem.file, problem.line): problem.reason for problem in report.problems}
    assert reasons[("u.data", 5)] == "rating is not in [1, 5]: 6"
    assert reasons[("u.data", 6)].startswith("3 fields instead of 4")
    assert reasons[("u.data", 7)].startswith("a field is not a whole number")
    assert reasons[("u.data", 8)].startswith("1 fields instead of 4")
    assert {line for file, line in reasons if file == "u.data"} == set(range(5, 14))
    assert reasons[("u.item", 4)] == "item is listed twice: 1"
    assert ("u.item", 5) in reasons and report.bad_rows == 13
    assert reasons["u.data", 13] == "time is not in [846726176, 2147483647]: 880"  # cut off in the middle of the line
    assert report.rows["u.data"] == 13
    assert (
        "13 rows could not be used" in str(report)
        and report.to_json()["malformed"]["u.item: item is listed twice"] == 1
    )


def test_no_usable_row_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no MovieLens ratings here"):
        import_movielens(tmp_path)
    (tmp_path / "u.data").write_text("junk\n")
    with pytest.raises(DataError, match=r"no row could be used; first problem: u\.data:1: 1 fields"):
        import_movielens(tmp_path)


def test_follows_look_only_back(small_100k: Path) -> None:
    lines = [
        f"7\t{item}\t{stars}\t{880000000 + second}"
        for second, (item, stars) in enumerate([(1, 5), (4, 5), (5, 3), (5, 4), (6, 5)])
    ]
    (small_100k / "u.data").write_text("\n".join(lines) + "\n")
    with (small_100k / "u.item").open("a") as file:
        file.writelines(f"{item}|T{item}|d||u|0|1|0\n" for item in (4, 5, 6))
    events = import_movielens(small_100k).events
    follows = events.columns("follow")
    assert follows["user_id"].tolist() == [7] and follows["target_user_id"].tolist() == [STUDIO + 2]
    # The third rating of 4 or more is the one at second 3: the 3 does not count.
    assert events.time_ms[follows.rows].tolist() == [880_000_003_000 + REPLAY_SHIFT_MS]


def test_every_rating_has_its_own_actions() -> None:
    assert len(set(MASKS.values())) == 5
    assert ratings_of(np.array([MASKS[3], 0, MASKS[1]], np.uint64)).tolist() == [3, 0, 1]
    assert [rating for rating, actions in ACTIONS.items() if 1 in actions] == [5, 4]


def test_the_real_files(shared: Path, tmp_path: Path) -> None:
    imported = import_movielens(shared / "data" / "ml-100k")
    report = imported.report
    assert report.rows == {"u.data": 100_000, "u.item": 1_682, "u.user": 943} and report.bad_rows == 0
    rows = interactions(imported.events)
    table = np.loadtxt(shared / "data" / "ml-100k" / "u.data", dtype=np.int64)
    table = table[np.argsort(table[:, 3], kind="stable")]
    assert np.array_equal(rows.user_id.astype(np.int64), table[:, 0])
    assert np.array_equal(item_numbers(rows.post_id), table[:, 1])
    assert np.array_equal(ratings_of(rows.actions), table[:, 2])
    imported.save(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["events.parquet", "report.json", "report.txt"]
