"""``xfast import``."""

import json
from pathlib import Path

import pytest

from tests.world.test_mind import BEHAVIORS, NEWS
from tests.world.test_tables import LOG, MAP, POSTS
from xfast.cli.main import main
from xfast.events import read_parquet


def test_movielens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "u.data").write_text("1\t1\t5\t880000000\n1\t2\t9\t880000000\n")
    assert main(["import", "movielens", str(tmp_path), "-o", str(tmp_path / "out")]) == 0
    assert "1 rows could not be used" in capsys.readouterr().err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["problems"] == [{"file": "u.data", "line": 2, "reason": "rating is not in [1, 5]: 9"}]
    assert read_parquet(tmp_path / "out" / "events.parquet").counts()["engagement"] == 4
    assert main(["import", "movielens", str(tmp_path), "-o", str(tmp_path / "strict"), "--strict"]) == 2
    assert not (tmp_path / "strict").exists()


def test_mind_and_tables(tmp_path: Path) -> None:
    for name, text in {
        "news.tsv": NEWS,
        "behaviors.tsv": BEHAVIORS,
        "map.toml": MAP,
        "posts.csv": POSTS,
        "log.tsv": LOG,
    }.items():
        (tmp_path / name).write_text(text)
    assert main(["import", "mind", str(tmp_path), "-o", str(tmp_path / "mind")]) == 0
    assert main(["import", "--map", str(tmp_path / "map.toml"), "-o", str(tmp_path / "own")]) == 0
    names = {path.name for path in (tmp_path / "own").iterdir()}
    assert names == {"events.parquet", "report.json", "report.txt", "post.ids", "topic.ids", "user.ids"}
    assert main(["import", "--map", str(tmp_path / "map.toml"), "-o", str(tmp_path / "own")]) == 0


def test_synthetic(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--users", "40", "--posts", "200", "--impressions", "500"]
    assert main(["import", "synthetic", "-o", str(tmp_path / "w"), "--seed", "3", *sizes]) == 0
    assert "200 post" in capsys.readouterr().err
    assert json.loads((tmp_path / "w" / "config.json").read_text())["config"]["users"] == 40


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "give either a source"),
        (["movielens"], "the source movielens needs one"),
        (["synthetic", "x"], "the source synthetic takes none"),
        (["movielens", "x", "--users", "40"], "--users is for the source synthetic"),
        (["movielens", "/nowhere"], "no MovieLens ratings here"),
        (["synthetic", "--users", "1"], "users is 1, must be in"),
    ],
)
def test_mistakes_are_one_line_and_status_2(
    arguments: list[str], text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["import", *arguments, "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert text in error and error.count("\n") == 1
