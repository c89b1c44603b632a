"""Recorded exchanges against the vendor's OpenAPI files: the operation, the query, both bodies.

Swagger's inheritance by discriminator is nothing that JSON Schema knows: so a schema is first made concrete for the value at
hand, with references put in place and the subtype chosen by the value's own discriminator, and then given to jsonschema.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from jsonschema import Draft4Validator

PROVIDER = "/providers/microsoft.machinelearningservices/"
# Where these api-versions have no answers of their own in the folder, those of this one count.
NEAREST = "2024-04-01-preview"
# Addresses that ARM hands out for operations, and those of other providers, are in no file of this service.
OUTSIDE = re.compile(
    r".*/(?:\w+OperationsStatus|\w+OperationResults)/[^/]+|.*/providers/Microsoft\.Authorization/\w+", re.IGNORECASE
)
_PLACE = re.compile(r"\{(\w+)\}")
# Where the front end of the data plane stands, and the doors of batch endpoints, which take what it takes.
_FRONT = "/mferp/managementfrontend"
_BATCH_DOOR = re.compile(r"/batch/[^/]+/[^/]+/jobs")
_BATCH_JOBS = "2020-09-01-dataplanepreview"
# No file of the folder has it any more; it was what the common types have.
_OLD_ERROR = "machineLearningServices.json#/definitions/ErrorResponse"
_LOOSE = {
    "type",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "uniqueItems",
}


def folder() -> Path | None:
    """The contract's folder: `$AMLFLOW_CONTRACT`, else beside the repository; None where there is none."""
    root = Path(__file__).resolve().parents[2]
    candidates = [os.environ.get("AMLFLOW_CONTRACT", ""), str(root.parent / "shared" / "contract")]
    return next((Path(item) / "openapi" for item in candidates if item and (Path(item) / "openapi").is_dir()), None)


# What may stand beside a reference.
_BESIDE = ("readOnly", "x-nullable", "nullable", "x-ms-mutability")


@dataclass(frozen=True)
class Operation:
    """One verb at one path of one file. `strict` is False where the file is of a near version only."""

    pattern: re.Pattern[str]
    method: str
    file: Path
    body: Mapping[str, Any]
    strict: bool = True


