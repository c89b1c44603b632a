"""What an earlier try of an Azure ML job has left in `outputs/`, brought back before the program starts again.

The service keeps that folder among the run's artifacts while a job runs. A job whose node was taken away is begun anew on
another, where a program that looks for its checkpoint in `outputs/` would find nothing.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path, PurePosixPath
from typing import Callable, List, Tuple

from .azure import AzureMlSink
from .errors import Refused, Unreachable

FOLDER = "outputs"


def restore(sink: AzureMlSink, root: Path, tell: Callable[[str], None]) -> int:
    """Fetch the run's artifacts below `outputs/` into that folder of `root`; what is there already stays. Returns the number of
    files fetched. A failure is told and not raised: the program may do without them."""
    fetched = 0
    try:
        for path, address in sink.addresses(FOLDER):
            target = root.joinpath(*_parts(path))
            if not target.exists():
                fetched += _fetch(sink, address, target, root)
    except (Refused, Unreachable, OSError) as error:
        tell(f"What an earlier try of this job has left in {FOLDER}/ could not be restored: {error}")
        return fetched
    if fetched:
        tell(f"{fetched} file{'s' * (fetched != 1)} of an earlier try of this job restored to {FOLDER}/.")
    return fetched


def _fetch(sink: AzureMlSink, address: str, target: Path, root: Path) -> bool:
    """Whole or not at all. Several processes of a node do the same at once: the first to be ready wins, as the program of that
    one may have gone on already."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".restored-", dir=str(root))
    os.close(handle)
    part = Path(name)
    try:
        sink.fetch(address, part)
        os.chmod(name, 0o644)
        os.link(name, str(target))
    except FileExistsError:
        return False
    finally:
        part.unlink()
    return True


def _parts(path: str) -> List[str]:
    parts: Tuple[str, ...] = PurePosixPath(path).parts
    if parts[:1] != (FOLDER,) or len(parts) < 2 or ".." in parts or "\\" in path or "\0" in path:
        raise Refused(0, "INVALID_PARAMETER_VALUE", f"The service names a file {path!r}, which leads out of {FOLDER}/.")
    return list(parts)
