"""One event of every kind, and a strategy for arbitrary ones."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st

from xfast.events import (
    BODIES,
    SCHEMAS,
    AccountState,
    Engagement,
    LabelCategory,
    Media,
    MediaKind,
    NetworkEvent,
    Post,
    Profile,
    SubscriptionLevel,
    Unknown,
)

IDS = st.one_of(st.sampled_from([0, 1, 2**63, 2**64 - 1]), st.integers(0, 2**64 - 1))
TEXT = st.text(max_size=8)
_MEDIA = st.builds(Media, kind=st.sampled_from(list(MediaKind)), duration_ms=st.integers(0, 2**31 - 1))
_VALUES: dict[tuple[str, bool], st.SearchStrategy[Any]] = {
    ("uint64", False): IDS,
    ("uint64", True): st.lists(IDS, max_size=3).map(tuple),
    ("int32", False): st.integers(-(2**31), 2**31 - 1),
    ("int64", False): st.integers(-(2**63), 2**63 - 1),
    ("float32", False): st.floats(width=32, allow_nan=False),
    ("bool", False): st.booleans(),
    ("object", False): TEXT,
    ("object", True): st.lists(TEXT, max_size=3).map(tuple),
    ("media", True): st.lists(_MEDIA, max_size=3).map(tuple),
}


def _body(kind: Any) -> st.SearchStrategy[Any]:
    values = {
        field.name: st.sampled_from(list(field.column.enum))
        if field.column.enum is not None
        else _VALUES[field.column.dtype, field.column.ragged]
        for field in SCHEMAS[kind]
    }
    return st.builds(BODIES[kind], **values)


EVENTS = st.builds(
    NetworkEvent,
    body=st.one_of([_body(kind) for kind in BODIES]),
    time_ms=st.integers(-(2**63), 2**63 - 1),
    event_id=IDS,
)

# An event of a later release: time 5, id 7, and a variant with field number 1000.
FROM_THE_FUTURE = b"\x09\x07\x00\x00\x00\x00\x00\x00\x00\x10\x05\xc2\x3e\x03abc"


@pytest.fixture(scope="session")
def one_of_each() -> list[NetworkEvent]:
    """An event of every kind, all fields set, and an unknown one."""
    special: dict[str, Any] = {
        "post": Post(
            *(101, 7, 1_700_000_000_500, "Grüße aus Köln 🌧️ #wetter", "de"),
            *(90, 8, 91, 9, 92, 10, 93),
            (Media(MediaKind.PHOTO), Media(MediaKind.VIDEO, 12_500)),
            (5, 2**63 + 1),
            7,
            True,
        ),
        "engagement": Engagement(7, 101, 13, 8, 1, 9_000, 55, True),
        "profile": Profile(7, "ada", "Ada ✨", "bio", ("en", "pt-BR"), "BR", 36, SubscriptionLevel.PREMIUM, 1_600_000),
    }
    enums = {"category": LabelCategory.BRAND, "state": AccountState.PROTECTED}
    plain = {"uint64": 2**63 + 5, "int32": 3, "int64": -4, "float32": 0.5, "bool": True, "object": "text"}
    bodies = []
    for kind, cls in BODIES.items():
        values = {field.name: enums.get(field.name, plain.get(field.column.dtype)) for field in SCHEMAS[kind]}
        bodies.append(special.get(kind.label) or cls(**values))
    events = [NetworkEvent(body, 1_700_000_000_000 + index, index + 1) for index, body in enumerate(bodies)]
    return [*events, NetworkEvent(Unknown(FROM_THE_FUTURE), 5, 7)]
