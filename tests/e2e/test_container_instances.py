"""`amlflow deploy --target aci`, from the command line: image, identity, container group, key. The emulator stands for Azure.

Images are costly: all endpoints here serve the same few models, so that each image is built once.
"""

from __future__ import annotations

import io
import json
import pickle
import shutil
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import CLEARED, Amlflow
from deployable import ROW, sample
from emulated import Running
from servers import http_server, send

# Images are built and containers started: on a busy machine that takes its time.
pytestmark = pytest.mark.timeout(900)
GROUPS = "Microsoft.ContainerInstance/containerGroups"
IDENTITIES = "Microsoft.ManagedIdentity/userAssignedIdentities"


@dataclass(frozen=True)
class Scene:
    """The command, signed in with each of three roles, a registered model with two versions, and one with a version that
    cannot be loaded."""

    azure: Running
    owner: Amlflow
    contributor: Amlflow
    reader: Amlflow
    wine: str

    def arm(self, method: str, path: str, version: str) -> requests.Response:
        subscription, group, _ = self.azure.scope
        at = f"/subscriptions/{subscription}/resourceGroups/{group}/providers/{path}"
        return self.azure.request(method, at, api_version=version)

    def parts(self, name: str) -> dict[str, int]:
        """How many of each kind there are of an endpoint."""
        registry = "Microsoft.ContainerRegistry/registries/emulatorregistry"
        return {
            "group": self.arm("GET", f"{GROUPS}/{name}", "2023-05-01").status_code,
            "identity": self.arm("GET", f"{IDENTITIES}/{name}-pull", "2023-01-31").status_code,
            "token": self.arm("GET", f"{registry}/tokens/{name}-pull", "2023-07-01").status_code,
            "scope": self.arm("GET", f"{registry}/scopeMaps/{name}-pull", "2023-07-01").status_code,
            "roles": len(self.roles()),
        }

    @property
    def blobs(self) -> str:
        """The container of the workspace's own datastore."""
        record = self.azure.request("GET", f"{self.azure.workspace_path}/datastores/workspaceblobstore").json()
        account, container = (record["properties"][key] for key in ("accountName", "containerName"))
        return f"Microsoft.Storage/storageAccounts/{account}/blobServices/default/containers/{container}"

    def roles(self, on: str = "Microsoft.ContainerRegistry/registries/emulatorregistry") -> list[Any]:
        path = f"{on}/providers/Microsoft.Authorization/roleAssignments"
        return self.arm("GET", path, "2022-04-01").json()["value"]

    def arm_of_owner(self, method: str, path: str, body: Any = None) -> requests.Response:
        return self.azure.request(method, path, body, token=self.azure.token(role=2), api_version="2022-04-01")

    def ask(self, url: str, key: str, headers: Mapping[str, str]) -> requests.Response:
        """As a client without amlflow would."""
        return requests.post(
            f"{self.azure.url}/invocations",
            json={"input_data": ROW},
            headers={"Host": url.removeprefix("https://"), "Authorization": f"Bearer {key}", **headers},
            verify=self.azure.env["SSL_CERT_FILE"],
            timeout=60,
        )

    def asked(self, words: str) -> int:
        return self.azure.record.read_text().count(words)


