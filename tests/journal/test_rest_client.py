"""The REST client against servers that break in every way that networks do."""

from __future__ import annotations

import datetime
import email.utils
import ipaddress
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from servers import free_port, http_server, send

from amlflow.journal.errors import Refused, Unreachable
from amlflow.journal.rest import RestServer, split_login
from amlflow.journal.retry import RetryPolicy, Transient, parsed_retry_after, persist

QUICK = RetryPolicy(most=3, base_s=0.01, cap_s=0.05, deadline_s=60)


def body_of(request: BaseHTTPRequestHandler) -> bytes:
    return request.rfile.read(int(request.headers.get("Content-Length") or 0))


def reset(request: BaseHTTPRequestHandler) -> None:
    """Close at once, with a reset in place of an end."""
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.connection.close()
    request.close_connection = True


def cut(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", "100")
    request.end_headers()
    request.wfile.write(b'{"a": ')
    request.close_connection = True


@dataclass(frozen=True)
class Asked:
    path: str
    headers: dict[str, str]
    at_s: float


class Script:
    """Answers one after the other, the last for good; keeps what was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.asked, self.bodies = list(answers), [], []
        self._lock = threading.Lock()

    def __call__(self, request: BaseHTTPRequestHandler) -> None:
        with self._lock:
            # One object answers all the requests of a connection.
            self.asked.append(Asked(request.path, dict(request.headers.items()), time.monotonic()))
            self.bodies.append(body_of(request))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, int):
            send(request, answer, json.dumps({"error_code": "CODE", "message": "said so"}).encode())
        elif callable(answer):
            answer(request)
        else:
            send(request, 200, json.dumps(answer).encode())


@pytest.fixture(autouse=True)
def _clean(clean_env: dict[str, str]) -> None:
    pass


@pytest.mark.parametrize("fault", [408, 429, 500, 502, 503, 504, reset, cut])
def test_what_can_be_repeated_is_repeated(fault: Any) -> None:
    script = Script(fault, fault, {"ok": 1})
    with http_server(script) as url:
        assert RestServer(url, policy=QUICK).request("POST", "/x", {"a": 1}) == {"ok": 1}
    assert script.bodies == [b'{"a":1}'] * 3


@pytest.mark.parametrize(("fault", "tries"), [(500, 1), (503, 1), (reset, 1), (cut, 1), (429, 2), (408, 2)])
def test_what_may_have_been_done_is_not_done_again_unasked(fault: Any, tries: int) -> None:
    script = Script(fault, {"ok": 1})
    with http_server(script) as url:
        server = RestServer(url, policy=QUICK)
        if tries == 2:
            assert server.request("POST", "/x", retry=False) == {"ok": 1}
        else:
            with pytest.raises(Unreachable) as caught:
                server.request("POST", "/x", retry=False)
            assert caught.value.maybe_applied
    assert len(script.asked) == tries


def test_reading_is_always_repeated() -> None:
    with http_server(Script(reset, {"ok": 1})) as url:
        assert RestServer(url, policy=QUICK).request("GET", "/x", retry=False) == {"ok": 1}


def test_an_answer_that_does_not_come_in_time_may_have_been_applied() -> None:
    done = threading.Event()
    with http_server(Script(lambda request: done.wait(60))) as url:
        with pytest.raises(Unreachable, match="in time") as caught:
            RestServer(url, policy=QUICK).request("POST", "/x", timeout_s=0.2, retry=False)
        done.set()
    assert caught.value.maybe_applied


def test_nobody_there_is_surely_not_applied() -> None:
    with pytest.raises(Unreachable, match="accepts no connection") as caught:
        RestServer(f"http://127.0.0.1:{free_port()}", policy=QUICK).request("POST", "/x", retry=False)
    assert not caught.value.maybe_applied


def test_a_broken_connection_is_said_in_words() -> None:
    with http_server(Script(reset)) as url, pytest.raises(Unreachable, match="broke the connection") as caught:
        RestServer(url, policy=QUICK).request("POST", "/x", retry=False)
    assert not set(caught.value.reason) & set("'\"")
    assert caught.value.reason.count("(") == caught.value.reason.count(")") <= 1


@pytest.mark.parametrize(
    ("answer", "status", "code", "words"),
    [
        (400, 400, "CODE", "said so"),
        (409, 409, "CODE", "said so"),
        (lambda r: send(r, 404, b"<html>", "text/html"), 404, "ENDPOINT_NOT_FOUND", "404"),
        (lambda r: send(r, 200, b"<html>", "text/html"), 200, "NOT_MLFLOW", "web page"),
        (lambda r: send(r, 301, b"", Location="https://u:secret@x.org/a?b=c"), 301, "NOT_MLFLOW", "x.org/a:"),
        (lambda r: send(r, 403, b"go away", "text/plain"), 403, "", "go away"),
        (
            lambda r: send(r, 400, b'{"error": {"code": "UserError", "message": "no"}}', x_ms_request_id="42"),
            400,
            "UserError",
            "no",
        ),
    ],
)
def test_a_refusal_is_final_and_says_what_the_service_said(answer: Any, status: int, code: str, words: str) -> None:
    script = Script(answer)
    with http_server(script) as url, pytest.raises(Refused) as caught:
        RestServer(url, policy=QUICK).request("POST", "/x")
    assert (caught.value.status, caught.value.code) == (status, code)
    assert words in caught.value.message
    assert "secret" not in str(caught.value)
    assert len(script.asked) == 1
    assert ("request 42" in str(caught.value)) == (code == "UserError")


def test_a_token_is_asked_for_each_time_and_once_more_when_it_is_refused() -> None:
    tokens = iter(["old", "new", "newest", "bad", "bad too"])
    script = Script(401, {"ok": 1}, {"ok": 2}, 401)
    with http_server(script) as url:
        server = RestServer(url, lambda: {"Authorization": f"Bearer {next(tokens)}"}, "/prefix", policy=QUICK)
        assert server.request("POST", "/x", {"a": 1}) == {"ok": 1}
        assert server.request("GET", "/x", {"a": [1, 2], "b": True}) == {"ok": 2}
        with pytest.raises(Refused, match="401"):
            server.request("POST", "/x")
    sent = [request.headers["Authorization"] for request in script.asked]
    assert sent == ["Bearer old", "Bearer new", "Bearer newest", "Bearer bad", "Bearer bad too"]
    assert script.asked[2].path == "/prefix/x?a=1&a=2&b=true"
    assert script.bodies[:2] == [b'{"a":1}'] * 2


def test_numbers_that_json_lacks_go_as_words() -> None:
    script = Script({})
    with http_server(script) as url:
        values = [float("nan"), float("inf"), -float("inf"), 1.5]
        RestServer(url).request("POST", "/x", {"metrics": [{"value": value} for value in values]})
    assert [m["value"] for m in json.loads(script.bodies[0])["metrics"]] == ["NaN", "Infinity", "-Infinity", 1.5]


def test_many_threads_share_one_server_and_keep_their_connections() -> None:
    peers: set[Any] = set()

    def answer(request: BaseHTTPRequestHandler) -> None:
        peers.add(request.client_address)
        send(request, 200, json.dumps({"echo": json.loads(body_of(request))["n"]}).encode())

    with http_server(answer) as url:
        server = RestServer(url)
        with ThreadPoolExecutor(12) as pool:
            found = list(pool.map(lambda n: server.request("POST", "/x", {"n": n})["echo"], range(240)))
        server.close()
    assert found == list(range(240))
    assert len(peers) <= 24


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_opens_connections_of_its_own() -> None:
    peers: list[Any] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        peers.append(request.client_address)
        send(request, 200, b"{}")

    with http_server(answer) as url:
        # In a process without the threads of this one.
        program = (
            "import os\nfrom amlflow.journal.rest import RestServer\n"
            f"server = RestServer({url!r})\nserver.request('GET', '/x')\npid = os.fork()\n"
            "server.request('GET', '/x')\nif pid: assert os.waitpid(pid, 0)[1] == 0\nelse: os._exit(0)\n"
            "server.request('GET', '/x')\n"
        )
        subprocess.run([sys.executable, "-c", program], check=True)
    assert len(peers) == 4
    assert len(set(peers)) == 2


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_goes_on_where_it_broke_off(tmp_path: Path, ranges: bool) -> None:
    content = os.urandom(3_000_000)
    asked: list[str] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.headers.get("Range", ""))
        start = int(asked[-1].split("=")[1].rstrip("-")) if asked[-1] and ranges else 0
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(content) - start))
        if ranges:
            request.send_header("ETag", '"one"')
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.end_headers()
        request.wfile.write(content[start:] if len(asked) == 3 else content[start : start + 1_100_000])
        request.close_connection = True

    with http_server(answer) as url:
        target = tmp_path / "big file"
        assert RestServer(url, policy=QUICK).download("/a b/ü#%", target) == len(content)
    assert target.read_bytes() == content
    assert (asked[1] != "") == ranges
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["big file"]


def test_a_file_that_changed_meanwhile_is_fetched_anew(tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.headers.get("If-Range", ""))
        request.send_response(200)
        request.send_header("Content-Length", "2000000")
        request.send_header("ETag", f'"{len(asked)}"')
        request.end_headers()
        request.wfile.write(b"a" * 1_500_000 if len(asked) == 1 else b"b" * 2_000_000)
        request.close_connection = True

    with http_server(answer) as url:
        RestServer(url, policy=QUICK).download("/x", tmp_path / "f")
    assert asked == ["", '"1"']
    assert (tmp_path / "f").read_bytes() == b"b" * 2_000_000


def test_a_download_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("before")
    with http_server(Script(404)) as url, pytest.raises(Refused):
        RestServer(url, policy=QUICK).download("/x", tmp_path / "f")
    assert [path.read_text() for path in tmp_path.iterdir() if path.is_file()] == ["before"]


def test_an_upload_is_whole_after_a_failure(tmp_path: Path) -> None:
    file = tmp_path / "f.bin"
    file.write_bytes(os.urandom(500_000))
    script = Script(503, 503, {})
    with http_server(script) as url:
        RestServer(url, policy=QUICK).upload("/x", file)
    assert [body == file.read_bytes() for body in script.bodies] == [True, True, True]
    file.write_bytes(b"")
    with http_server(script) as url:
        RestServer(url, policy=QUICK).upload("/x", file)
    assert script.asked[-1].headers["Content-Length"] == "0"


def test_a_token_that_cannot_be_sent_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "sec\nret")
    with pytest.raises(Refused, match="MLFLOW_TRACKING_TOKEN") as caught:
        RestServer("http://x")
    assert "ret" not in str(caught.value).replace("secret", "")


def test_a_certificate_is_checked_as_mlflow_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, server_chain, client_chain = certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server_chain)
    context.load_verify_locations(authority)
    context.verify_mode = ssl.CERT_OPTIONAL
    seen: list[Any] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        seen.append(request.connection.getpeercert())
        send(request, 200, b"{}")

    with http_server(answer, context) as url:

        def works() -> bool:
            try:
                RestServer(url, policy=QUICK).request("GET", "/x")
            except Unreachable as error:
                return "not trusted" not in error.reason
            return True

        assert not works()
        for variable in ("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE"):
            with monkeypatch.context() as patch:
                patch.setenv(variable, str(authority))
                assert works()
        monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
        with pytest.warns(Warning, match="Unverified"):
            assert works()
        assert not any(seen)
        monkeypatch.delenv("MLFLOW_TRACKING_INSECURE_TLS")
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(authority))
        monkeypatch.setenv("MLFLOW_TRACKING_CLIENT_CERT_PATH", str(client_chain))
        assert works()
        assert seen[-1]["subject"]
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(tmp_path / "nothing.pem"))
        with pytest.raises(Refused, match=r"nothing\.pem"):
            RestServer(url, policy=QUICK).request("GET", "/x")


def certificates(folder: Path) -> tuple[Path, Path, Path]:
    """An authority, and a server's and a client's chain (certificate and key) that it signed."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = datetime.datetime.now(datetime.timezone.utc)
    root_key = ec.generate_private_key(ec.SECP256R1())
    root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])

    def certificate(common: str, key: Any, ca: bool) -> bytes:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(root_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca, None), True)
            .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        )
        return builder.sign(root_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    files = []
    for name, key in (
        ("authority", root_key),
        ("server", ec.generate_private_key(ec.SECP256R1())),
        ("client", ec.generate_private_key(ec.SECP256R1())),
    ):
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file = folder / f"{name}.pem"
        file.write_bytes(certificate(name, key, name == "authority") + (private if name != "authority" else b""))
        files.append(file)
    return files[0], files[1], files[2]


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("http://h:5000/base/", ("http://h:5000/base", "", "")),
        ("https://me:p%40ss%2F@h/x", ("https://h/x", "me", "p@ss/")),
        ("http://me@h", ("http://h", "me", "")),
    ],
)
def test_a_login_is_taken_out_of_an_address(url: str, parts: tuple[str, str, str]) -> None:
    assert split_login(url) == parts


