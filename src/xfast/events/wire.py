"""Protobuf: the messages of ``network_event.proto`` to and from Python events and columns.

``descriptors.binpb`` is what protoc makes of the two .proto files (``python -m xfast.events.generate`` rewrites it).
The message classes are built from it at run time, in a descriptor pool of our own: unlike generated ``_pb2`` modules,
that works with every release of the protobuf runtime and never clashes with another package's registrations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from importlib.resources import files
from typing import Any

from xfast.errors import DataError, ParameterError
from xfast.events.model import BODIES, SCHEMAS, Field, Kind, Media, MediaKind, NetworkEvent, Unknown

_U64 = (1 << 64) - 1


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
    kind = Kind[name.upper()]
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
    events = []
    for index, data in enumerate(messages):
        try:
            events.append(decode(data))
        except DataError as error:
            error.add_note(f"message {index} of the sequence")
            raise
    return events
