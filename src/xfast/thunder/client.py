"""A client of ``InNetworkPostsService`` that speaks columns (extra ``serve``)."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from xfast.ids import as_int64, as_uint64
from xfast.rpc import RemoteError, import_grpc
from xfast.thunder import _wire
from xfast.thunder.service import METHOD

PostColumns = dict[str, npt.NDArray[np.int64] | npt.NDArray[np.bool_]]


class ThunderUnavailableError(RemoteError):
    """The service did not answer; ``code`` is the name of the gRPC status, such as ``"RESOURCE_EXHAUSTED"``."""


class ThunderClient:
    """Asks a Thunder service for the newest posts of followees, from coroutines.

    Parameters
    ----------
    address
        ``host:port``.
    zstd
        Have answers compressed with zstd.
    """

    def __init__(self, address: str, *, zstd: bool = False) -> None:
        self._grpc = import_grpc()
        self._zstd = zstd
        self._channel = self._grpc.aio.insecure_channel(
            address, options=[("grpc.max_receive_message_length", 64 << 20)]
        )
        self._call = self._channel.unary_unary(METHOD)

    async def in_network(
        self,
        user_id: int,
        following_ids: npt.ArrayLike,
        exclude_ids: npt.ArrayLike = (),
        *,
        max_results: int = 0,
        video_only: bool = False,
        debug: bool = False,
        algorithm: str = "",
        timeout: float | None = 1.0,
    ) -> PostColumns:
        """Return the posts as columns, newest first; see :meth:`xfast.thunder.PostStore.in_network`.

        Parameters
        ----------
        timeout
            The deadline in seconds; it travels with the request.

        Raises
        ------
        ThunderUnavailableError
            The service is at capacity, the deadline passed, or there is no connection.
        """
        message = _wire.encode_request(
            int(as_uint64(np.asarray(user_id), name="user_id")),
            np.ascontiguousarray(as_int64(following_ids, name="following_ids")),
            np.ascontiguousarray(as_int64(exclude_ids, name="exclude_ids")),
            max_results,
            video_only,
            algorithm,
            debug,
        )
        metadata: Any = (("xfast-accept-encoding", "zstd"),) if self._zstd else None
        call = self._call(message, timeout=timeout, metadata=metadata)
        try:
            answer = await call
            encoding = dict(await call.initial_metadata() or ()).get("xfast-encoding")
        except self._grpc.aio.AioRpcError as error:
            raise ThunderUnavailableError(error.code().name, error.details() or "") from None
        return _wire.decode_response(_unpack(answer) if encoding == "zstd" else answer)

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def __aenter__(self) -> ThunderClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _unpack(data: bytes) -> bytes:
    import zstandard

    result: bytes = zstandard.ZstdDecompressor().decompress(data, max_output_size=64 << 20)
    return result
