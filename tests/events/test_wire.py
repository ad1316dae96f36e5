"""Protobuf there and back, and the schema in its three forms."""

import subprocess
import sys

import pytest
from hypothesis import given

from tests.events.conftest import EVENTS, FROM_THE_FUTURE
from xfast.errors import DataError, ParameterError
from xfast.events import (
    BODIES,
    SCHEMAS,
    AccountState,
    Engagement,
    EventBatch,
    Follow,
    Kind,
    Media,
    MediaKind,
    NetworkEvent,
    Post,
    Unknown,
    decode_all,
    encode_all,
    generate,
    message_class,
)


@given(EVENTS)
def test_there_and_back(event: NetworkEvent) -> None:
    assert NetworkEvent.from_bytes(event.to_bytes()) == event


def test_every_kind_there_and_back(one_of_each: list[NetworkEvent]) -> None:
    messages = encode_all(one_of_each)
    assert decode_all(messages) == one_of_each
    assert {event.kind for event in one_of_each} == {kind.label for kind in Kind}


def test_bytes_are_pinned() -> None:
    """Logs and topics hold these bytes: field numbers and types must never change."""
    event = NetworkEvent(Follow(1, 2), time_ms=300, event_id=9)
    assert event.to_bytes().hex() == "090900000000000000" + "10ac02" + "6212" + "090100000000000000110200000000000000"
    post = NetworkEvent(Post(1, 2, text="é", media=(Media(MediaKind.VIDEO, 5),), topic_ids=(3,)), 0)
    inner = "090100000000000000" + "110200000000000000" + "2202c3a9" + "6a0408021005" + "72080300000000000000"
    assert post.to_bytes().hex() == "5226" + inner


def test_schema_and_proto_agree() -> None:
    """The dataclasses, the kinds and network_event.proto declare the same fields with the same types."""
    descriptor = message_class("xfast.events.NetworkEvent").DESCRIPTOR
    variants = {field.name: field for field in descriptor.oneofs_by_name["body"].fields}
    assert {kind.label: int(kind) for kind in BODIES} == {name: field.number for name, field in variants.items()}
    wire_types = {
        "uint64": "TYPE_FIXED64",
        "int32": "TYPE_INT32",
        "int64": "TYPE_INT64",
        "float32": "TYPE_FLOAT",
        "bool": "TYPE_BOOL",
        "object": "TYPE_STRING",
        "media": "TYPE_MESSAGE",
    }
    for kind, schema in SCHEMAS.items():
        declared = {field.name: field for field in variants[kind.label].message_type.fields}
        assert {field.name for field in schema} == set(declared), kind
        for field in schema:
            proto, column = declared[field.name], field.column
            expected = "TYPE_ENUM" if column.enum else wire_types[column.dtype]
            assert proto.type == getattr(proto, expected), (kind, field.name)
            assert proto.is_repeated == column.ragged, (kind, field.name)
            if column.enum:
                assert {value.number for value in proto.enum_type.values} == {member.value for member in column.enum}
                prefix = proto.enum_type.values[0].name.rsplit("_", 1)[0] + "_"
                assert [value.name.removeprefix(prefix) for value in proto.enum_type.values] == [
                    member.name for member in column.enum
                ]


def test_the_descriptors_are_current() -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools (extra `dev`) makes the descriptors")
    assert generate.main(["--check"]) == 0


def test_a_stale_descriptor_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "generate", lambda: b"something else")
    assert generate.main(["--check"]) == 1


def test_variants_of_a_later_release_are_kept() -> None:
    event = NetworkEvent.from_bytes(FROM_THE_FUTURE)
    assert event == NetworkEvent(Unknown(FROM_THE_FUTURE), 5, 7) and event.kind == "unknown"
    assert event.to_bytes() == FROM_THE_FUTURE
    batch = EventBatch.from_bytes([FROM_THE_FUTURE, NetworkEvent(Follow(1, 2), 6).to_bytes()])
    assert batch.counts() == {"unknown": 1, "follow": 1}
    assert batch.to_bytes()[0] == FROM_THE_FUTURE


def test_enum_values_of_a_later_release_read_as_unknown() -> None:
    message = message_class("xfast.events.NetworkEvent")()
    message.account.user_id, message.account.state = 3, 99
    assert NetworkEvent.from_bytes(message.SerializeToString()).body.state is AccountState.UNKNOWN
    message.account.state = 99_999
    assert EventBatch.from_bytes([message.SerializeToString()])[0].body.state is AccountState.UNKNOWN


def test_broken_bytes_name_the_message() -> None:
    with pytest.raises(DataError, match="not a NetworkEvent"):
        NetworkEvent.from_bytes(b"\x52\xff")
    with pytest.raises(DataError) as caught:
        EventBatch.from_bytes([NetworkEvent(Follow(1, 2), 6).to_bytes(), b"\xff"])
    assert caught.value.__notes__ == ["message 1 of the sequence"]


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (NetworkEvent(Engagement(1, 2, 2**31), 0), "action is 2147483648, must fit int32"),
        (NetworkEvent(Post(1, 2, text=b"bytes \xff"), 0), "text is"),  # type: ignore[arg-type]
        (NetworkEvent(Follow(1, 2), 2**63), "follow event cannot be encoded"),
        (NetworkEvent(Follow(1, "two"), 0), "target_user_id is 'two'"),  # type: ignore[arg-type]
    ],
)
def test_values_that_do_not_fit_are_named(event: NetworkEvent, text: str) -> None:
    with pytest.raises(ParameterError, match=text):
        event.to_bytes()


def test_negative_ids_are_bit_cast() -> None:
    event = NetworkEvent(Follow(-1, 2), 0)
    assert NetworkEvent.from_bytes(event.to_bytes()).body == Follow(2**64 - 1, 2)


def test_thunders_compact_event() -> None:
    create = message_class("xfast.thunder.InNetworkEvent")()
    create.tweet_create_event.post_id = 5
    variants = {field.name: field.number for field in create.DESCRIPTOR.oneofs_by_name["event_variant"].fields}
    assert variants["tweet_create_event"] == 1 and variants["tweet_delete_event"] == 2
    assert len(create.tweet_create_event.DESCRIPTOR.fields) == 11  # THUNDER §1: the 11 fields of LightPost
    with pytest.raises(ParameterError, match="no such message"):
        message_class("no such message")


def test_importing_the_events_imports_neither_protobuf_nor_pyarrow() -> None:
    code = "import sys, xfast.events; print([m for m in ('google.protobuf', 'pyarrow', 'jax') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
