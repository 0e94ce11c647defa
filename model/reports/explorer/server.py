"""The explorer over HTTP, in a thread of this process: to this machine only, or with a token in the address.

On this machine every request has to name this machine as its host, so that no page of somebody else's, whose name was
made to lead here, can read the answers.
"""

import asyncio
import errno
import hmac
import ipaddress
import secrets
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any
from urllib.parse import quote

from tornado.httpserver import HTTPServer
from tornado.web import Application, HTTPError, RequestHandler

from pairscape.model.reports.explorer.answers import Explorer
from pairscape.pipeline.compute.progress import Say
from pairscape.pipeline.errors import InputError, JobError, first_line

PORT, TRIED_PORTS = 8765, 30
LOOPBACK = "127.0.0.1"
ANSWERING_THREADS = 4
REFUSED = {errno.EADDRINUSE: "is taken", errno.EACCES: "may not be used by you"}
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Answering(RequestHandler):
    """Passes each request to the explorer, and its answer back."""

    def initialize(self, explorer: Explorer, token: str, threads: ThreadPoolExecutor) -> None:
        """What the application was made with."""
        self.explorer, self.token, self.threads = explorer, token, threads

    def set_default_headers(self) -> None:
        """Nothing is kept, framed or read by others."""
        for name, value in HEADERS.items():
            self.set_header(name, value)

    def prepare(self) -> None:
        """Refuse who may not ask."""
        if self.token:
            if not hmac.compare_digest(self.get_query_argument("token", "").encode(), self.token.encode()):
                raise HTTPError(403, reason="the address lacks its token: use the one that pairscape browse printed")
        elif not is_loopback(self.request.host_name):
            raise HTTPError(403, reason="this explorer answers to localhost only")

    async def get(self) -> None:
        """Answer, without keeping others waiting."""
        asked = {name: values[-1].decode(errors="replace") for name, values in self.request.query_arguments.items()}
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(self.threads, self.explorer.answer, self.request.path, asked)
        self.set_status(answer.status)
        self.set_header("Content-Type", answer.kind)
        if answer.file:
            self.set_header("Content-Disposition", f"attachment; filename*=UTF-8''{quote(answer.file)}")
        self.finish(answer.content)

    def write_error(self, status_code: int, **_: Any) -> None:
        """One line of text."""
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{status_code}: {self._reason}\n")

    def log_exception(self, kind: Any, error: Any, trace: Any) -> None:
        """A refusal is told to who asked, and to nobody else; a mistake of ours to the terminal too."""
        if not isinstance(error, HTTPError):
            super().log_exception(kind, error, trace)


def is_loopback(host: str) -> bool:
    """Whether a name or an address means this machine to itself only."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int | None) -> socket.socket:
    """A socket on a port; None: the first free one from `PORT` on.

    Raises
    ------
    InputError
        The port is none, is taken or not for this user, or there is no such host here.
    JobError
        None of the ports that are tried is free.
    """
    if port is not None and not 0 <= port < 2**16:
        raise InputError(f"--port is {port}: a port is a number from 1 to {2**16 - 1}.")
    for number in range(PORT, PORT + TRIED_PORTS) if port is None else (port,):
        try:
            return socket.create_server((host, number), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        except OSError as error:
            if error.errno not in REFUSED:
                raise InputError(
                    f"--host {host} is no address of this machine ({first_line(error)}); leave it out, or give 0.0.0.0."
                ) from error
            why = REFUSED[error.errno]
    if port is None:
        raise JobError(f"ports {PORT} to {PORT + TRIED_PORTS - 1} are all taken; give a free one (--port).")
    raise InputError(f"--port {port} {why}: give another one, or leave it out for the next that is free.")


@contextmanager
def serving(explorer: Explorer, host: str = LOOPBACK, port: int | None = None) -> Iterator[str]:
    """Serve an explorer while the block runs; gives its address. Raises like `listen`."""
    token = "" if is_loopback(host) else secrets.token_urlsafe(18)
    heard = listen(host, port)
    heard.setblocking(False)
    number = heard.getsockname()[1]
    started, loop = Event(), asyncio.new_event_loop()
    stopped = asyncio.Event()

    async def serve() -> None:
        with ThreadPoolExecutor(ANSWERING_THREADS, "pairscape-answer") as threads:
            known = {"explorer": explorer, "token": token, "threads": threads}
            server = HTTPServer(
                Application([(r".*", Answering, known)], compress_response=True, log_function=lambda _: None)
            )
            server.add_sockets([heard])
            started.set()
            await stopped.wait()
            server.stop()
            await server.close_all_connections()

    thread = Thread(target=_run, args=(loop, serve()), name="pairscape-browse", daemon=True)
    thread.start()
    started.wait()
    try:
        yield f"http://{_spelled(host)}:{number}/" + (f"?token={token}" if token else "")
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join()


def serve_until_interrupted(explorer: Explorer, host: str, port: int | None, say: Say) -> None:
    """Serve an explorer and tell its address, until Ctrl-C. Raises like `listen`."""
    with serving(explorer, host, port) as address:
        if not is_loopback(host):
            print(
                f"warning: whoever reaches {host} and has the token of this address can read these scores; the "
                "connection is not encrypted",
                file=sys.stderr,
            )
        say(f"{explorer.table.path.name}: {explorer.table.n_pairs:,} pairs of {len(explorer.table.genes):,} genes")
        print(f"open {address} in a browser; Ctrl-C ends it", flush=True)
        Event().wait()


def _run(loop: asyncio.AbstractEventLoop, serve: Any) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(serve)
    finally:
        loop.close()


def _spelled(host: str) -> str:
    """A host as it stands in an address; of all addresses of this machine its name."""
    if host in ("0.0.0.0", "::", ""):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host
