"""Label Studio for tests: the real one as a process, and a small server that answers as it does.

The same tests run over both; that keeps the small one honest. What the real one cannot be made to
do (limits of rate, tokens that run out at once, dying in the middle) is tested with the small one.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree as ET

import httpx

VERSION = "1.23.2"
ADA = "ada@example.org"
PASSWORD = "correct-horse-1"
LEGACY = "0123456789abcdef0123456789abcdef01234567"
SECONDS = 600  # to begin: it makes its database first


def chose(label: str, control: str = "label") -> list[dict[str, Any]]:
    """What a person chose, as Label Studio's page sends it."""
    named = {"from_name": control, "to_name": "record"}
    return [{**named, "type": "choices", "value": {"choices": [label]}}]


def typed(number: float) -> list[dict[str, Any]]:
    value = {"number": number}
    return [{"from_name": "label", "to_name": "record", "type": "number", "value": value}]


class Person(Protocol):
    """Somebody who answers tasks."""

    def answer(self, task: int, result: list[dict[str, Any]], **more: Any) -> int: ...

    def change(self, annotation: int, result: list[dict[str, Any]]) -> None: ...


class Studio(Protocol):
    """A Label Studio in which nothing is yet."""

    url: str
    key: str  # of the kind that every version has
    access_token: str  # of the kind that newer ones have

    def person(self, email: str) -> Person: ...


# -- the real one ---------------------------------------------------------------------------------


def installed() -> Path:
    """The command of Label Studio, in an environment of its own that is made once."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mm-assets"
    folder = cache / f"label-studio-{VERSION}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several processes one installs it
        if not (folder / "whole").exists():
            uv, wanted = [sys.executable, "-m", "uv"], f"label-studio=={VERSION}"
            python = str(folder / "bin" / "python")
            subprocess.run([*uv, "venv", "-q", "--clear", folder], check=True)
            subprocess.run([*uv, "pip", "install", "-q", "--python", python, wanted], check=True)
            (folder / "whole").touch()
    return folder / "bin" / "label-studio"


class Real:
    def __init__(self, url: str) -> None:
        self.url, self.key = url, LEGACY
        self.asks = httpx.Client(
            base_url=url, timeout=60, headers={"Authorization": f"Token {LEGACY}"}
        )
        self.access_token = self.asks.post("/api/token/").json()["token"]
        self._people: dict[str, Person] = {ADA: _Programs(self.asks)}

    def emptied(self) -> None:
        for project in self.asks.get("/api/projects/").json()["results"]:
            assert self.asks.delete(f"/api/projects/{project['id']}/").status_code == 204

    def person(self, email: str) -> Person:
        """Signs up by the invitation that a browser follows, and stays signed in."""
        if email not in self._people:
            browser = httpx.Client(base_url=self.url, timeout=60, follow_redirects=True)
            page = self.asks.get("/api/invite").json()["invite_url"]
            browser.get(page)
            token = browser.cookies["csrftoken"]
            form = {"email": email, "password": PASSWORD, "csrfmiddlewaretoken": token}
            assert browser.post(page, data=form).status_code == 200
            browser.headers["X-CSRFToken"] = browser.cookies["csrftoken"]
            self._people[email] = _Programs(browser)
        return self._people[email]


class _Programs:
    def __init__(self, asks: httpx.Client) -> None:
        self._asks = asks

    def answer(self, task: int, result: list[dict[str, Any]], **more: Any) -> int:
        answer = self._asks.post(f"/api/tasks/{task}/annotations/", json={"result": result, **more})
        assert answer.status_code == 201, answer.text
        return int(answer.json()["id"])

    def change(self, annotation: int, result: list[dict[str, Any]]) -> None:
        answer = self._asks.patch(f"/api/annotations/{annotation}/", json={"result": result})
        assert answer.status_code == 200, answer.text


@contextmanager
def real(folder: Path) -> Iterator[Real]:
    """folder: for its database and its log."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {n: v for n, v in os.environ.items() if not n.startswith(("MM_", "AWS_", "PYTHONPATH"))}
    told = {
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder / "data"), "LABEL_STUDIO_USERNAME": ADA,
        "LABEL_STUDIO_PASSWORD": PASSWORD, "LABEL_STUDIO_USER_TOKEN": LEGACY,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true", "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false", "SENTRY_DSN": "", "FRONTEND_SENTRY_DSN": "",
        "ML_BLOCK_LOCAL_IP": "false", "SSRF_PROTECTION_ENABLED": "false",
    }  # fmt: skip
    command = [installed(), "start", "--no-browser", "--internal-host", "127.0.0.1", "--port"]
    with (folder / "log").open("w+") as log:
        process = subprocess.Popen(
            [*command, str(port)], cwd=folder, stdout=log, stderr=log, env={**own, **told}
        )
        try:
            url = f"http://127.0.0.1:{port}"
            end = time.monotonic() + SECONDS
            while not _answers(f"{url}/api/version"):
                assert process.poll() is None, (folder / "log").read_text()[-3000:]
                assert time.monotonic() < end, (folder / "log").read_text()[-3000:]
                time.sleep(0.5)
            yield Real(url)
        finally:
            process.terminate()
            process.wait(60)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


