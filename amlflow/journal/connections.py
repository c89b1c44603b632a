"""The pool of kept connections under the REST client."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

_KEPT = 32
# What is read of a file at once while it is uploaded. With the 16 KB that are usual most of the time goes into Python's calls.
_BLOCK_BYTES = 1 << 20
# Linux alone has it.
_QUICK_ACK = getattr(socket, "TCP_QUICKACK", None)


def new_session() -> Any:
    """A `requests.Session` without retries of its own, whose kept connections are as fast as new ones."""
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

    class Plain(HTTPConnection):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.blocksize = _BLOCK_BYTES

        def getresponse(self, *args: Any, **kwargs: Any) -> Any:
            acknowledge_at_once(self.sock)
            return super().getresponse(*args, **kwargs)

    class Encrypted(HTTPSConnection):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.blocksize = _BLOCK_BYTES

        def getresponse(self, *args: Any, **kwargs: Any) -> Any:
            acknowledge_at_once(self.sock)
            return super().getresponse(*args, **kwargs)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class EncryptedPool(HTTPSConnectionPool):
        ConnectionCls = Encrypted

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, **kwargs)
            self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": EncryptedPool}

    session = requests.Session()
    session.headers["User-Agent"] = "amlflow"
    adapter = Adapter(pool_connections=4, pool_maxsize=_KEPT, max_retries=0)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def acknowledge_at_once(sock: Any) -> None:
    """Do not delay the next acknowledgement. A server without TCP_NODELAY (uvicorn with several workers on asyncio) sends
    the head of its answer, and the rest when the head is acknowledged: on a kept connection that is 40 ms later."""
    if _QUICK_ACK is not None:
        with suppress(AttributeError, OSError):
            # The kernel forgets it by itself, so it is said before each answer.
            sock.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
