"""A client of ``PhoenixService`` that speaks columns (extra ``serve``)."""

from __future__ import annotations

from types import TracebackType

import numpy as np
import numpy.typing as npt

from xfast.ids import as_int64, as_uint64
from xfast.phoenix.features import Candidates, Engagements
from xfast.phoenix.service import messages
from xfast.rpc import RemoteError, import_grpc

__all__ = ["PhoenixClient", "PhoenixUnavailableError"]

_SERVICE = "/xfast.phoenix.PhoenixService/"


class PhoenixUnavailableError(RemoteError):
    """The model service did not answer; ``code`` is the name of the gRPC status, such as ``"NOT_FOUND"``."""


class PhoenixClient:
    """Asks a Phoenix service, from coroutines.

    Parameters
    ----------
    address
        ``host:port``.
    timeout
        Default deadline in seconds; it travels with the request. None: no deadline.
    """

    def __init__(self, address: str, *, timeout: float | None = 1.0) -> None:
        self._grpc = import_grpc()
        self._timeout = timeout
        self._channel = self._grpc.aio.insecure_channel(
            address, options=[("grpc.max_receive_message_length", 256 << 20)]
        )
        self._calls = {name: self._channel.unary_unary(_SERVICE + name) for name in ("Predict", "Retrieve")}

    async def predict(
        self,
        sequence: Engagements,
        candidates: Candidates,
        *,
        cluster: str = "",
        prediction_id: int = 0,
        timeout: float | None = None,
    ) -> messages.Predicted:
        """Score candidates: the server's ``Ranker.encode`` and ``Ranker.score``, bit for bit.

        Parameters
        ----------
        sequence
            The viewer and their history; one longer than the model's is cut to its newest end.
        candidates
            Any number of posts.
        cluster
            Which model; empty: the server's default.
        timeout
            Deadline in seconds instead of the client's.

        Raises
        ------
        PhoenixUnavailableError
            The service is at capacity, has no such model, refused the request, or cannot be reached in time.
        """
        request = messages.Predict(cluster, sequence, candidates, prediction_id)
        return messages.read_predicted(await self._call("Predict", messages.write_predict(request), timeout))

    async def retrieve(
        self,
        sequence: Engagements,
        max_results: int,
        *,
        cluster: str = "",
        exclude_ids: npt.ArrayLike = (),
        topic_ids: npt.ArrayLike = (),
        mode: int = 0,
        timeout: float | None = None,
    ) -> messages.Retrieved:
        """Find the posts nearest to a viewer's history, best first; parameters and errors as in :meth:`predict`.

        Parameters
        ----------
        max_results
            How many at most.
        exclude_ids
            Posts that must not be found.
        topic_ids
            Search these topics only; empty: everywhere.
        mode
            Topic labelling experiment, 0 to 5 (HOME_MIXER §7.13); our server has one labelling and ignores it.
        """
        request = messages.Retrieve(
            cluster,
            sequence,
            max_results,
            as_uint64(np.asarray(exclude_ids, np.uint64 if np.size(exclude_ids) == 0 else None), name="exclude_ids"),
            as_int64(np.asarray(topic_ids, np.int64 if np.size(topic_ids) == 0 else None), name="topic_ids"),
            mode,
        )
        return messages.read_retrieved(await self._call("Retrieve", messages.write_retrieve(request), timeout))

    async def _call(self, method: str, message: bytes, timeout: float | None) -> bytes:
        try:
            answer: bytes = await self._calls[method](message, timeout=self._timeout if timeout is None else timeout)
        except self._grpc.aio.AioRpcError as error:
            raise PhoenixUnavailableError(error.code().name, error.details() or "") from None
        return answer

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def __aenter__(self) -> PhoenixClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
