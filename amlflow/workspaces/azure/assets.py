"""What a job needs in the workspace before it is sent: its code, its environment, its local inputs. Each has a name made of its
content, so that what is there already is never sent again, and a request sent twice makes one thing."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from amlflow.errors import AmlflowError, NotFound
from amlflow.workspaces.abilities import JobEnvironment, JobInput, Progress, Snapshot
from amlflow.workspaces.azure.arm import segment
from amlflow.workspaces.azure.blobs import Container
from amlflow.workspaces.azure.datastores import AzureDatastores
from amlflow.workspaces.azure.service import Service, or_nearest
from amlflow.workspaces.azure.snapshot import HASH_VERSION

CODE_API = "2023-04-01"
ENVIRONMENT_API = "2023-04-01-preview"
_ENVIRONMENT_NAME = "amlflow"
_INPUT_PLACE = "amlflow/inputs"


class Assets:
    def __init__(self, service: Service, datastores: AzureDatastores) -> None:
        self._service, self._arm, self._datastores = service, service.arm, datastores

    def known_code(self, snapshot: Snapshot) -> str:
        """The id of the code version that holds these very files; empty where there is none."""
        found = next(
            self._arm.pages(
                f"{self._code_path(snapshot)}/versions",
                CODE_API,
                "code",
                hash=snapshot.digest,
                hashVersion=HASH_VERSION,
            ),
            None,
        )
        return str(found["id"]) if found else ""

    def code_id(self, snapshot: Snapshot) -> str:
        """The id that `send_code` gives these files, unless another name has them by then."""
        return f"{self._code_path(snapshot)}/versions/1"

    def send_code(self, snapshot: Snapshot, progress: Progress) -> str:
        """Upload the files and make a code version of them; its id."""
        path = self.code_id(snapshot)
        pending = self._arm.content(
            self._arm.post(
                f"{path}/startPendingUpload",
                CODE_API,
                "a place for the code",
                {"pendingUploadType": "TemporaryBlobReference"},
            )
        )
        try:
            reference = pending["blobReferenceForConsumption"]
            place, right = str(reference["blobUri"]), str(reference["credential"]["sasUri"])
        except (KeyError, TypeError) as error:
            raise AmlflowError(f"Azure named no place for the code: its answer lacks {error}.") from None
        Container(self._service.http, right).upload(snapshot.files, progress, fresh=True)
        made = {
            "codeUri": place,
            "isAnonymous": True,
            "properties": {"hash_sha256": snapshot.digest, "hash_version": HASH_VERSION},
        }
        try:
            answer = self._arm.content(self._arm.put(path, CODE_API, "the code", {"properties": made}))
        except AmlflowError:
            # Somebody sent the same files at the same time, to another place: theirs are as good.
            known = self.known_code(snapshot)
            if not known:
                raise
            return known
        return str(answer.get("id") or path)

    def environment(self, wanted: JobEnvironment, report: Callable[[str], None]) -> str:
        """The id of the environment, made if the workspace has none of this content."""
        if wanted.named:
            return self._named_environment(wanted.named)
        path, there = self.known_environment(wanted)
        if there:
            return path
        report("A new environment: its image is built first, which takes minutes")
        content = {"image": wanted.image, "osType": "Linux", **({"condaFile": wanted.conda} if wanted.conda else {})}
        what = f"environment {_ENVIRONMENT_NAME}:{path.rpartition('/')[2]}"
        answer = self._arm.content(self._arm.put(path, ENVIRONMENT_API, what, {"properties": content}))
        return str(answer.get("id") or path)

    def known_environment(self, wanted: JobEnvironment) -> tuple[str, bool]:
        """The id of an environment of this content, which is none that the workspace named, and whether it is there."""
        version = hashlib.sha256(f"{wanted.image}\0{wanted.conda}".encode()).hexdigest()[:32]
        path = f"{self._service.path}/environments/{_ENVIRONMENT_NAME}/versions/{version}"
        try:
            found = self._arm.get(path, ENVIRONMENT_API, f"environment {_ENVIRONMENT_NAME}:{version}")
        except NotFound as error:
            if error.mend:
                raise
            return path, False
        return str(found.get("id") or path), True

    def input(self, value: JobInput, progress: Progress) -> JobInput:
        """The same input with a URI in the place of a path of this machine, which is uploaded to a place named by its content."""
        place = Path(value.value)
        if value.kind == "literal" or re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", value.value):
            return value
        if not place.exists():
            raise NotFound(
                f"There is no file or folder {value.value!r}.", "A relative path begins in the current folder."
            )
        folder = f"{_INPUT_PLACE}/{_content_name(place)}"
        target = f"{folder}/{place.name}" if place.is_file() else folder
        self._datastores.upload("", place, target, progress)
        return JobInput(value.kind, self._datastores.uri("", target), value.mode)

    def _named_environment(self, named: str) -> str:
        """`NAME:VERSION`, `NAME` (the latest), `azureml:NAME:VERSION`, or an id, as the service takes it."""
        plain = named.removeprefix("azureml:")
        if plain.startswith(("/subscriptions/", "//registries/")) or "://" in named:
            return f"azureml:{plain}" if plain.startswith("//") else plain
        name, _, version = plain.partition("@") if "@" in plain else plain.partition(":")
        base = f"{self._service.path}/environments/{segment(name)}"
        if not version or version == "latest":
            found = or_nearest(
                lambda: next(
                    self._arm.pages(
                        f"{base}/versions",
                        ENVIRONMENT_API,
                        f"environment {name!r}",
                        **{"$orderBy": "createdtime desc", "$top": 1},
                    ),
                    None,
                ),
                name,
                self._environment_names,
                "Give NAME:VERSION of one that the workspace has.",
            )
            if found is None:
                raise NotFound(f"The environment {name!r} has no version.", name=name, known=self._environment_names())
            return str(found["id"])
        return or_nearest(
            lambda: str(
                self._arm.get(f"{base}/versions/{segment(version)}", ENVIRONMENT_API, f"environment {plain!r}")["id"]
            ),
            name,
            self._environment_names,
            "Give NAME:VERSION of one that the workspace has.",
        )

    def _environment_names(self) -> list[str]:
        found = self._arm.pages(f"{self._service.path}/environments", ENVIRONMENT_API, "list of environments")
        return [str(item.get("name")) for item in found]

    def _code_path(self, snapshot: Snapshot) -> str:
        # As long as a GUID, which is what the service's own clients give.
        digest = snapshot.digest[:32]
        name = "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:]))
        return f"{self._service.path}/codes/{name}"


def _content_name(place: Path) -> str:
    digest = hashlib.sha256()
    files = [place] if place.is_file() else sorted(item for item in place.rglob("*") if item.is_file())
    for file in files:
        name = file.name if file == place else file.relative_to(place).as_posix()
        digest.update(f"{name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as source:
            while chunk := source.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()[:32]