class Contract:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._documents: dict[Path, Any] = {}
        self._versions = {path.name: path for path in root.glob("resource-manager/*/*")}

    def problems(self, exchange: Mapping[str, Any]) -> list[str] | None:
        """What is wrong with the exchange; None where the contract says nothing of its address."""
        url = urlsplit(exchange["target"])
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        path = url.path.removeprefix(_FRONT)
        if url.path.startswith(("/history/", "/data/")):
            operations = self._data_plane()
        elif _BATCH_DOOR.fullmatch(path):
            operations = self._batch_doors()
        elif PROVIDER in url.path.lower() and not url.path.startswith(("/mlflow/", "/artifact/")):
            if OUTSIDE.fullmatch(url.path):
                return None
            operations = self._arm(query.get("api-version", ""))
        else:
            return None
        method = "get" if exchange["method"] == "HEAD" else exchange["method"].lower()
        found = next((item for item in operations if item.method == method and item.pattern.fullmatch(path)), None)
        title = f"{exchange['method']} {url.path.lower().rpartition(PROVIDER)[2]} ({query.get('api-version', 'no version')})"
        if found is None:
            # A refusal of what is not there is right in any version.
            return [] if exchange["status"] in (401, 404, 405) else [f"{title}: no such operation"]
        return [f"{title}: {problem}" for problem in self._check(found, exchange, query)]

    def _check(self, operation: Operation, exchange: Mapping[str, Any], query: Mapping[str, str]) -> Iterator[str]:
        accepted = exchange["status"] < 400
        answers = operation.body["responses"]
        if accepted:
            yield from self._check_query(operation, query)
            yield from self._check_request(operation, exchange, query)
            if str(exchange["status"]) not in answers:
                yield f"status {exchange['status']} is none of {sorted(answers)}"
                return
        described = self._resolved(answers.get(str(exchange["status"]), answers.get("default", {})), operation.file)[0]
        schema = described.get("schema") or _json_content(described)
        content = exchange["response"]
        if schema is None:
            if accepted and content is not None:
                yield "the answer has a body, and should have none"
        elif content is None:
            yield f"the answer {exchange['status']} has no body"
        else:
            yield from self._differences(schema, operation.file, content, "response", operation.strict and accepted)

    def _check_query(self, operation: Operation, query: Mapping[str, str]) -> Iterator[str]:
        parameters = [self._resolved(item, operation.file)[0] for item in operation.body.get("parameters", [])]
        known = {item["name"] for item in parameters if item.get("in") == "query"} | {"api-version"}
        needed = {item["name"] for item in parameters if item.get("in") == "query" and item.get("required")}
        if operation.strict:
            # What follows the first page is written by the service itself.
            yield from (f"the query '{name}' is not known" for name in query if name not in known | {"$skip"})
        yield from (f"the query '{name}' is missing" for name in needed if name not in query)

    def _check_request(
        self, operation: Operation, exchange: Mapping[str, Any], query: Mapping[str, str]
    ) -> Iterator[str]:
        content = exchange["request"]
        version = query.get("api-version", "")
        schemas = self._root / "arm-put-schemas" / version / "Microsoft.MachineLearningServices.json"
        if exchange["method"] == "PUT" and version not in self._versions and schemas.is_file():
            yield from self._put_differences(schemas, exchange["target"], content)
            return
        parameters = [self._resolved(item, operation.file)[0] for item in operation.body.get("parameters", [])]
        body = next((item for item in parameters if item.get("in") == "body"), None)
        schema = body["schema"] if body else _json_content(operation.body.get("requestBody") or {})
        if schema is None:
            return
        if content is None:
            if body and body.get("required"):
                yield "the request has no body"
            return
        yield from self._differences(schema, operation.file, content, "request", strict=False)

    def _put_differences(self, file: Path, target: str, content: Any) -> Iterator[str]:
        """The ARM template schemas know the bodies of PUTs alone."""
        document = self._document(file)
        types = urlsplit(target).path.lower().rpartition(PROVIDER)[2].split("/")[::2]
        known = {name.lower(): name for name in document["resourceDefinitions"]}
        definition = document["resourceDefinitions"].get(known.get("_".join(types), ""))
        if definition is None:
            yield f"there is no resource {'/'.join(types)} to put"
            return
        yield from self._differences(
            definition["properties"]["properties"], file, content["properties"], "request", strict=False
        )

    def _differences(self, schema: Any, file: Path, value: Any, way: str, strict: bool) -> Iterator[str]:
        plain = self._concrete(schema, file, value, way, strict)
        for error in Draft4Validator(plain).iter_errors(value):
            place = ".".join(str(part) for part in error.absolute_path) or "the body"
            yield f"{way}: {place}: {error.message[:300]}"

    def _concrete(self, schema: Any, file: Path, value: Any, way: str, strict: bool) -> dict[str, Any]:
        """A schema without references that says of this value what the given one says."""
        schema, file = self._resolved(schema, file)
        if "oneOf" in schema and "properties" not in schema and "allOf" not in schema:
            choices = [self._concrete(item, file, value, way, strict) for item in schema["oneOf"]]
            return {"anyOf": choices}
        parts = list(self._parts(schema, file, value))
        made: dict[str, Any] = {}
        properties: dict[str, Any] = {}
        required: set[str] = set()
        free = False
        for part, place in parts:
            made |= {key: part[key] for key in _LOOSE if key in part}
            if part.get("x-ms-enum", {}).get("modelAsString"):
                made.pop("enum", None)
            if "oneOf" in part:
                made["anyOf"] = [self._concrete(item, place, value, way, strict) for item in part["oneOf"]]
            if isinstance(part.get("additionalProperties"), dict) and isinstance(value, dict):
                free = True
                rest = {key: item for key, item in value.items() if key not in part.get("properties", {})}
                for key, item in rest.items():
                    properties.setdefault(key, self._concrete(part["additionalProperties"], place, item, way, strict))
            required |= self._required(part, place, way)
            for key, item in part.get("properties", {}).items():
                if isinstance(value, dict) and key in value:
                    properties[key] = self._concrete(item, place, value[key], way, strict)
            if "items" in part and isinstance(value, list):
                made["items"] = [self._concrete(part["items"], place, item, way, strict) for item in value]
        if properties:
            made["properties"] = properties
        if required:
            made["required"] = sorted(required)
        named = any(part.get("properties") for part, _ in parts)
        if strict and named and not free:
            made["additionalProperties"] = False
        return _with_null(made, schema) if self._may_be_null(schema, way) else made

    def _parts(self, schema: Mapping[str, Any], file: Path, value: Any) -> Iterator[tuple[Mapping[str, Any], Path]]:
        """The schema, what it is made of, and the subtype that the value says it is."""
        yield schema, file
        for item in schema.get("allOf", []):
            yield from self._parts(*self._resolved(item, file), None)
        key = schema.get("discriminator")
        if isinstance(key, str) and isinstance(value, dict) and value.get(key) is not None:
            for name, candidate in self._document(file).get("definitions", {}).items():
                if str(candidate.get("x-ms-discriminator-value", name)).lower() != str(value[key]).lower():
                    continue
                bases = [_bare(self._resolved(item, file)[0]) for item in candidate.get("allOf", [])]
                if _bare(schema) in bases:
                    yield candidate, file
                    for item in candidate["allOf"]:
                        base = self._resolved(item, file)
                        if _bare(base[0]) != _bare(schema):
                            yield from self._parts(*base, None)

    def _required(self, part: Mapping[str, Any], file: Path, way: str) -> set[str]:
        """What must be there on this way: neither what only the service writes, nor what it never shows."""
        found = set()
        for name in part.get("required", []):
            described = part.get("properties", {}).get(name, {})
            resolved = {**self._resolved(described, file)[0], **described}
            ways = resolved.get("x-ms-mutability", ["create", "read", "update"])
            hidden = way == "response" and "read" not in ways
            if not hidden and not (way == "request" and resolved.get("readOnly")):
                found.add(name)
        return found

    @staticmethod
    def _may_be_null(schema: Mapping[str, Any], way: str) -> bool:
        # The SDKs send a null for what they leave out.
        return bool(schema.get("x-nullable") or schema.get("nullable") or way == "request")

    def _resolved(self, schema: Any, file: Path) -> tuple[Any, Path]:
        """What a reference leads to, and the file that it is in; words beside the reference are kept."""
        while isinstance(schema, dict) and "$ref" in schema:
            place, _, pointer = schema["$ref"].partition("#")
            beside = {
                key: item
                for key, item in schema.items()
                if key in ("readOnly", "x-nullable", "nullable", "x-ms-mutability")
            }
            if place.startswith("https://"):
                # A template's expression, which no request of an SDK holds.
                return {"type": "string", "pattern": r"^\[.*\]$"}, file
            if schema["$ref"] == _OLD_ERROR:
                file = self._root / "common-types/resource-management/v3/types.json"
            elif place:
                file = self._place(file, place)
            found = self._document(file)
            for part in pointer.strip("/").split("/"):
                found = found[part.replace("~1", "/").replace("~0", "~")]
            schema = {**found, **beside} if beside else found
        return schema, file

    def _place(self, file: Path, name: str) -> Path:
        if "common-types/" in name:
            return self._root / "common-types" / name.split("common-types/", 1)[1]
        beside = (file.parent / name).resolve()
        # What the data plane's files share with the resource manager's is beside those.
        return beside if beside.is_file() else self._versions["2022-02-01-preview"] / beside.name

    def _document(self, file: Path) -> Any:
        if file not in self._documents:
            self._documents[file] = json.loads(file.read_text(encoding="utf-8"))
        return self._documents[file]

    @functools.lru_cache  # noqa: B019
    def _arm(self, version: str) -> list[Operation]:
        if version in self._versions:
            return list(self._operations(sorted(self._versions[version].glob("*.json"))))
        plane = self._root / "dataplane" / version / "mfe.json"
        if plane.is_file():
            return list(self._operations([plane]))
        derived = self._root / "derived-operations" / f"{version}.json"
        if not derived.is_file():
            return []
        near = list(self._operations(sorted(self._versions[NEAREST].glob("*.json")), strict=False))
        found = []
        for known in self._document(derived):
            pattern = _pattern(known["path"])
            like = next(
                (item for item in near if item.method == known["method"].lower() and item.pattern == pattern), None
            )
            answers = {str(code): {} for code in known["success_status"]}
            body = like.body if like else {"parameters": []}
            described = {
                **answers,
                **{code: item for code, item in body.get("responses", {}).items() if code in answers},
            }
            file = like.file if like else derived
            found.append(
                Operation(pattern, known["method"].lower(), file, {**body, "responses": described}, strict=False)
            )
        return found

    @functools.lru_cache  # noqa: B019
    def _data_plane(self) -> list[Operation]:
        files = [self._root / "dataplane" / name for name in ("run-history.json", "dataset-dataplane.json")]
        return list(self._operations(files))

    @functools.lru_cache  # noqa: B019
    def _batch_doors(self) -> list[Operation]:
        """What an invocation sends and is answered; its address has no query."""
        known = self._operations([self._root / "dataplane" / _BATCH_JOBS / "mfe.json"])
        whole = next(item for item in known if item.method == "post" and "deployments" not in item.pattern.pattern)
        body = [item for item in whole.body["parameters"] if item.get("in") == "body"]
        return [Operation(_BATCH_DOOR, "post", whole.file, {**whole.body, "parameters": body})]

    def _operations(self, files: list[Path], strict: bool = True) -> Iterator[Operation]:
        for file in files:
            for path, verbs in self._document(file)["paths"].items():
                shared = verbs.get("parameters", [])
                for method, body in verbs.items():
                    if method != "parameters":
                        whole = {**body, "parameters": [*shared, *body.get("parameters", [])]}
                        yield Operation(_pattern(path), method, file, whole, strict)


def _pattern(path: str) -> re.Pattern[str]:
    parts = [re.escape(part) if index % 2 == 0 else "[^/]+" for index, part in enumerate(_PLACE.split(path))]
    return re.compile("".join(parts) + "/?", re.IGNORECASE)


def _json_content(described: Mapping[str, Any]) -> Any:
    """The schema of an OpenAPI 3 body."""
    for kind, item in (described.get("content") or {}).items():
        if "json" in kind:
            return item.get("schema")
    return None


def _bare(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {key: item for key, item in schema.items() if key not in _BESIDE}


def _with_null(made: dict[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"anyOf": [{"type": "null"}, made]} if made or schema else made
