"""The one way that amlflow runs somebody's program: output shown and kept, signals passed on, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Any

from amlflow.errors import AmlflowError, NotFound

# Signals by which somebody outside asks a program to stop; any other signal is the program's own failure.
_STOPS = {signal.SIGINT, signal.SIGTERM, signal.SIGKILL, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])}
_FORWARDED = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT") if hasattr(signal, name)]
_CHUNK = 1 << 16
_TERM_GRACE_S = 5.0
_DRAIN_GRACE_S = 2.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended. `exit_code` is what a shell would report: 128 + N for signal N."""

    exit_code: int
    killed: bool
    seconds: float


@dataclass
class Interrupts:
    """While entered, signals that ask amlflow to stop are remembered and passed to the running program, instead of
    raising somewhere: so whoever holds a run open always gets to close it."""

    received: list[int] = field(default_factory=list)
    _child: subprocess.Popen[bytes] | None = None
    _shared_group: bool = False
    _before: dict[int, Any] = field(default_factory=dict)

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in _FORWARDED:
                # What nohup or a shell's `&` has told us to ignore stays ignored.
                if signal.getsignal(number) is signal.SIG_IGN:
                    continue
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def attach(self, child: subprocess.Popen[bytes], shared_group: bool) -> None:
        self._child, self._shared_group = child, shared_group
        for number in self.received:
            self._pass_on(number)

    def detach(self) -> None:
        self._child = None

    def stop(self, number: int) -> None:
        """What a signal from outside does, asked for by another thread. The second time nothing is left."""
        self._on_signal(number, None)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.received.append(number)
        # Handlers run between bytecodes of the main thread: a second wait for the child here could deadlock with
        # the one it interrupts, so everything that may block happens in a thread.
        threading.Thread(target=self._pass_on, args=(number,), daemon=True).start()

    def _pass_on(self, number: int) -> None:
        child = self._child
        if child is None or child.poll() is not None:
            return
        again = self.received.count(number) > 1
        if number == signal.SIGINT and again:
            number = signal.SIGTERM
        elif self._shared_group and number in (signal.SIGINT, getattr(signal, "SIGQUIT", None)):
            # The terminal has sent it to every process of the foreground group already.
            return
        if self._shared_group:
            for process in _descendants(os.getpid()):
                with contextlib.suppress(Exception):
                    process.send_signal(number)
        else:
            _signal_group(child.pid, number)
        if again:
            _end_tree(child, self._shared_group)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """A stretch that is not cut: a signal that comes within it raises `KeyboardInterrupt` at its end. For steps after which
    somebody else must know what was started."""
    with Interrupts() as interrupts:
        yield
    if interrupts.received:
        raise KeyboardInterrupt


def run(
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdout_log: Path | None = None,
    stderr_log: Path | None = None,
    show: bool = True,
    interrupts: Interrupts,
) -> Ended:
    """Run the command to its end. What it prints goes to our own stdout and stderr (unless `show` is False) and, byte
    for byte, to the log files. After an interruption nothing that it started is left. Raises `NotFound` when there is
    no such program, `AmlflowError` when it cannot be started."""
    shared_group = _in_terminal_foreground()
    started = time.monotonic()
    with contextlib.ExitStack() as logs:
        out = logs.enter_context(_open_log(stdout_log))
        err = out if stderr_log == stdout_log else logs.enter_context(_open_log(stderr_log))
        child = _start(command, cwd, env, shared_group, captured=bool(stdout_log or not show))
        interrupts.attach(child, shared_group)
        try:
            copiers = [
                _copier(child.stdout, sys.stdout.buffer if show else None, out),
                _copier(child.stderr, sys.stderr.buffer if show else None, err),
            ]
            child.wait()
        except BaseException:
            _end_tree(child, shared_group)
            raise
        finally:
            interrupts.detach()
        if interrupts.received:
            _end_tree(child, shared_group)
        # A daemon that the program left behind may hold the pipe open for ever; it is not waited for.
        deadline = time.monotonic() + _DRAIN_GRACE_S
        for copier in copiers:
            if copier is not None:
                copier.join(max(0.05, deadline - time.monotonic()))
    return _ended(child.returncode, bool(interrupts.received), time.monotonic() - started)


