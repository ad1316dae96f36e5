"""Adapters on tiny files in the original layouts, and on ML-100K where it is."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from xfast.cli import main
from xfast.errors import DataError, ParameterError
from xfast.research import datasets
from xfast.research.datasets import mind
from xfast.research.datasets.fetch import fetch
from xfast.research.environment import Environment


def write_ml1m(folder: Path) -> None:
    rng = np.random.default_rng(0)
    (folder / "movies.dat").write_text(
        "".join(f"{i}::Film {i} (1990)::{'Drama|War' if i % 2 else 'Comedy'}\n" for i in range(1, 9)),
        encoding="latin-1",
    )
    rows = [(u, i, rng.integers(1, 6), 1000 + 10 * u + i) for u in range(1, 21) for i in range(1, 9)]
    (folder / "ratings.dat").write_text("".join(f"{u}::{i}::{r}::{t}\n" for u, i, r, t in rows))


def write_mind(folder: Path) -> None:
    categories = ("news", "news", "sports", "tv", "news", "sports")
    with (folder / "news.tsv").open("w") as news:
        for i in range(12):
            category = categories[i % 6]
            sub = "news" if category == "news" else f"{category}sub{i % 2}"
            entities = json.dumps([{"Label": "x"}] * (i % 4))
            news.write(f"N{i}\t{category}\t{sub}\tTitle of {i}\tAn abstract\thttps://x\t{entities}\t\n")
    with (folder / "behaviors.tsv").open("w") as behaviors:
        for line in range(40):
            shown = " ".join(f"N{(line + j) % 12}-{int(j == line % 3)}" for j in range(4))
            behaviors.write(f"{line}\tU{line % 7}\t11/11/2019 9:05:58 AM\tN1 N2\t{shown}\n")


def write_kindle(folder: Path) -> None:
    rng = np.random.default_rng(1)
    genres = ("Romance", "Mystery", "History")
    with (folder / "meta_Kindle_Store.jsonl").open("w") as meta:
        for i in range(10):
            record = {
                "parent_asin": f"B{i}",
                "categories": ["Kindle Store", "Kindle eBooks", genres[i % 3]],
                "price": (None, "4.99", 9.5, 20.0)[i % 4],
                "rating_number": (10, 100, 1000)[i % 3],
                "average_rating": (2.5, 3.5, 4.5)[i % 3],
                "details": {"Print length": f"{100 + 60 * i} pages"},
            }
            meta.write(json.dumps(record) + "\n")
    with (folder / "Kindle_Store.csv").open("w") as ratings:
        ratings.write("user_id,parent_asin,rating,timestamp\n")
        for user in range(15):
            for i in range(10):
                ratings.write(f"U{user},B{i},{rng.integers(1, 6)}.0,{1_600_000_000_000 + 1000 * (user * 10 + i)}\n")


WRITERS = {"ml-1m": write_ml1m, "mind-truncated": write_mind, "amazon-kindle": write_kindle}


@pytest.mark.parametrize(
    ("name", "width", "count"), [("ml-1m", 19, 3), ("mind-truncated", 11, 5), ("amazon-kindle", 32, 5)]
)
def test_tiny_files_in_the_original_layout(tmp_path: Path, name: str, width: int, count: int) -> None:
    folder = tmp_path / name
    folder.mkdir()
    WRITERS[name](folder)
    assert datasets.find(tmp_path) == {name: folder}
    environment = datasets.load(name, folder)
    assert environment.name == name
    assert environment.features.shape[1] == width
    assert len(environment.stakeholders) == count
    assert environment.features.min() >= 0
    for weights in environment.stakeholders.values():
        assert np.abs(weights).max() <= 1 + 1e-12


def test_ml1m_takes_the_oldest_four_fifths(tmp_path: Path) -> None:
    write_ml1m(tmp_path)
    assert datasets.load("ml-1m", tmp_path).facts["train_interactions"] == 128


def test_kindle_bins(tmp_path: Path) -> None:
    write_kindle(tmp_path)
    environment = datasets.load("amazon-kindle", tmp_path)
    price, volume, sentiment, length = np.split(environment.features[:, 20:], (4, 7, 10), axis=1)
    for block in (price, volume, sentiment, length):
        assert (block.sum(axis=1) == 1).all()
    assert price.sum(axis=0).tolist() == [3.0, 3.0, 2.0, 2.0]
    assert length.sum(axis=0).tolist() == [2.0, 8.0]


def test_a_subcategory_spelt_like_a_category_keeps_its_own_column(tmp_path: Path) -> None:
    write_mind(tmp_path)
    environment = mind.load(tmp_path)
    publisher = environment.stakeholders["publisher"]
    assert (publisher[:3] > 0).all()
    assert (publisher[3:] == 0).all()


def test_missing_and_malformed_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not here") as caught:
        datasets.load("ml-1m", tmp_path)
    assert "Licence" in caught.value.__notes__[0]
    with pytest.raises(ParameterError, match="known are"):
        datasets.load("netflix", tmp_path)
    write_ml1m(tmp_path)
    with (tmp_path / "ratings.dat").open("a") as file:
        file.write("1::2::oops\n")
    with pytest.raises(DataError, match=r"ratings.dat:161: 3 fields, 4 expected"):
        datasets.load("ml-1m", tmp_path)


def test_fetch_unpacks_keeps_and_refuses(tmp_path: Path) -> None:
    owner, here = tmp_path / "owner", tmp_path / "here"
    owner.mkdir()
    with zipfile.ZipFile(owner / "set.zip", "w") as archive:
        archive.writestr("set/ua.base", "1\t2\t3\t4\n")
    (owner / "table.csv.gz").write_bytes(gzip.compress(b"a,b\n"))
    urls = tuple((owner / name).as_uri() for name in ("set.zip", "table.csv.gz"))
    said: list[str] = []
    assert fetch(urls, here, say=said.append) == [here / "set", here / "table.csv"]
    assert (here / "set" / "ua.base").read_text() == "1\t2\t3\t4\n"
    assert (here / "table.csv").read_text() == "a,b\n"
    assert sorted(path.name for path in here.iterdir()) == ["set", "table.csv"]
    fetch(urls, here, say=said.append)
    assert sum("already" in line for line in said) == 2
    with zipfile.ZipFile(owner / "bad.zip", "w") as archive:
        archive.writestr("../outside", "x")
    with pytest.raises(DataError, match="outside the folder"):
        fetch(((owner / "bad.zip").as_uri(),), here, say=said.append)
    assert not (tmp_path / "outside").exists()
    with pytest.raises(DataError, match="cannot be fetched"):
        fetch(((owner / "absent.zip").as_uri(),), here, say=said.append)


def test_download_says_the_licence_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["research", "download", "ml-100k", "--data", str(tmp_path / "data")]) == 2
    output = capsys.readouterr()
    assert output.out.splitlines()[1].startswith("  Licence: GroupLens")
    assert "nobody is here to accept" in output.err
    assert not (tmp_path / "data").exists()
    assert main(["research", "download", "mind-small", "--data", str(tmp_path)]) == 0
    assert "Accept the terms" in capsys.readouterr().out
    assert main(["research", "download", "netflix", "--data", str(tmp_path)]) == 2


def test_ml100k_is_the_published_pool(ml100k: Environment) -> None:
    assert ml100k.features.shape == (1305, 19)
    assert ml100k.facts["train_interactions"] == 81_513
    # Comedy, Drama, Thriller: Action ties with Thriller and loses.
    assert np.flatnonzero(ml100k.hidden["mainstream"]).tolist() == [5, 8, 16]
