"""`mm review --open`: the page of a service that runs, or of one for the while."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mm_assets.cli import review_page
from mm_assets.contract.settings import Settings


@contextmanager
def answering(document: Any) -> Iterator[int]:
    """Something that listens, and says this when it is asked whether it is ready."""

    class Says(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(document).encode())

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Says) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch, folder_settings: Settings) -> dict[str, Any]:
    """Which page was opened, and what would have been served."""
    found: dict[str, Any] = {}

    def serve(options: Any, on_ready: Any) -> None:
        found["options"] = options
        on_ready("http://127.0.0.1:4711")

    monkeypatch.setattr("webbrowser.open", lambda page: found.update(page=page) or True)
    monkeypatch.setattr("mm_assets.serving.server.serve", serve)
    monkeypatch.setattr("mm_assets.serving.logs.configure", lambda _: True)
    monkeypatch.setenv("MM_ROOT", str(folder_settings.root))
    return found


def test_the_service_that_runs_is_used_if_it_serves_the_dataset(done: dict[str, Any]) -> None:
    for datasets in ({"pets": {}}, {}):  # with keys it names none
        with answering({"ready": True, "datasets": datasets}) as port:
            review_page.open_page("pets", port)
        assert done == {"page": f"http://127.0.0.1:{port}/review/pets"}


@pytest.mark.parametrize("document", [{"datasets": {"cars": {}}}, {"other": 1}, [], None])
def test_what_is_something_else_is_left_alone(done: dict[str, Any], document: Any) -> None:
    with answering(document) as port:
        review_page.open_page("pets", port)
    assert done["page"] == "http://127.0.0.1:4711/review/pets"
    assert done["options"].datasets == ("pets",)
    assert done["options"].port == 0


def test_where_nothing_runs_a_service_is_started_there(done: dict[str, Any]) -> None:
    with answering({}) as port:
        pass
    review_page.open_page("pets", port)
    assert done["options"].port == port
    assert done["options"].keys is None
