"""``PhoenixService {Predict, Retrieve}``: the models behind a network (extra ``serve``).

:class:`~xfast.phoenix.service.server.PhoenixServer` serves models by cluster id,
:class:`~xfast.phoenix.service.client.PhoenixClient` asks one. Scores are the bits of the server's engine.
"""
