"""Protobuf: the messages of ``network_event.proto`` to and from Python events and columns.

``descriptors.binpb`` is what protoc makes of the two .proto files (``python -m xfast.events.generate`` rewrites it).
The message classes are built from it at run time, in a descriptor pool of our own: unlike generated ``_pb2`` modules,
that works with every release of the protobuf runtime and never clashes with another package's registrations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from operator import attrgetter
from typing import Any, TypeVar

from xfast.errors import DataError, ParameterError
from xfast.events.model import BODIES, SCHEMAS, Field, Kind, Media, MediaKind, NetworkEvent, Unknown

_U64 = (1 << 64) - 1
_KINDS = {kind.label: kind for kind in BODIES}
_T = TypeVar("_T")


@cache
def message_class(full_name: str) -> Any:
    """Return the protobuf class of ``"xfast.events.NetworkEvent"``, ``"xfast.thunder.InNetworkEvent"`` or a part.

    Raises
    ------
    ParameterError
        No shipped .proto file has that message.
    """
    from google.protobuf import message_factory

    try:
        return message_factory.GetMessageClass(_pool().FindMessageTypeByName(full_name))
    except KeyError:
        raise ParameterError(f"full_name is {full_name!r}, which no .proto file of xfast.events declares") from None


@cache
def _pool() -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool

    pool = descriptor_pool.DescriptorPool()
    data = files("xfast.events").joinpath("descriptors.binpb").read_bytes()
    for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        pool.Add(file)
    return pool


@cache
def _event_class() -> Any:
    return message_class("xfast.events.NetworkEvent")


def _reader(field: Field) -> Callable[[Any], Any]:
    """Return the function that turns a protobuf field value into the value of the dataclass field."""
    if field.column.dtype == "media":
        return lambda items: tuple(Media(_enum(MediaKind, item.kind), item.duration_ms) for item in items)
    if field.column.ragged:
        return tuple
    if field.column.enum is not None:
        enum = field.column.enum
        return lambda value: _enum(enum, value)
    return lambda value: value


def _enum(enum: type[Any], value: int) -> Any:
    """Return the member, UNKNOWN (0) for a number of a later release."""
    try:
        return enum(value)
    except ValueError:
        return enum(0)


_READERS = {kind: [(field.name, _reader(field)) for field in schema] for kind, schema in SCHEMAS.items()}


def decode(data: bytes) -> NetworkEvent:
    """Decode one event; see :meth:`NetworkEvent.from_bytes`."""
    message = _parse(data)
    name = message.WhichOneof("body")
    if name is None:
        return NetworkEvent(Unknown(bytes(data)), message.time_ms, message.event_id)
    kind = _KINDS[name]
    inner = getattr(message, name)
    body = BODIES[kind](**{field: read(getattr(inner, field)) for field, read in _READERS[kind]})
    return NetworkEvent(body, message.time_ms, message.event_id)


def _parse(data: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return _event_class().FromString(data)
    except DecodeError as error:
        raise DataError(f"not a NetworkEvent: {error} ({len(data)} bytes)") from None


def encode(event: NetworkEvent) -> bytes:
    """Encode one event; see :meth:`NetworkEvent.to_bytes`."""
    body = event.body
    if isinstance(body, Unknown):
        return body.data
    kind = Kind[body.kind.upper()]
    message = _event_class()(event_id=event.event_id & _U64)
    try:
        message.time_ms = event.time_ms
        inner = getattr(message, body.kind)
        inner.SetInParent()
        for field in SCHEMAS[kind]:
            value = getattr(body, field.name)
            if value != field.default or field.required:
                _write(inner, field, value)
    except (ValueError, TypeError) as error:
        raise ParameterError(f"{body.kind} event cannot be encoded: {error}") from None
    return bytes(message.SerializeToString(deterministic=True))


def _write(inner: Any, field: Field, value: Any) -> None:
    column = field.column
    try:
        if column.dtype == "media":
            for item in value:
                getattr(inner, field.name).add(kind=int(item.kind), duration_ms=item.duration_ms)
        elif column.ragged:
            values = [item & _U64 for item in value] if column.dtype == "uint64" else value
            getattr(inner, field.name).extend(values)
        elif column.dtype == "uint64":
            setattr(inner, field.name, value & _U64)
        else:
            setattr(inner, field.name, int(value) if column.enum is not None else value)
    except (ValueError, TypeError, AttributeError) as error:
        raise ParameterError(f"{field.name} is {value!r}, must fit {column.dtype}: {error}") from None


def encode_all(events: Iterable[NetworkEvent]) -> list[bytes]:
    """Encode events one by one, in order."""
    return [encode(event) for event in events]


def decode_all(messages: Iterable[bytes]) -> list[NetworkEvent]:
    """Decode messages one by one, in order; see :meth:`NetworkEvent.from_bytes`.

    Raises
    ------
    DataError
        A message is not a ``NetworkEvent``; the note names its index.
    """
    return [_located(decode, data, index) for index, data in enumerate(messages)]


def _located(read: Callable[[bytes], _T], data: bytes, index: int) -> _T:
    try:
        return read(data)
    except DataError as error:
        error.add_note(f"message {index} of the sequence")
        raise


@dataclass(slots=True)
class Decoded:
    """What :func:`decode_columns` found: the envelope of every message, and per variant its rows and field values."""

    event_id: list[int]
    time_ms: list[int]
    kind: list[int]
    rows: dict[Kind, list[int]]
    values: dict[Kind, list[tuple[Any, ...]]]
    unknown: list[bytes]


# Reads all fields of a message in one call; protobuf's own attribute lookup is the cost of decoding.
_GETTERS = {kind: attrgetter(*(field.name for field in schema)) for kind, schema in SCHEMAS.items()}
_MEDIA_AT = {
    kind: [place for place, field in enumerate(schema) if field.column.dtype == "media"]
    for kind, schema in SCHEMAS.items()
}


def decode_columns(messages: Iterable[bytes]) -> Decoded:
    """Decode messages without a Python event for each: about three times as fast as :func:`decode_all`."""
    found = Decoded([], [], [], {}, {}, [])
    for index, data in enumerate(messages):
        message = _located(_parse, data, index)
        name = message.WhichOneof("body")
        found.event_id.append(message.event_id)
        found.time_ms.append(message.time_ms)
        if name is None:
            found.kind.append(Kind.UNKNOWN)
            found.unknown.append(bytes(data))
            continue
        kind = _KINDS[name]
        values = _GETTERS[kind](getattr(message, name))
        for place in _MEDIA_AT[kind]:
            media = [Media(_enum(MediaKind, item.kind), item.duration_ms) for item in values[place]]
            values = (*values[:place], media, *values[place + 1 :])
        found.kind.append(kind)
        found.rows.setdefault(kind, []).append(index)
        found.values.setdefault(kind, []).append(values)
    return found


def encode_columns(
    kind: Kind, event_id: Iterable[int], time_ms: Iterable[int], names: Sequence[str], rows: Iterable[tuple[Any, ...]]
) -> list[bytes]:
    """Encode events of one variant from the values of its fields, in the order of ``names``."""
    event, variant = _event_class(), kind.label
    result = []
    for number, time, values in zip(event_id, time_ms, rows):
        try:
            message = event(event_id=number, time_ms=time, **{variant: dict(zip(names, values))})
        except ValueError as error:
            raise ParameterError(f"{variant} event cannot be encoded: {error}") from None
        result.append(message.SerializeToString(deterministic=True))
    return result