@pytest.fixture(scope="module")
def scene(emulator: Running, deployable: Path, shared_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    home = tmp_path_factory.mktemp("aci")
    work = home / "work"
    work.mkdir()
    env = {
        name: value
        for name, value in emulator.env.items()
        if not name.startswith(CLEARED) or name in emulator.variables
    }
    env |= {"AMLFLOW_CACHE_DIR": str(shared_cache), "HOME": str(home), "AMLFLOW_HOME": str(home / "amlflow")}
    owner, contributor, reader = (
        Amlflow({**env, **json.loads(emulator.run("env", "--role", role, "-o", "json"))}, work)
        for role in ("owner", "contributor", "reader")
    )
    wine = f"wine-{uuid.uuid4().hex[:6]}"
    for version in ("one", "two", "broken"):
        owner.ok("register", str(light(deployable / version, home)), "--name", wine)
    return Scene(emulator, owner, contributor, reader, wine)


def eventually(holds: Callable[[], bool], patience_s: float = 90) -> None:
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(1)


def light(model: Path, place: Path) -> Path:
    """A copy of the model that asks for no more than the scoring app needs for it: an image without MLflow is made in seconds."""
    copied = place / model.name
    shutil.copytree(model, copied)
    needed = [
        line for line in (model / "requirements.txt").read_text().split() if not line.startswith(("mlflow", "pandas"))
    ]
    (copied / "requirements.txt").write_text("\n".join(needed) + "\n")
    return copied


@pytest.fixture
def name(scene: Scene) -> Iterator[str]:
    made = f"aci-{uuid.uuid4().hex[:8]}"
    yield made
    scene.owner("endpoint", "delete", made)


@pytest.fixture(scope="module")
def served(scene: Scene) -> Iterator[str]:
    """The name of an endpoint with the first version, pulled by an identity."""
    name = f"aci-{uuid.uuid4().hex[:8]}"
    base = ("deploy", f"{scene.wine}:1", "-t", "aci", "--name", name)
    plan = scene.owner.ok(*base, "--dry-run", "-o", "json")
    steps = {step["what"]: step for step in plan.json["steps"]}
    assert {step["action"] for step in steps.values()} == {"create"}
    assert list(steps) == [
        "image",
        f"identity {name}-pull",
        "role AcrPull",
        "key",
        f"container group {name}",
        "address",
    ]
    assert "costs minutes of a build" in steps["image"]["detail"]
    assert "User Access Administrator" in steps["role AcrPull"]["detail"]
    assert "one replica" in plan.err
    assert scene.parts(name) == {"group": 404, "identity": 404, "token": 404, "scope": 404, "roles": 0}
    made = scene.owner.ok(*base, "--tag", "team=wine", "-o", "json")
    assert (made.json["state"], made.json["target"], made.json["model"]) == ("running", "aci", f"{scene.wine}:1")
    assert made.json["url"] == steps["address"]["detail"]
    assert "Step 2/" in made.err
    assert "answers the input example" in made.err
    yield name
    scene.owner.ok("endpoint", "delete", name)
    assert scene.parts(name) == {"group": 404, "identity": 404, "token": 404, "scope": 404, "roles": 0}
    assert scene.owner("endpoint", "show", name).code == 3


def test_it_answers_over_https_with_its_key_alone(scene: Scene, served: str, tmp_path: Path) -> None:
    amlflow = scene.owner
    shown = amlflow.ok("endpoint", "show", served, "-o", "json").json
    key = amlflow.ok("endpoint", "keys", served, "-q").out.strip()
    port = scene.azure.settings["port"]
    assert shown["scoring_url"].endswith(f".local.localhost:{port}/invocations")

    def asked(**headers: str) -> requests.Response:
        host = shown["url"].removeprefix("https://")
        return requests.post(
            f"{scene.azure.url}/invocations",
            json={"input_data": ROW},
            headers={"Host": host, **headers},
            verify=scene.azure.env["SSL_CERT_FILE"],
            timeout=60,
        )

    assert asked(Authorization=f"Bearer {key}").json() == {"predictions": [1.0]}
    assert (asked().status_code, asked(Authorization="Bearer wrong").status_code) == (401, 401)
    assert amlflow.ok("endpoint", "invoke", served, "--example").json == {"predictions": [1.0, 1.0]}
    assert amlflow.ok("endpoint", "invoke", served, str(sample(tmp_path))).json == {"predictions": [1.0]}
    (tmp_path / "wrong.json").write_text('{"dataframe_split": {"columns": ["age"], "data": [[1]]}}')
    wrong = amlflow("endpoint", "invoke", served, str(tmp_path / "wrong.json"))
    assert (wrong.code, "refused the request (400)" in wrong.err) == (1, True)
    group = scene.arm("GET", f"{GROUPS}/{served}", "2023-05-01")
    assert key not in group.text
    assert group.json()["tags"]["team"] == "wine"
    assert key not in scene.azure.record.read_text()
    file = Path(amlflow.env["AMLFLOW_HOME"]) / "azure" / "endpoint-keys.json"
    assert key in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    assert len(scene.roles()) == 1


def test_the_endpoint_commands(scene: Scene, served: str) -> None:
    amlflow = scene.owner
    listed = {item["name"]: item for item in amlflow.ok("endpoint", "list", "-o", "json").json}
    assert (listed[served]["target"], listed[served]["state"]) == ("aci", "running")
    amlflow.ok("endpoint", "logs", served, "-n", "5")
    traffic = amlflow("endpoint", "traffic", served, "current=100")
    assert (traffic.code, "--target managed" in traffic.err) == (1, True)
    back = amlflow("endpoint", "rollback", served)
    assert (back.code, "nothing is built" in back.err) == (1, True)
    taken = amlflow("deploy", f"{scene.wine}:1", "-t", "managed", "--name", served)
    assert (taken.code, "of the target aci already" in taken.err) == (2, True)


def test_what_it_collects_outlives_it(scene: Scene, served: str, name: str, tmp_path: Path) -> None:
    """Written by the group's identity into the workspace's storage, as long as its role lets it; waiting meanwhile."""
    amlflow, roles = scene.owner, len(scene.roles())
    base = ("deploy", f"{scene.wine}:1", "-t", "aci", "--name", name, "--collect", "--collect-hash", "sex")
    refused = scene.contributor(*base)
    assert (refused.code, "«Storage Blob Data Contributor»" in refused.err) == (4, True)
    checked = scene.contributor(*base, "--check")
    assert (checked.code, "Storage Blob Data Contributor" in checked.out + checked.err) == (1, True)
    plan = amlflow.ok(*base, "--dry-run", "-o", "json").json
    assert "role Storage Blob Data Contributor" in [
        step["what"] for step in plan["steps"] if step["action"] == "create"
    ]
    url = amlflow.ok(*base, "-o", "json").json["url"]
    key = amlflow.ok("endpoint", "keys", name, "-q").out.strip()
    assert {step["action"] for step in amlflow.ok(*base, "--dry-run", "-o", "json").json["steps"]} == {"keep"}
    (assignment,) = scene.roles(scene.blobs)
    sent: list[str] = []

    def ask(count: int) -> None:
        for _ in range(count):
            sent.append(f"request-{len(sent)}")
            assert scene.ask(url, key, {"X-Request-Id": sent[-1]}).status_code == 200

    def kept(place: str = "") -> list[dict[str, Any]]:
        """The lines of the inputs, but for those of the input example, with which a deploy asks."""
        folder = tmp_path / (place or uuid.uuid4().hex)
        if amlflow("endpoint", "data", name, "--window", "1h", "--to", str(folder)).code:
            return []
        lines = [json.loads(line) for file in folder.glob("model_inputs/**/*.jsonl") for line in file.open()]
        return [line for line in lines if line["correlationid"].startswith("request-")]

    ask(3)
    eventually(lambda: len(kept()) >= 3)
    first = kept("first")
    assert [line["correlationid"] for line in first] == sent
    assert {len(str(line["data"][0]["sex"])) for line in first} == {32}
    assert scene.arm_of_owner("DELETE", assignment["id"]).status_code == 200
    ask(2)
    eventually(lambda: "waits to be sent: the storage answers 403" in amlflow.ok("endpoint", "logs", name).out)
    assert len(kept()) == 3
    assert "Letting the identity" in amlflow.ok(*base).err
    eventually(lambda: len(kept()) >= 5)
    baseline = str(tmp_path / "first" / "model_inputs")
    drift = amlflow.ok("monitor", "drift", name, "--baseline", baseline, "-o", "json", "--no-log").json
    assert drift["windows"][-1]["rows"] >= 5
    ask(1)
    # The last of it is sent when the group is asked to end.
    amlflow.ok("deploy", f"{scene.wine}:1", "-t", "aci", "--name", name)
    assert sorted(line["correlationid"] for line in kept()) == sent
    assert scene.roles(scene.blobs) == []
    assert len(scene.roles()) == roles + 1
    # Whatever the group says, a role that a deploy which was cut has left goes with the endpoint.
    left = {"properties": {key: assignment["properties"][key] for key in ("principalId", "roleDefinitionId")}}
    assert scene.arm_of_owner("PUT", assignment["id"], left).status_code == 201
    amlflow.ok("endpoint", "delete", name)
    assert scene.roles(scene.blobs) == []


def test_done_again_it_builds_and_changes_nothing(scene: Scene, served: str) -> None:
    builds, puts = scene.asked("scheduleRun"), scene.asked('"method": "PUT", "target": "/subscriptions/')
    base = ("deploy", f"{scene.wine}:1", "-t", "aci", "--name", served, "--tag", "team=wine")
    plan = scene.owner.ok(*base, "--dry-run", "-o", "json").json
    assert {step["action"] for step in plan["steps"]} == {"keep"}
    again = scene.owner.ok(*base)
    assert f"has {scene.wine}:1 already" in again.err
    assert scene.asked("scheduleRun") == builds
    assert scene.asked('"method": "PUT", "target": "/subscriptions/') == puts


def test_a_key_is_renewed_while_requests_come(scene: Scene, served: str, tmp_path: Path) -> None:
    amlflow, request = scene.owner, str(sample(tmp_path))
    before = amlflow.ok("endpoint", "keys", served, "-q").out
    rotating = amlflow.start("endpoint", "keys", served, "--rotate", "-q")
    answers = []
    while rotating.poll() is None:
        answers.append(amlflow("endpoint", "invoke", served, request))
    after = rotating.communicate()[0].decode()
    answers.append(amlflow("endpoint", "invoke", served, request))
    assert rotating.returncode == 0
    assert [item.err for item in answers if item.code] == []
    assert {item.out for item in answers} == {answers[-1].out}
    assert after not in ("", before)
    elsewhere = {"AMLFLOW_HOME": str(tmp_path / "elsewhere")}
    missing = amlflow("endpoint", "keys", served, **elsewhere)
    assert (missing.code, "--rotate" in missing.err) == (3, True)
    given = amlflow("endpoint", "invoke", served, request, **elsewhere, AMLFLOW_ENDPOINT_KEY=after.strip())
    assert given.json == {"predictions": [1.0]}
    stale = amlflow("endpoint", "invoke", served, request, **elsewhere, AMLFLOW_ENDPOINT_KEY=before.strip())
    assert (stale.code, "refuses the key" in stale.err) == (4, True)
    assert before.strip() not in stale.err


@pytest.mark.slow
def test_a_later_version_takes_its_place_and_a_broken_one_does_not(scene: Scene, served: str, tmp_path: Path) -> None:
    amlflow, request = scene.owner, str(sample(tmp_path))
    base = ("-t", "aci", "--name", served, "--tag", "team=wine")
    plan = amlflow.ok("deploy", f"{scene.wine}:2", *base, "--dry-run", "-o", "json").json
    steps = {step["what"]: step["action"] for step in plan["steps"]}
    assert (steps[f"container group {served}"], steps["key"], steps["address"]) == ("change", "keep", "keep")
    key = amlflow.ok("endpoint", "keys", served, "-q").out
    amlflow.ok("deploy", f"{scene.wine}:2", *base)
    assert amlflow.ok("endpoint", "invoke", served, request).json == {"predictions": [2.0]}
    broken = amlflow("deploy", f"{scene.wine}:3", *base)
    assert broken.code == 1
    assert "ends when it starts, with exit code 1" in broken.err
    assert "UnpicklingError" in broken.err
    assert "What ran before is put back" in broken.err
    shown = amlflow.ok("endpoint", "show", served, "-o", "json").json
    assert shown["model"] == f"{scene.wine}:2"
    assert amlflow.ok("endpoint", "invoke", served, request).json == {"predictions": [2.0]}
    assert amlflow.ok("endpoint", "keys", served, "-q").out == key
    amlflow.ok("deploy", f"{scene.wine}:1", *base)


@pytest.mark.slow
def test_a_first_deploy_that_crashes_leaves_nothing(scene: Scene, served: str, name: str) -> None:
    roles = len(scene.roles())
    failed = scene.owner("deploy", f"{scene.wine}:3", "-t", "aci", "--name", name)
    assert failed.code == 1
    assert "UnpicklingError" in failed.err
    assert "is deleted again" in failed.err
    assert scene.parts(name) == {"group": 404, "identity": 404, "token": 404, "scope": 404, "roles": roles}
    assert name not in scene.owner.ok("endpoint", "list", "-q").out
    kept = (Path(scene.owner.env["AMLFLOW_HOME"]) / "azure" / "endpoint-keys.json").read_text()
    assert name not in kept


@pytest.mark.slow
def test_killed_under_faults_it_goes_on_without_the_right_to_assign_roles(
    scene: Scene, served: str, name: str, tmp_path: Path
) -> None:
    amlflow, roles = scene.contributor, len(scene.roles())
    base = ("deploy", f"{scene.wine}:1", "-t", "aci", "--name", name, "-o", "json")
    scene.azure.run("fault", "* /subscriptions/*:503:0.2", "* /subscriptions/*:429:0.2", "* /containers/*:503:0.2")
    try:
        for step in (b"Making the identity", b"may not assign roles", b"Making the container group", b"Waiting for"):
            process = amlflow.start(*base)
            for line in process.stderr:
                if step in line:
                    break
            process.kill()
            process.communicate()
        ended = amlflow.ok(*base)
    finally:
        scene.azure.run("fault", "--clear")
    assert (ended.json["state"], ended.json["model"]) == ("running", f"{scene.wine}:1")
    assert scene.parts(name) == {"group": 200, "identity": 404, "token": 200, "scope": 200, "roles": roles}
    assert amlflow.ok("endpoint", "list", "-q").out.split().count(name) == 1
    assert amlflow.ok("endpoint", "invoke", name, str(sample(tmp_path))).json == {"predictions": [1.0]}
    again = amlflow.ok("deploy", f"{scene.wine}:1", "-t", "aci", "--name", name, "--dry-run", "-o", "json").json
    assert again["steps"][1]["what"] == f"token {name}-pull"
    # The password of the token is in no record: a new key needs a new one.
    assert amlflow.ok("endpoint", "keys", name, "--rotate", "-q").out
    assert amlflow.ok("endpoint", "invoke", name, str(sample(tmp_path))).json == {"predictions": [1.0]}
    amlflow.ok("endpoint", "delete", name)
    assert scene.parts(name) == {"group": 404, "identity": 404, "token": 404, "scope": 404, "roles": roles}


@pytest.mark.slow
def test_what_never_answers(scene: Scene, served: str, name: str, deployable: Path, tmp_path: Path) -> None:
    """A model that hangs while it is loaded: the probes fail, the patience ends, or somebody deletes the group."""
    amlflow, roles = scene.owner, len(scene.roles())
    model = light(deployable / "one", tmp_path)

    class Hang:
        def __reduce__(self) -> Any:
            return time.sleep, (600,)

    (model / "model.pkl").write_bytes(pickle.dumps(Hang()))
    base = ("deploy", str(model), "-t", "aci", "--name", name)
    late = amlflow(*base, "--timeout", "8")
    assert late.code == 1
    assert "did not answer within 8 s" in late.err
    assert "Readiness probe failed" in late.err
    assert scene.parts(name) == {"group": 404, "identity": 404, "token": 404, "scope": 404, "roles": roles}
    assert amlflow.ok(*base, "--no-wait", "-o", "json").json["state"] in ("starting", "running")
    while scene.arm("GET", f"{GROUPS}/{name}", "2023-05-01").json()["properties"]["provisioningState"] != "Succeeded":
        time.sleep(0.2)
    again = amlflow(*base, "--timeout", "8")
    assert (again.code, "The group is left as it is" in again.err) == (1, True)
    process = amlflow.start(*base)
    said = []
    for line in process.stderr:
        said.append(line)
        if b"Waiting for the first answer: answered 502" in line:
            break
    scene.arm("DELETE", f"{GROUPS}/{name}", "2023-05-01")
    text = (b"".join(said) + process.communicate(timeout=120)[1]).decode()
    assert process.returncode == 3, text
    assert "was deleted meanwhile" in text
    assert scene.parts(name) == {"group": 404, "identity": 404, "token": 404, "scope": 404, "roles": roles}


def test_an_endpoint_without_a_key_says_so(scene: Scene, served: str, name: str, tmp_path: Path) -> None:
    amlflow = scene.owner
    base = ("deploy", f"{scene.wine}:1", "-t", "aci", "--name", name)
    made = amlflow.ok(*base, "--insecure", "--dns-label", f"{name}-open", "-o", "json")
    assert made.json["url"].startswith(f"https://{name}-open.local.")
    assert "anybody who has the address" in made.err
    host = made.json["url"].removeprefix("https://")
    answer = requests.post(
        f"{scene.azure.url}/invocations",
        json={"input_data": ROW},
        headers={"Host": host},
        verify=scene.azure.env["SSL_CERT_FILE"],
        timeout=60,
    )
    assert answer.json() == {"predictions": [1.0]}
    assert amlflow.ok("endpoint", "invoke", name, str(sample(tmp_path))).json == {"predictions": [1.0]}
    assert amlflow("endpoint", "keys", name).code == 1
    # With a key again, and other cores: Azure changes no size, so the group is made anew, where it was.
    again = amlflow.ok(*base, "--cpu", "0.5", "--memory", "1.5", "-o", "json")
    assert again.json["url"] == made.json["url"]
    group = scene.arm("GET", f"{GROUPS}/{name}", "2023-05-01").json()
    assert group["properties"]["containers"][0]["properties"]["resources"]["requests"] == {
        "cpu": 0.5,
        "memoryInGB": 1.5,
    }
    assert amlflow.ok("endpoint", "invoke", name, str(sample(tmp_path))).json == {"predictions": [1.0]}


@pytest.mark.slow
def test_a_private_group_is_begun_and_gone_on_with(scene: Scene, served: str, name: str, tmp_path: Path) -> None:
    subnet = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v/subnets/n"
    base = ("deploy", f"{scene.wine}:1", "-t", "aci", "--name", name, "--subnet", subnet, "-o", "json")
    begun = scene.owner.ok(*base, "--no-wait")
    assert begun.json["state"] in ("starting", "running")
    assert "goes on with it" in begun.err
    made = scene.owner.ok(*base)
    assert (made.json["state"], made.json["url"]) == ("running", "http://10.0.0.4:5001")
    assert "without HTTPS" in made.err
    asked = scene.owner("endpoint", "invoke", name, str(sample(tmp_path)))
    assert (asked.code, "no public address" in asked.err) == (1, True)
    refused = scene.contributor("endpoint", "delete", name)
    assert (refused.code, "User Access Administrator" in refused.err) == (4, True)
    assert scene.parts(name)["group"] == 200


def test_what_would_fail_later_is_refused_at_once(scene: Scene, served: str, name: str) -> None:
    amlflow = scene.owner
    puts = scene.asked('"method": "PUT", "target": "/subscriptions/')
    base = ("deploy", f"{scene.wine}:1", "-t", "aci", "--name")
    assert "'aci'" in amlflow("deploy", f"{scene.wine}:1", "-t", "acy").err
    assert amlflow(*base, "Not_A_Name").code == 2
    assert amlflow(*base, name, "--dns-label", "-no-").code == 2
    assert amlflow(*base, name, "--port", "5001").code == 2
    assert amlflow(*base, name, "--tag", "no-value").code == 2
    large = amlflow(*base, name, "--cpu", "20")
    assert (large.code, "the quota of 'local' allows" in large.err) == (1, True)
    far = amlflow(*base, name, "--location", "mars north", "--cpu", "0.5")
    assert (far.code, "not available" in far.err) == (1, True)
    here = amlflow(*base, name, "-w", "local")
    assert here.code in (1, 3)
    assert scene.asked('"method": "PUT", "target": "/subscriptions/') - puts <= 3
    reader, roles = scene.reader(*base, name), len(scene.roles())
    assert (reader.code, "Ask for the role «Contributor» on the registry" in reader.err) == (4, True)
    assert scene.parts(name) == {"group": 404, "identity": 404, "token": 404, "scope": 404, "roles": roles}
    assert amlflow("endpoint", "show", name).code == 3


def test_a_name_that_is_taken(scene: Scene, served: str, name: str) -> None:
    label = scene.arm("GET", f"{GROUPS}/{served}", "2023-05-01").json()["properties"]["ipAddress"]["dnsNameLabel"]
    roles = len(scene.roles())
    taken = scene.owner("deploy", f"{scene.wine}:1", "-t", "aci", "--name", name, "--dns-label", label)
    assert taken.code == 2
    assert f"The DNS label '{label}' is taken" in taken.err
    assert "--dns-label" in taken.err
    assert scene.parts(name) == {"group": 404, "identity": 404, "token": 404, "scope": 404, "roles": roles}


def test_a_workspace_without_a_registry(scene: Scene, name: str, deployable: Path) -> None:
    subscription, group, _ = scene.azure.scope
    body = {"location": "local", "properties": {"containerRegistry": ""}}
    path = scene.azure.workspace_path.rpartition("/")[0] + f"/{name}"
    assert scene.azure.request("PUT", path, body, api_version="2024-04-01-preview").status_code == 202
    none = scene.owner("deploy", str(deployable / "one"), "-t", "aci", "-w", f"{subscription}/{group}/{name}")
    assert (none.code, "has no container registry" in none.err, "az acr create" in none.err) == (3, True, True)
    scene.azure.request("DELETE", path, api_version="2024-04-01-preview")


def test_a_build_that_fails_shows_its_line(scene: Scene, name: str, deployable: Path, tmp_path: Path) -> None:
    """A package whose metadata can be read, and which cannot be built."""
    content = io.BytesIO()
    setup = (
        b"import sys\nfrom setuptools import setup\n"
        b"if 'bdist_wheel' in sys.argv:\n    sys.exit('error: there is no compiler for it')\n"
        b"setup(name='unbuildable', version='1.0')\n"
    )
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        member = tarfile.TarInfo("unbuildable-1.0/setup.py")
        member.size = len(setup)
        archive.addfile(member, io.BytesIO(setup))

    def answer(request: BaseHTTPRequestHandler) -> None:
        send(request, 200, content.getvalue(), "application/gzip")

    model = light(deployable / "one", tmp_path)
    with http_server(answer) as url:
        (model / "requirements.txt").write_text(f"unbuildable @ {url}/unbuildable-1.0.tar.gz\n")
        failed = scene.owner("deploy", str(model), "-t", "aci", "--name", name)
    assert failed.code == 1
    assert "returned a non-zero code" in failed.err
    assert "there is no compiler for it" in failed.err
    assert scene.parts(name)["group"] == scene.parts(name)["identity"] == 404
