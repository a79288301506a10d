"""A search in the browser, while it runs: optuna-dashboard over its records, allowed to read alone, on this machine alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from datasets.refusal import Refusal
from search.tune import reading
from search.tune.folder import Folder

HOST = "127.0.0.1"
App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def serve(folder: Folder, port: int, say: Callable[[str], None]) -> None:
    """Serve a search's study until Ctrl-C; `say` is told the page's URL. Port 0 is any that is free."""
    try:
        import optuna_dashboard
    except ImportError as error:
        raise Refusal(
            "optuna-dashboard is not installed",
            path="--dashboard",
            remedy='pip install "optuna-dashboard" (or the extra: pip install ".[dashboard]")',
        ) from error
    study = reading.of_folder(folder)
    app = only_reading(optuna_dashboard.wsgi(study._storage))
    try:
        server = make_server(HOST, port, app, server_class=_Server, handler_class=_Quiet)
    except OSError as error:
        raise Refusal(
            f"the port cannot be had: {error.strerror or error}",
            path="--port",
            value=port,
            remedy="name another one, or 0 for any that is free",
        ) from error
    with server:
        say(f"http://{HOST}:{server.server_port}/dashboard/studies/{study._study_id}")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


def only_reading(app: App) -> App:
    """The application without what would change anything: a driver owns its records."""

    def guarded(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            return app(environ, start)
        start("405 Method Not Allowed", [("Allow", "GET, HEAD"), ("Content-Type", "text/plain")])
        return [b"this page is only for looking\n"]

    return guarded


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        """No line for each request."""