# The policy itself, without a network.


def test_waiting_is_bounded_jittered_and_ends() -> None:
    policy = RetryPolicy(most=4, base_s=1, cap_s=5, deadline_s=100)
    assert [policy.wait_s(failed, 0, chance=0.5) for failed in (1, 2, 3, 4, 5)] == [0.5, 1, 2, 2.5, None]
    patient = RetryPolicy(most=4, most_busy=6, base_s=1, cap_s=5, deadline_s=100)
    assert [patient.wait_s(5, 0, chance=0.5, status=status) for status in (0, 429, 500, 503)] == [None, 2.5, None, 2.5]
    assert patient.wait_s(7, 0, chance=0.5, status=503) is None
    assert policy.wait_s(1, 99.9, chance=0.5) is None
    assert policy.wait_s(1, 0, retry_after_s=7, chance=0) == 7
    assert policy.wait_s(1, 0, retry_after_s=7000, chance=0) == policy.after_cap_s
    assert policy.wait_s(1, 50, retry_after_s=60, chance=0) is None
    assert RetryPolicy(most=10**9, deadline_s=10**9).wait_s(10**8, 0, chance=0.999) <= 10  # type: ignore[operator]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3),
        (" 0.5 ", 0.5),
        ("-4", 0),
        ("", None),
        (None, None),
        ("soon", None),
        ("nan", None),
        (email.utils.formatdate(1_000_030, usegmt=True), 30),
        (email.utils.formatdate(999_000, usegmt=True), 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert parsed_retry_after(header, now_s=1_000_000) == seconds


def test_the_service_decides_how_long_to_wait() -> None:
    script = Script(lambda request: send(request, 503, b"{}", Retry_After="0.4"), {})
    with http_server(script) as url:
        RestServer(url, policy=QUICK).request("GET", "/x")
    first, second = script.asked
    assert second.at_s - first.at_s >= 0.4 > QUICK.cap_s


def test_a_deadline_ends_it_all() -> None:
    now = [0.0]

    def attempt(remaining_s: float) -> None:
        now[0] += 10
        raise Transient("no")

    with pytest.raises(Transient):
        persist(RetryPolicy(most=1000, deadline_s=35), attempt, sleep=lambda s: None, clock=lambda: now[0])
    assert now[0] == 40
