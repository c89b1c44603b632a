"""Runs on clusters as jobs, whichever way they end; the service throttles, is away for a while, and cuts what it keeps."""

from __future__ import annotations

import io
import os
import time
import uuid
from collections.abc import Callable

import pytest
from databricks_host import Fault, Host

from amlflow.errors import NotAllowed, NotFound, Unavailable, UsageError
from amlflow.workspaces.abilities import JobQuery
from amlflow.workspaces.databricks import pending
from amlflow.workspaces.databricks.cluster_jobs import ClusterJobs, mark_of
from amlflow.workspaces.databricks.jobs import ClusterRuns, ClusterTask
from amlflow.workspaces.databricks.parcels import PART_BYTES, SCRIPT, Parcels
from amlflow.workspaces.databricks.workspace import DatabricksWorkspace

Begin = Callable[[str], str]


@pytest.fixture
def workspace(databricks: Host) -> DatabricksWorkspace:
    return DatabricksWorkspace()


@pytest.fixture
def jobs(workspace: DatabricksWorkspace) -> ClusterJobs:
    return workspace.jobs


@pytest.fixture
def begin(workspace: DatabricksWorkspace) -> Begin:
    """Begins a program, in a run of its own whose number is not noted; returns the run's id."""

    def begun(program: str) -> str:
        experiment = workspace.ensure_experiment(f"jobs {uuid.uuid4().hex[:8]}")
        run = workspace.create_run(experiment.id, "named", {}, {})
        script = Parcels(workspace.access).put(run.id, SCRIPT, program.encode())
        ClusterRuns(workspace.access).submit(ClusterTask("named", "1127-181818-abc123", script, (), run.id))
        return run.id

    return begun


SLEEP = "import time; print('begun', flush=True); time.sleep(60)"


@pytest.mark.parametrize(
    ("code", "message", "status"),
    [
        ("INTERNAL_ERROR", "The cluster was lost.", "FAILED"),
        ("CLUSTER_ERROR", "Spark driver terminated unexpectedly.", "FAILED"),
        ("LIBRARY_INSTALLATION_ERROR", "No matching distribution for nosuch.", "FAILED"),
        ("SKIPPED", "An upstream task failed.", "FAILED"),
        ("CANCELED", "Run timed out after 60 seconds.", "KILLED"),
        ("USER_CANCELED", "Run cancelled.", "KILLED"),
    ],
)
def test_how_the_platform_ends_a_run_is_told(
    databricks: Host,
    workspace: DatabricksWorkspace,
    jobs: ClusterJobs,
    begin: Begin,
    code: str,
    message: str,
    status: str,
) -> None:
    run_id = begin(SLEEP)
    (run,) = databricks.jobs.runs.values()
    databricks.jobs.end(run, code, message)
    ended = jobs.ended(run_id)
    assert (ended.exit_code, ended.job.status) == (1, status)
    assert ended.job.problem == f"{code}: {message.rstrip('.')}"
    assert workspace.get_run(run_id).status == status
    assert [job.id for job in jobs.list(JobQuery(status=code.lower()))] == [run_id]
    assert databricks.jobs.files() == []


def test_what_is_printed_is_shown_once_and_without_the_last_line(
    databricks: Host, jobs: ClusterJobs, begin: Begin
) -> None:
    for tells in (True, False):
        databricks.jobs.tells_while_running = tells
        run_id = begin("")
        mark = mark_of(run_id)
        run_id = begin(f"import time\nfor n in range(3): print(n, flush=True); time.sleep(.8)\nprint('\\n{mark} 0')")
        # The mark is that of another run: what looks like a last line and is none is shown.
        assert b"".join(jobs.logs(run_id, True, print)).decode() == f"0\n1\n2\n\n{mark} 0\n"


def test_of_what_was_cut_the_rest_is_shown(databricks: Host, jobs: ClusterJobs, begin: Begin) -> None:
    databricks.jobs.most_bytes = 30
    run_id = begin("import time\nfor n in range(30): print(f'line {n:02}', flush=True); time.sleep(.1)")
    said: list[str] = []
    shown = b"".join(jobs.logs(run_id, True, said.append)).decode()
    assert shown.endswith("line 28\nline 29\n")
    assert shown.count("line 29") == 1
    (number,) = databricks.jobs.runs
    whole = b"".join(jobs.logs(str(number), False, said.append)).decode()
    assert whole == (databricks.jobs.runs[number].log.read_text())[-30:]
    assert "the beginning is missing" in said[-1]


