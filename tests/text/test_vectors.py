"""The published keyword cases, straight through the matcher; the filter and the ads rule replay them elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

from xfast.text import KeywordMatcher


def test_muted_keyword_vectors(shared: Path) -> None:
    suite = json.loads((shared / "vectors" / "home_mixer.json").read_text())["suites"]["muted_keyword_filter"]
    assert suite["cases"]
    for case in suite["cases"]:
        candidates = case["input"]["candidates"]
        hits = KeywordMatcher(case["input"]["muted_keywords"]).match([each.get("tweet_text") for each in candidates])
        kept = [each["tweet_id"] for each, hit in zip(candidates, hits) if not hit]
        assert kept == case["expected"]["kept"], case["id"]
