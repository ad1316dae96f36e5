"""Encoded contexts as bytes, for a shared store or a denser cache."""

from __future__ import annotations

import hashlib
import struct
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import numpy.typing as npt

from xfast.errors import ParameterError, SnapshotError

if TYPE_CHECKING:
    from xfast.phoenix.ranker import Context, Ranker

__all__ = ["STORAGES", "Storage", "dump_context", "load_context"]

F32 = npt.NDArray[np.float32]
Storage = Literal["exact", "bfloat16", "int8"]
STORAGES: tuple[Storage, ...] = ("exact", "bfloat16", "int8")

_MAGIC = b"XFASTCTX"
_FORMAT = 1
# magic, format, numbers as, unused, layers, kv heads, tokens, head size, history tokens, model version, input digest
_HEADER = struct.Struct("<8sHBxIIIII32s32s")
_CHECKSUM_BYTES = 16
_FLOAT32, _BFLOAT16, _INT8 = 0, 1, 2
_EXACT = {"float32": _FLOAT32, "bfloat16": _BFLOAT16, "int8": _INT8}


def _to_bfloat16(x: F32) -> npt.NDArray[np.uint16]:
    bits = np.ascontiguousarray(x).view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)


def _int8_scale(largest: F32) -> F32:
    """The engine's own rule (csrc/phoenix/context.h): max / 127 rounded up to 16 significant bits.

    ``q * scale`` is then exact, so that an engine that keeps int8 gets back the very numbers it had.
    """
    scale = np.where(largest > np.float32(1e-30), largest / np.float32(127), np.float32(0)).astype(np.float32)
    return ((scale.view(np.uint32) + np.uint32(0xFF)) & np.uint32(0xFFFFFF00)).view(np.float32)


def _pack(x: F32, code: int) -> bytes:
    if code == _FLOAT32:
        return x.tobytes()
    if code == _BFLOAT16:
        return _to_bfloat16(x).tobytes()
    scale = _int8_scale(np.abs(x).max(axis=-1, initial=0.0))
    quotient = np.divide(x, scale[..., None], out=np.zeros_like(x), where=scale[..., None] > 0)
    return bytes(scale.tobytes() + np.rint(quotient).astype(np.int8).tobytes())


def _packed_bytes(shape: tuple[int, ...], code: int) -> int:
    count, vectors = int(np.prod(shape)), int(np.prod(shape[:-1]))
    return {_FLOAT32: 4 * count, _BFLOAT16: 2 * count, _INT8: count + 4 * vectors}[code]


def _unpack(data: memoryview, shape: tuple[int, ...], code: int) -> F32:
    if code == _FLOAT32:
        return np.frombuffer(data, np.float32).reshape(shape)
    if code == _BFLOAT16:
        return (np.frombuffer(data, np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32).reshape(shape)
    vectors = int(np.prod(shape[:-1]))
    scale = np.frombuffer(data[: 4 * vectors], np.float32).reshape(shape[:-1])
    return np.frombuffer(data[4 * vectors :], np.int8).reshape(shape) * scale[..., None]


def _checksum(data: bytes | memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=_CHECKSUM_BYTES).digest()


def dump_context(ranker: Ranker, context: Context, *, storage: Storage = "exact") -> bytes:
    """An encoded context as bytes that a ranker of the same model version reads back.

    Parameters
    ----------
    ranker
        The context's owner; its engine must be ``native``.
    context
        What :meth:`Ranker.encode <xfast.phoenix.ranker.Ranker.encode>` returned.
    storage : {"exact", "bfloat16", "int8"}
        How keys and values are written. ``exact`` keeps their bits. ``bfloat16`` rounds to nearest even: a relative
        error up to 2**-8 per number. ``int8`` keeps one scale per layer, head and token: an absolute error up to
        max|x| / 253 of that head's vector.

    Raises
    ------
    ParameterError
        An unknown storage, or a context of another ranker.
    NotImplementedError
        The engine has no such form.
    """
    if storage not in STORAGES:
        raise ParameterError(f"storage is {storage!r}, must be one of {', '.join(STORAGES)}")
    keys, values = ranker.keys_values(context)
    code = {"exact": _EXACT[ranker.kv_precision], "bfloat16": _BFLOAT16, "int8": _INT8}[storage]
    layers, heads, tokens, size = keys.shape
    header = _HEADER.pack(
        _MAGIC, _FORMAT, code, layers, heads, tokens, size, context.history_tokens, ranker.model_version,
        context.inputs,
    )  # fmt: skip
    body = header + _pack(keys, code) + _pack(values, code)
    return body + _checksum(body)


def load_context(ranker: Ranker, data: bytes | bytearray | memoryview, *, name: str = "context") -> Context:
    """Read what :func:`dump_context` wrote.

    Parameters
    ----------
    ranker
        A native ranker of the model version that wrote it.
    data
        The bytes.
    name
        What errors call them.

    Raises
    ------
    SnapshotError
        Other bytes, a damaged or cut context, another format, model version or shape.
    """
    view = memoryview(data).cast("B")
    if len(view) < _HEADER.size + _CHECKSUM_BYTES:
        raise SnapshotError(f"{name}: {len(view)} bytes are too few for an encoded context")
    fields = _HEADER.unpack_from(view)
    magic, version, code, *shape, history_tokens, model, inputs = fields
    if magic != _MAGIC:
        raise SnapshotError(f"{name}: is no encoded context (it begins with {bytes(magic)!r})")
    if version != _FORMAT:
        raise SnapshotError(f"{name}: has format {version}, this version reads {_FORMAT}")
    if _checksum(view[:-_CHECKSUM_BYTES]) != bytes(view[-_CHECKSUM_BYTES:]):
        raise SnapshotError(f"{name}: the checksum does not match, the context is damaged or cut short")
    if model != ranker.model_version:
        raise SnapshotError(
            f"{name}: was encoded by model version {model.hex()[:16]}, this ranker is {ranker.model_version.hex()[:16]}"
        )
    config = ranker.config
    wanted = (config.num_layers, config.num_kv_heads, config.key_size)
    if (shape[0], shape[1], shape[3]) != wanted or code not in (_FLOAT32, _BFLOAT16, _INT8):
        raise SnapshotError(f"{name}: has (layers, heads, head size) {shape}, the model has {wanted}")
    size = _packed_bytes(tuple(shape), code)
    if len(view) != _HEADER.size + 2 * size + _CHECKSUM_BYTES or not shape[2] - 1 <= history_tokens <= shape[2]:
        raise SnapshotError(f"{name}: the size does not fit {shape[2]} tokens")
    body = view[_HEADER.size : -_CHECKSUM_BYTES]
    keys, values = (_unpack(part, tuple(shape), code) for part in (body[:size], body[size:]))
    exact = code in (_FLOAT32, _EXACT[ranker.kv_precision])
    return ranker.restore(keys, values, inputs=cast(bytes, inputs), history_tokens=history_tokens, exact=exact)