def test_a_service_that_is_away_for_a_while_loses_no_run(databricks: Host, jobs: ClusterJobs, begin: Begin) -> None:
    run_id = begin("print('x' * 10)")
    (number,) = databricks.jobs.runs
    get = "/api/2.2/jobs/runs/get"
    databricks.faults += [Fault(get, 429, 1, "REQUEST_LIMIT_EXCEEDED", {"Retry-After": "5"}), Fault(get, 503, 2)]
    begun = time.monotonic()
    assert jobs.get(str(number)).id == run_id
    # The service's own time to wait is longer than all that the SDK has for its attempts.
    assert time.monotonic() - begun > 5
    databricks.faults.append(Fault("/api/2.2/jobs/runs/list", 429, 1, "REQUEST_LIMIT_EXCEEDED", {"Retry-After": "5"}))
    assert [job.id for job in jobs.list(JobQuery())] == [run_id]
    databricks.faults.append(Fault("/api/2.2/jobs/runs/get-output", 500, 3, "INTERNAL_ERROR"))
    assert b"".join(jobs.logs(run_id, True, print)) == b"xxxxxxxxxx\n"


def test_what_is_in_the_way_has_a_name(databricks: Host, workspace: DatabricksWorkspace, jobs: ClusterJobs) -> None:
    with pytest.raises(NotFound, match="999"):
        jobs.get("999")
    with pytest.raises(NotFound, match="There is no job 'wrong'"):
        jobs.find("wrong")
    listing = "/api/2.2/jobs/runs/list"
    for status, code, error in (
        (401, "UNAUTHENTICATED", NotAllowed),
        (403, "PERMISSION_DENIED", NotAllowed),
        (500, "INTERNAL_ERROR", Unavailable),
    ):
        databricks.faults[:] = [Fault(listing, status, 99, code)]
        with pytest.raises(error, match="runs/list is not served now"):
            list(jobs.list(JobQuery()))


def test_an_address_is_taken_as_a_browser_shows_it(databricks: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    for given, host in (
        (f"{databricks.url}/?o=123#job/1", databricks.url),
        ("adb-1.2.azuredatabricks.net/", "https://adb-1.2.azuredatabricks.net"),
    ):
        monkeypatch.setenv("DATABRICKS_HOST", given)
        assert DatabricksWorkspace().access.host == host
    for wrong in ("not a host", "https://", "user:secret@host", "file:///etc"):
        monkeypatch.setenv("DATABRICKS_HOST", wrong)
        with pytest.raises(UsageError, match="is not the address") as caught:
            assert DatabricksWorkspace().access.host
        assert "secret" not in caught.value.paragraph()


def test_many_runs_are_read_page_by_page(databricks: Host, jobs: ClusterJobs, begin: Begin) -> None:
    ids = [begin("") for _ in range(26)]
    asked = ("GET", "/api/2.2/jobs/runs/list")
    assert [job.id for job in jobs.list(JobQuery())] == ids[::-1]
    assert databricks.paths.count(asked) == 2
    assert [job.id for job in jobs.list(JobQuery(limit=2))] == [ids[-1], ids[-2]]
    assert databricks.paths.count(asked) == 3


def test_a_file_of_a_volume_may_be_larger_than_one_request(databricks: Host, workspace: DatabricksWorkspace) -> None:
    content, key = os.urandom(52 << 20), uuid.uuid4().hex
    stage = "/Volumes/main/default/stage"
    sent = Parcels(workspace.access)
    place = sent.send(key, io.BytesIO(content), stage, print)
    ((path, parts),) = databricks.files.sent
    assert parts == 6
    assert databricks.files.place(path).read_bytes() == content
    script = f"/Users/x/.amlflow/{key}/{SCRIPT}"
    for foreign in (stage, f"{place}/..", f"{stage}/.amlflow", f"{stage}/.amlflow/{uuid.uuid4().hex}/../{key}"):
        sent.remove(script, (foreign,))
    sent.remove(f"/Users/x/.amlflow/{uuid.uuid4().hex}/{SCRIPT}", (place,))
    assert databricks.files.place(path).is_file()
    sent.remove(script, (place,))
    assert list(databricks.files.place(f"{stage}/.amlflow").iterdir()) == []


def test_a_file_of_the_workspace_is_within_its_limit(databricks: Host, workspace: DatabricksWorkspace) -> None:
    key = uuid.uuid4().hex
    Parcels(workspace.access).send(key, io.BytesIO(os.urandom(PART_BYTES + 1)), "", print)
    assert [path.rpartition("/")[2] for path in databricks.jobs.files()] == ["project.zip.000000", "project.zip.000001"]


def test_what_a_live_process_has_begun_is_not_taken_up(workspace: DatabricksWorkspace) -> None:
    folder = workspace.jobs.pending
    kept = pending.keep(folder, "key", "a" * 32)
    kept.note(7)
    assert pending.take_up(folder, "key") is None
    kept.file.write_text(kept.file.read_text().replace(f'"pid": {os.getpid()}', '"pid": 999999999'))
    assert pending.take_up(folder, "other") is None
    assert pending.take_up(folder, "key") == kept.__class__(kept.file, "a" * 32, 7)
    pending.forget(folder, "a" * 32)
    assert list(folder.iterdir()) == []
