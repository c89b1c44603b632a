"""Where artifacts go, by the scheme of their address."""

from __future__ import annotations

import io
import os
import posixpath
import shutil
import tempfile
import zlib
from pathlib import Path
from typing import IO, Any, Callable, Mapping, Optional, Protocol
from urllib.parse import unquote, urlparse
from urllib.request import url2pathname

from .errors import Refused
from .rest import Behind

_PROXY = "/api/2.0/mlflow-artifacts/artifacts"
_CHUNK_BYTES = 1 << 20
# The code of the refusal of a file whose copy in the spool is not what was logged.
DAMAGED = "DAMAGED"


class SpoolFile:
    """A file as a sink reads it: its bytes are checked against the record while they are read, and the last of them is withheld
    where they are not what was logged."""

    def __init__(self, path: Path, name: str, size_bytes: int, crc32: Optional[int]) -> None:
        self.path, self.name, self.size_bytes, self.crc32 = path, name, size_bytes, crc32

    def open(self, mode: str = "rb") -> IO[bytes]:
        return _CheckedReader(self)  # type: ignore[return-value]

    def stat(self) -> os.stat_result:
        return self.path.stat()


class ArtifactSink(Protocol):
    """One artifact root. Raises `Refused` for what it will never take, and `Unreachable`."""

    def put(self, path: str, file: SpoolFile) -> None:
        """Keep the file at `path` below the root, in place of one that is there."""
        ...

    def size(self, path: str) -> Optional[int]:
        """The size in bytes of what is at `path`; None for nothing."""
        ...


# From an address of an artifact root to what takes its files.
Opener = Callable[[str, Behind], ArtifactSink]


def open_sink(root: str, behind: Behind, openers: Mapping[str, Opener]) -> ArtifactSink:
    """The sink of an artifact root; `openers` are asked first, by scheme."""
    parts = urlparse(root)
    scheme = parts.scheme if len(parts.scheme) > 1 else ""
    if scheme in openers:
        return openers[scheme](root, behind)
    if scheme == "mlflow-artifacts" and not parts.netloc and hasattr(behind, "upload"):
        return ProxySink(parts.path.strip("/"), behind)
    if scheme in ("", "file"):
        return FolderSink(Path(url2pathname(parts.path) if scheme else root))
    return MlflowSink(root)


class ProxySink:
    """The artifact routes of an MLflow server."""

    def __init__(self, root: str, behind: Any) -> None:
        self._root, self._behind = unquote(root), behind

    def put(self, path: str, file: SpoolFile) -> None:
        self._behind.upload(f"{_PROXY}/{posixpath.join(self._root, path)}", file)

    def size(self, path: str) -> Optional[int]:
        folder, name = posixpath.split(posixpath.join(self._root, path))
        try:
            listed = self._behind.request("GET", _PROXY, {"path": folder}).get("files", [])
        except Refused as refused:
            if refused.status == 404:
                return None
            raise
        for item in listed:
            if posixpath.basename(item["path"]) == name and not item.get("is_dir"):
                return int(item.get("file_size", 0))
        return None


class FolderSink:
    """A folder of this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, path: str, file: SpoolFile) -> None:
        target = self._root / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=".new-", dir=target.parent)
            try:
                with os.fdopen(handle, "wb") as copy, file.open() as source:
                    shutil.copyfileobj(source, copy, _CHUNK_BYTES)
                os.chmod(name, 0o666 & ~_umask())
                os.replace(name, target)
            except BaseException:
                os.unlink(name)
                raise
        except (IsADirectoryError, NotADirectoryError, FileExistsError) as error:
            raise Refused(0, "INVALID_PARAMETER_VALUE", f"{path} cannot be kept: {error.strerror}.") from error

    def size(self, path: str) -> Optional[int]:
        target = self._root / path
        return target.stat().st_size if target.is_file() else None


class MlflowSink:
    """Any other storage, through MLflow's own client for it."""

    def __init__(self, root: str) -> None:
        self._root = root

    def put(self, path: str, file: SpoolFile) -> None:
        folder, name = posixpath.split(path)
        with tempfile.TemporaryDirectory(prefix="amlflow-", dir=file.path.parent) as temporary:
            named = Path(temporary) / name
            with file.open() as source, open(named, "wb") as copy:
                shutil.copyfileobj(source, copy, _CHUNK_BYTES)
            self._repository().log_artifact(str(named), folder or None)

    def size(self, path: str) -> Optional[int]:
        for item in self._repository().list_artifacts(posixpath.dirname(path) or None):
            if item.path == path and not item.is_dir:
                return item.file_size  # type: ignore[no-any-return]
        return None

    def _repository(self) -> Any:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(self._root)


class _CheckedReader(io.IOBase):
    """A file's bytes, and an error in the place of the last ones where the size or the checksum is wrong."""

    # Without it requests does not look how long the file is, and sends it in chunks.
    mode = "rb"

    def __init__(self, file: SpoolFile) -> None:
        self._file, self._source = file, file.path.open("rb")
        self._crc = self._read = 0
        if os.fstat(self._source.fileno()).st_size != file.size_bytes:
            self._source.close()
            raise self._damaged()

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        if self._file.crc32 is not None:
            self._crc = zlib.crc32(data, self._crc)
            self._read += len(data)
            if self._read >= self._file.size_bytes and self._file.crc32 != self._crc:
                raise self._damaged()
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        if (offset, whence) == (0, 0):
            self._crc = self._read = 0
        return self._source.seek(offset, whence)

    def tell(self) -> int:
        return self._source.tell()

    def fileno(self) -> int:
        return self._source.fileno()

    def close(self) -> None:
        self._source.close()
        super().close()

    def _damaged(self) -> Refused:
        return Refused(0, DAMAGED, f"The copy of {self._file.name} that waited to be sent is damaged.")


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