def start_detached(command: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path) -> int:
    """Start a program that outlives this shell; its output goes to `log`. Returns its process id."""
    with log.open("ab") as sink:
        child = subprocess.Popen(
            list(command),
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
            close_fds=True,
        )
    # Nobody here will wait for it, and Popen warns of that when it is collected.
    child.returncode = 0
    return child.pid


def started(pid: int) -> float:
    """When a process began, in epoch seconds; 0 for one that is gone. Together with its number it tells a process from another
    that was given the same number later."""
    import psutil

    try:
        process = psutil.Process(pid)
        return 0.0 if process.status() == psutil.STATUS_ZOMBIE else round(process.create_time(), 2)
    except psutil.Error:
        return 0.0


def _start(
    command: Sequence[str], cwd: Path | None, env: Mapping[str, str] | None, shared_group: bool, captured: bool
) -> subprocess.Popen[bytes]:
    options: dict[str, Any] = {}
    if not shared_group:
        if sys.version_info >= (3, 11):
            options["process_group"] = 0
        elif os.name == "posix":
            options["preexec_fn"] = os.setpgrp
    pipe = subprocess.PIPE if captured else None
    try:
        return subprocess.Popen(
            list(command),
            cwd=cwd,
            env=dict(env) if env is not None else None,
            stdout=pipe,
            stderr=pipe,
            bufsize=0,
            **options,
        )
    except FileNotFoundError as error:
        if cwd is not None and not cwd.is_dir():
            raise NotFound(f"There is no folder {str(cwd)!r} to run {command[0]!r} in.") from error
        raise NotFound(
            f"There is no program {command[0]!r} on this machine.", "Check its spelling and your PATH."
        ) from error
    except PermissionError as error:
        raise AmlflowError(
            f"{command[0]!r} may not be executed.", f"Make it executable with `chmod +x {command[0]}`."
        ) from error
    except OSError as error:
        raise AmlflowError(f"{command[0]!r} cannot be started: {error.strerror or error}.") from error


@contextlib.contextmanager
def _open_log(path: Path | None) -> Iterator[IO[bytes] | None]:
    if path is None:
        yield None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        yield file


def _copier(source: IO[bytes] | None, shown: IO[bytes] | None, log: IO[bytes] | None) -> threading.Thread | None:
    if source is None:
        return None

    def copy() -> None:
        sinks = [sink for sink in (shown, log) if sink is not None]
        while True:
            try:
                chunk = os.read(source.fileno(), _CHUNK)
            except OSError:
                return
            if not chunk:
                source.close()
                return
            for sink in list(sinks):
                try:
                    sink.write(chunk)
                    sink.flush()
                except (OSError, ValueError):
                    # A closed terminal or a full disk must not stop the program, which would block on a full pipe.
                    sinks.remove(sink)

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    return thread


def _ended(returncode: int, interrupted: bool, seconds: float) -> Ended:
    code = 128 - returncode if returncode < 0 else returncode
    by_signal = code - 128 if code > 128 else 0
    return Ended(code, interrupted or by_signal in _STOPS, seconds)


def _in_terminal_foreground() -> bool:
    for stream in (0, 1, 2):
        with contextlib.suppress(OSError, AttributeError):
            return os.tcgetpgrp(stream) == os.getpgrp()
    return False


def _end_tree(child: subprocess.Popen[bytes], shared_group: bool) -> None:
    """Ask, then make, everything that the child started to stop."""
    left = _descendants(os.getpid() if shared_group else child.pid)
    for process in left:
        with contextlib.suppress(Exception):
            process.terminate()
    if not shared_group:
        _signal_group(child.pid, signal.SIGTERM)
    deadline = time.monotonic() + _TERM_GRACE_S
    while time.monotonic() < deadline:
        if child.poll() is not None and not any(_alive(process) for process in left):
            break
        time.sleep(0.02)
    for process in left:
        if _alive(process):
            with contextlib.suppress(Exception):
                process.kill()
    if not shared_group and hasattr(signal, "SIGKILL"):
        _signal_group(child.pid, signal.SIGKILL)
    if child.poll() is None:
        child.kill()
        child.wait()


def _descendants(pid: int) -> list[Any]:
    import psutil

    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.Error:
        return []


def _alive(process: Any) -> bool:
    import psutil

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _signal_group(leader: int, number: int) -> None:
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, number)
    else:
        with contextlib.suppress(OSError):
            os.kill(leader, number)
