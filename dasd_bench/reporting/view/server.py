"""The server behind the viewer: this machine alone, reading alone, for whoever has the token.

Three guards, since any page in the same browser can send requests to 127.0.0.1: a token that is drawn at every start
and asked of every request (in the address once, then in a cookie), a Host header that names this machine (against DNS
rebinding), and no method but GET. Pages come from :mod:`.pages`, which knows runs by key and never sees a path.
"""

from __future__ import annotations

import secrets
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from dasd_bench.errors import DasdError, UsageError
from dasd_bench.reporting.view.pages import Answer, Pages

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")
"""Names of this machine in a Host header. The port is free: an SSH tunnel has one of its own."""

HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class ViewServer(ThreadingHTTPServer):
    """Serves ``pages`` on 127.0.0.1; ``port`` 0 takes a free one.

    Raises :class:`UsageError` where the port is taken.
    """

    daemon_threads = True

    def __init__(self, pages: Pages, port: int = 0) -> None:
        self.pages = pages
        self.token = secrets.token_urlsafe(24)
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise UsageError(f"--port {port} cannot be used: {error.strerror}; choose another.") from None

    @property
    def address(self) -> str:
        """Where the list is, with the token."""
        return f"http://{HOST}:{self.server_port}/?token={self.token}"

    @property
    def cookie(self) -> str:
        """The name of the cookie: cookies are shared by all ports of a host, and several viewers may run."""
        return f"dasd_bench_view_{self.server_port}"

    def is_token(self, given: str | None) -> bool:
        """Whether ``given`` is the token."""
        return given is not None and secrets.compare_digest(given.encode(), self.token.encode())

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that closes a connection early is no error."""


class _Handler(BaseHTTPRequestHandler):
    server: ViewServer
    protocol_version = "HTTP/1.1"
    timeout = 60
    server_version = "dasd-bench"
    sys_version = ""

    def do_GET(self) -> None:
        if self._host() not in NAMES:
            self._refuse(HTTPStatus.FORBIDDEN, "This server answers requests for 127.0.0.1 and localhost alone.")
            return
        url = urlsplit(self.path)
        query = parse_qsl(url.query, keep_blank_values=True)
        given = dict(query).get("token")
        if self.server.is_token(given):
            self._enter(url.path, [(name, value) for name, value in query if name != "token"])
        elif self.server.is_token(self._cookie()):
            self._page(url.path, query)
        else:
            self._refuse(
                HTTPStatus.FORBIDDEN,
                "Open the address that dasd-bench view printed: it holds the token of this session.",
            )

    def _only_get(self) -> None:
        self.close_connection = True  # a body, if any, is not read
        self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "This server only answers GET.", {"Allow": "GET"})

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_CONNECT = _only_get  # noqa: N815

    def _host(self) -> str:
        name, _, port = (self.headers.get("Host") or "").partition(":")
        return name.lower() if not port or port.isdigit() else ""

    def _cookie(self) -> str | None:
        try:
            found = SimpleCookie(self.headers.get("Cookie", "")).get(self.server.cookie)
        except CookieError:
            return None
        return found.value if found is not None else None

    def _enter(self, path: str, query: list[tuple[str, str]]) -> None:
        """Moves the token from the address, which is kept in histories and shown to others, into a cookie."""
        # A path that starts with two slashes would name another host.
        place = "/" + path.lstrip("/") + (f"?{urlencode(query)}" if query else "")
        cookie = f"{self.server.cookie}={self.server.token}; Path=/; HttpOnly; SameSite=Lax"
        self._send(HTTPStatus.SEE_OTHER, Answer("", "text/plain"), {"Location": place, "Set-Cookie": cookie})

    def _page(self, path: str, query: list[tuple[str, str]]) -> None:
        try:
            answer = self.server.pages.answer(path, query)
        except DasdError as error:
            self._send(HTTPStatus.OK, self.server.pages.failed(str(error)))
            return
        if answer is None:
            self._send(HTTPStatus.NOT_FOUND, self.server.pages.failed("There is no such page or run."))
            return
        self._send(HTTPStatus.OK, answer)

    def _refuse(self, status: HTTPStatus, text: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, Answer(text + "\n", "text/plain"), headers)

    def _send(self, status: HTTPStatus, answer: Answer, headers: dict[str, str] | None = None) -> None:
        data = answer.text.encode("utf-8")
        self.send_response(status)
        self.send_header("Content-Type", f"{answer.kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        for name, value in {**HEADERS, **answer.headers, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal is for the address, and requests say nothing that a person asked for."""
