"""Where the process of a deployment takes requests."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from amlflow.emulator.settings import HOST


@dataclass(frozen=True, slots=True)
class Door:
    """A port that the scoring app keeps behind a key, or the path of the socket on which Azure's inference server runs a
    script."""

    port: int = 0
    key: str = ""
    path: str = ""

    @property
    def scripted(self) -> bool:
        return bool(self.path)

    def connection(self, timeout_s: float) -> http.client.HTTPConnection:
        if self.path:
            return _OverSocket(self.path, timeout_s)
        return http.client.HTTPConnection(HOST, self.port, timeout=timeout_s)

    @property
    def headers(self) -> Mapping[str, str]:
        return {"authorization": f"Bearer {self.key}"} if self.key else {}


class _OverSocket(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