# -- the small one --------------------------------------------------------------------------------


class Refuses(Exception):
    def __init__(self, status: int, detail: str, **headers: str) -> None:
        self.status, self.detail, self.headers = status, detail, headers
        super().__init__(detail)


class Small:
    """Answers the requests of ours as 1.23.2 does; the shapes were written down from it.

    faults: of the next requests each is refused as it says, if it is for its path. asked: the
    requests that came.
    """

    def __init__(self) -> None:
        self.key, self.access_token = LEGACY, "eyJh.eyJ0.c2ln"
        self.release = VERSION
        self.faults: list[tuple[str, Refuses]] = []
        self.asked: list[str] = []
        self.after_import: Callable[[], None] = lambda: None
        self._access, self._numbers = {"none"}, count(1)
        self._projects: dict[int, dict[str, Any]] = {}
        self._tasks: dict[int, dict[str, Any]] = {}
        self._people = {ADA: 1}
        self._lock = threading.Lock()

    def person(self, email: str) -> Person:
        return _Hand(self, self._people.setdefault(email, len(self._people) + 1))

    def forget_access(self) -> None:
        """The tokens that were given for minutes have run out."""
        self._access = {"none"}

    def remove_projects(self) -> None:
        self._projects.clear()

    def answer(self, method: str, path: str, query: dict[str, str], body: Any, key: str) -> Any:
        """Raises Refuses."""
        self.asked.append(f"{method} {path}")
        for at, (wanted, refusal) in enumerate(self.faults):
            if re.fullmatch(wanted, f"{method} {path}"):
                del self.faults[at]
                raise refusal
        if path == "/api/version":
            return {"release": self.release}
        if path == "/api/token/refresh":
            if body != {"refresh": self.access_token}:
                raise Refuses(401, "Token is invalid")
            self._access.add(token := f"minutes-{next(self._numbers)}")
            return {"access": token}
        kind, _, given = key.partition(" ")
        if not (
            kind == "Token" and given == self.key or kind == "Bearer" and given in self._access
        ):
            raise Refuses(401, "Invalid token.")
        with self._lock:
            return self._answered(method, path, query, body)

    def _answered(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        parts = path.split("/")[2:]
        match method, parts:
            case "GET", ["projects"]:
                return self._page(list(self._projects.values()), query, "results", "count")
            case "POST", ["projects"]:
                if not 3 <= len(body["title"]) <= 50:
                    raise Refuses(400, "Validation error")
                number = next(self._numbers)
                self._projects[number] = {"id": number, "model_version": "", **body}
                return self._projects[number]
            case "GET" | "PATCH", ["projects", number]:
                self._project(number).update(body or {})
                return self._project(number)
            case "POST", ["projects", number, "import"]:
                return self._imported(self._project(number), body)
            case "GET", ["tasks"]:
                wanted = self._project(query["project"])["id"]
                own = [one for one in self._tasks.values() if one["project"] == wanted]
                fields = query["include"].split(",")
                found = self._page(own, query, "tasks", "total")
                return {**found, "tasks": [_only(one, fields) for one in found["tasks"]]}
            case "GET" | "PATCH", ["tasks", number]:
                self._task(number).update(body or {})
                return self._task(number)
            case "GET", ["predictions"]:
                return self._task(query["task"])["predictions"]
            case "POST", ["predictions"]:
                self._task(body["task"])["predictions"].append({"id": next(self._numbers), **body})
                return body
            case "DELETE", ["predictions", number]:
                for one in self._tasks.values():
                    left = [p for p in one["predictions"] if p["id"] != int(number)]
                    one["predictions"] = left
                return None
            case "GET", ["users"]:
                return [{"id": number, "email": email} for email, number in self._people.items()]
        raise Refuses(404, "Not found.")

    def _page(self, all_: list[Any], query: dict[str, str], name: str, total: str) -> Any:
        page, size = int(query["page"]), int(query["page_size"])
        some = all_[(page - 1) * size : page * size]
        if not some and page > 1:
            raise Refuses(404, "Invalid page.")
        return {total: len(all_), name: some}

    def _project(self, number: str) -> dict[str, Any]:
        if int(number) not in self._projects:
            raise Refuses(404, "No Project matches the given query.")
        return self._projects[int(number)]

    def _task(self, number: str) -> dict[str, Any]:
        if int(number) not in self._tasks:
            raise Refuses(404, "No Task matches the given query.")
        return self._tasks[int(number)]

    def _imported(self, project: dict[str, Any], tasks: list[dict[str, Any]]) -> Any:
        shown = [one.get("value", "") for one in ET.fromstring(project["label_config"])]
        needed = {value[1:] for value in shown if value.startswith("$")}
        for one in tasks:
            if missing := needed - one["data"].keys():
                raise Refuses(400, f"{missing} key is expected in task data")
        for one in tasks:
            number = next(self._numbers)
            numbered = [{"id": next(self._numbers), **said} for said in one["predictions"]]
            self._tasks[number] = {
                "id": number, "project": project["id"], "annotations": [], "drafts": [], "meta": {},
                **one, "predictions": numbered,
            }  # fmt: skip
            project["model_version"] = project["model_version"] or numbered[-1]["model_version"]
        self.after_import()
        return {"task_count": len(tasks)}


class _Hand:
    def __init__(self, studio: Small, number: int) -> None:
        self._studio, self._number = studio, number

    def answer(self, task: int, result: list[dict[str, Any]], **more: Any) -> int:
        number, at = next(self._studio._numbers), _now()
        self._studio._tasks[task]["annotations"].append(
            {"id": number, "result": result, "completed_by": self._number, "was_cancelled": False,
             "created_at": at, "updated_at": at, **more}
        )  # fmt: skip
        return number

    def change(self, annotation: int, result: list[dict[str, Any]]) -> None:
        for task in self._studio._tasks.values():
            for one in task["annotations"]:
                if one["id"] == annotation:
                    one.update(result=result, updated_at=_now())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _only(found: Any, fields: list[str]) -> Any:
    """What `include` leaves of a task, of its annotations, too."""
    if isinstance(found, list):
        return [_only(one, fields) for one in found]
    if not isinstance(found, dict):
        return found
    inner = ("annotations", "drafts")
    return {n: _only(v, fields) if n in inner else v for n, v in found.items() if n in fields}


@contextmanager
def small() -> Iterator[Small]:
    studio = Small()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            split = urlsplit(self.path)
            query = {name: values[-1] for name, values in parse_qs(split.query).items()}
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            key = self.headers.get("Authorization", "")
            path, headers = split.path.rstrip("/"), {}
            try:
                found = studio.answer(
                    self.command, path, query, json.loads(data) if data else None, key
                )
                status = {"POST": 201, "DELETE": 204}.get(self.command, 200)
            except Refuses as refusal:
                status, headers = refusal.status, refusal.headers
                found = {"status_code": status, "detail": refusal.detail}
            content = b"" if status == 204 else json.dumps(found).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    studio.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield studio
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
