"""Messages of ``phoenix_service.proto`` to and from columns.

On the wire a packed list of fixed-width numbers is what a ``bytes`` field is: a tag, a length, the numbers in
little-endian order. So here such fields are declared as bytes, and a column of 70,000 probabilities crosses without a
Python object per number; any other implementation of the .proto file reads and writes the same messages.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.errors import DataError, ParameterError
from xfast.events.wire import message_class
from xfast.phoenix.features import Candidates, Engagements

__all__ = [
    "Predict",
    "Predicted",
    "Retrieve",
    "Retrieved",
    "read_predict",
    "read_predicted",
    "read_retrieve",
    "read_retrieved",
    "service_file",
    "write_predict",
    "write_predicted",
    "write_retrieve",
    "write_retrieved",
]

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
_CANDIDATE_COLUMNS = ("product_surface", "impression_ts", "created_ts", "slots")

if sys.byteorder != "little":  # pragma: no cover - no such machine to test on
    raise ImportError(
        "xfast.phoenix.service reads columns as they are on the wire, which needs a little-endian machine"
    )


@dataclass(frozen=True, slots=True, eq=False)
class Predict:
    """What ``Predict`` asks."""

    cluster: str
    sequence: Engagements
    candidates: Candidates
    prediction_id: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """What ``Predict`` answers, in the order of the request's candidates."""

    probabilities: F32
    """[C, A]"""
    continuous: F32
    """[C, K]"""
    prediction_id: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Retrieve:
    """What ``Retrieve`` asks."""

    cluster: str
    sequence: Engagements
    max_results: int
    exclude_ids: U64
    topic_ids: I64
    mode: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Retrieved:
    """What ``Retrieve`` answers, best first."""

    post_ids: U64
    author_ids: U64
    scores: F32


def service_file() -> Any:
    """The descriptor of ``phoenix_service.proto``, for reflection."""
    return message_class("xfast.phoenix.PredictRequest").DESCRIPTOR.file


@cache
def _message(name: str) -> Any:
    """The class of a message, its packed lists declared as bytes."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    proto = descriptor_pb2.FileDescriptorProto()
    service_file().CopyToProto(proto)
    field_type = descriptor_pb2.FieldDescriptorProto
    fixed = {field_type.TYPE_FIXED64, field_type.TYPE_SFIXED64, field_type.TYPE_SFIXED32, field_type.TYPE_FLOAT}
    for message in proto.message_type:
        for field in message.field:
            if field.label == field_type.LABEL_REPEATED and field.type in fixed:
                field.type, field.label = field_type.TYPE_BYTES, field_type.LABEL_OPTIONAL
    pool = descriptor_pool.DescriptorPool()
    pool.Add(proto)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"xfast.phoenix.{name}"))


def _parse(name: str, data: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return _message(name).FromString(data)
    except DecodeError as error:
        raise DataError(f"not a {name}: {error} ({len(data)} bytes)") from None


def _column(data: bytes, dtype: type[np.generic], name: str) -> Any:
    size = np.dtype(dtype).itemsize
    if len(data) % size:
        raise ParameterError(f"{name} has {len(data)} bytes, must be a packed list of {np.dtype(dtype).name}")
    return np.frombuffer(data, dtype)


def _table(data: bytes, width: int, name: str, rows: int | None = None) -> F32:
    values = _column(data, np.float32, name)
    if width == 0 or len(values) % width or (rows is not None and len(values) != rows * width):
        if not len(values) and rows in (None, 0):
            return np.empty((0, width), np.float32)
        wanted = "a multiple of the width" if rows is None else f"{rows} rows"
        raise ParameterError(f"{name} has {len(values)} values of width {width}, must be {wanted}")
    table: F32 = values.reshape(-1, width)
    return table


def _bytes(values: npt.ArrayLike, dtype: type[np.generic]) -> bytes:
    return np.ascontiguousarray(values, dtype).tobytes()


# -- a viewer's history -----------------------------------------------------------------------------------------------


def _write_sequence(message: Any, sequence: Engagements) -> None:
    message.user_id = sequence.user_id
    message.post_ids = _bytes(sequence.post_ids, np.uint64)
    message.author_ids = _bytes(sequence.author_ids, np.uint64)
    message.num_actions = sequence.actions.shape[1]
    message.actions = _bytes(sequence.actions, np.float32)
    if sequence.product_surface is not None:
        message.product_surface = _bytes(sequence.product_surface, np.int32)
    if sequence.continuous is not None:
        message.num_continuous = sequence.continuous.shape[1]
        message.continuous = _bytes(sequence.continuous, np.float32)
    if sequence.ip_embeddings is not None:
        message.ip_width = sequence.ip_embeddings.shape[1]
        message.ip_embeddings = _bytes(sequence.ip_embeddings, np.float32)


def _read_sequence(message: Any) -> Engagements:
    posts = _column(message.post_ids, np.uint64, "sequence.post_ids")
    rows = len(posts)
    surfaces = _column(message.product_surface, np.int32, "sequence.product_surface")
    continuous = message.num_continuous and _table(
        message.continuous, message.num_continuous, "sequence.continuous", rows
    )
    embeddings = message.ip_width and _table(message.ip_embeddings, message.ip_width, "sequence.ip_embeddings")
    try:
        return Engagements(
            message.user_id,
            posts,
            _column(message.author_ids, np.uint64, "sequence.author_ids"),
            _table(message.actions, message.num_actions, "sequence.actions", rows),
            product_surface=surfaces if len(surfaces) else None,
            continuous=continuous if message.num_continuous else None,
            ip_embeddings=embeddings if message.ip_width else None,
        )
    except ParameterError as error:
        error.add_note("in sequence")
        raise


# -- Predict ----------------------------------------------------------------------------------------------------------


def write_predict(request: Predict) -> bytes:
    """Encode a ``PredictRequest``."""
    message = _message("PredictRequest")(cluster=request.cluster, prediction_id=request.prediction_id)
    _write_sequence(message.sequence, request.sequence)
    message.post_ids = _bytes(request.candidates.post_ids, np.uint64)
    message.author_ids = _bytes(request.candidates.author_ids, np.uint64)
    for name in _CANDIDATE_COLUMNS:
        values = getattr(request.candidates, name)
        if values is not None:
            setattr(message, name, _bytes(values, np.int32))
    return bytes(message.SerializeToString())


def read_predict(data: bytes) -> Predict:
    """Decode a ``PredictRequest``.

    Raises
    ------
    DataError
        The bytes are no such message.
    ParameterError
        Columns do not fit each other; the message names the field.
    """
    message = _parse("PredictRequest", data)
    columns = {name: _column(getattr(message, name), np.int32, name) for name in _CANDIDATE_COLUMNS}
    candidates = Candidates(
        _column(message.post_ids, np.uint64, "post_ids"),
        _column(message.author_ids, np.uint64, "author_ids"),
        **{name: values if len(values) else None for name, values in columns.items()},
    )
    return Predict(message.cluster, _read_sequence(message.sequence), candidates, message.prediction_id)


def write_predicted(answer: Predicted) -> bytes:
    """Encode a ``PredictResponse``."""
    message = _message("PredictResponse")(
        num_actions=answer.probabilities.shape[1],
        probabilities=_bytes(answer.probabilities, np.float32),
        num_continuous=answer.continuous.shape[1],
        continuous=_bytes(answer.continuous, np.float32),
        prediction_id=answer.prediction_id,
    )
    return bytes(message.SerializeToString())


def read_predicted(data: bytes) -> Predicted:
    """Decode a ``PredictResponse``; raises as :func:`read_predict`."""
    message = _parse("PredictResponse", data)
    return Predicted(
        _table(message.probabilities, message.num_actions, "probabilities"),
        _table(message.continuous, message.num_continuous, "continuous"),
        message.prediction_id,
    )


# -- Retrieve ---------------------------------------------------------------------------------------------------------


def write_retrieve(request: Retrieve) -> bytes:
    """Encode a ``RetrieveRequest``."""
    message = _message("RetrieveRequest")(
        cluster=request.cluster,
        max_results=request.max_results,
        exclude_ids=_bytes(request.exclude_ids, np.uint64),
        topic_ids=_bytes(request.topic_ids, np.int64),
        mode=request.mode,
    )
    _write_sequence(message.sequence, request.sequence)
    return bytes(message.SerializeToString())


def read_retrieve(data: bytes) -> Retrieve:
    """Decode a ``RetrieveRequest``; raises as :func:`read_predict`."""
    message = _parse("RetrieveRequest", data)
    return Retrieve(
        message.cluster,
        _read_sequence(message.sequence),
        message.max_results,
        _column(message.exclude_ids, np.uint64, "exclude_ids"),
        _column(message.topic_ids, np.int64, "topic_ids"),
        message.mode,
    )


def write_retrieved(answer: Retrieved) -> bytes:
    """Encode a ``RetrieveResponse``."""
    message = _message("RetrieveResponse")(
        post_ids=_bytes(answer.post_ids, np.uint64),
        author_ids=_bytes(answer.author_ids, np.uint64),
        scores=_bytes(answer.scores, np.float32),
    )
    return bytes(message.SerializeToString())


def read_retrieved(data: bytes) -> Retrieved:
    """Decode a ``RetrieveResponse``; raises as :func:`read_predict`."""
    message = _parse("RetrieveResponse", data)
    return Retrieved(
        _column(message.post_ids, np.uint64, "post_ids"),
        _column(message.author_ids, np.uint64, "author_ids"),
        _column(message.scores, np.float32, "scores"),
    )
