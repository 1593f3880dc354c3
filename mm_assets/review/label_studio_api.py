"""Label Studio over HTTP: the few requests that we need, each failure in words.

Two kinds of key: a legacy token (40 letters) is sent as it is; a personal access token (a JWT) is
exchanged for one that lives for minutes. Its own client, label-studio-sdk, is not used: it wants an
older NumPy than we have.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mm_assets.contract.errors import ReviewError, SettingsError

if TYPE_CHECKING:
    import httpx

KEY = "LABEL_STUDIO_API_KEY"
PAGE = 100  # tasks or projects in one request
SECONDS = 60.0  # without a byte
CONNECTING = 10.0
TRIES = 5
LONGEST_PAUSE = 60.0  # that we wait because we were told to
BUSY = (429, 503)  # nothing was done; others below 600 may have done something
OLDEST = (1, 13)  # that was tried
_REFRESH = "/api/token/refresh/"
# What is asked of a task: not its data, in which the image is. It holds for what lies inside, too.
_FIELDS = "id,meta,drafts,annotations,result,was_cancelled,completed_by,created_at,updated_at"


class LabelStudio:
    """One Label Studio. Close it, or use it as a context."""

    def __init__(self, url: str, key: str) -> None:
        """Raises SettingsError without a key, ReviewError for what is no Label Studio of ours."""
        if not key:
            raise SettingsError(
                code="label_studio_no_key",
                what=f"{KEY} is not set",
                where=KEY,
                todo="Set it to your access token (in Label Studio: Account & Settings).",
            )
        self.url = url.rstrip("/")
        self._key = key
        self._client = _client(self.url)
        self._is_legacy = key.count(".") != 2
        try:
            self.version = self._checked_version()
            if self._is_legacy:
                self._client.headers["Authorization"] = f"Token {key}"
            else:
                self._renew()
        except BaseException:
            self._client.close()
            raise

    def __enter__(self) -> LabelStudio:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._client.close()

    # -- what is asked ------------------------------------------------------------------------

    def projects(self) -> Iterator[dict[str, Any]]:
        """Every project that the key's owner sees."""
        number, seen = 1, 0
        while True:
            found = self._json("GET", "/api/projects/", params={"page": number, "page_size": PAGE})
            yield from found["results"]
            seen += len(found["results"])
            if not found["results"] or seen >= found["count"]:
                return
            number += 1

    def project(self, number: int) -> dict[str, Any]:
        """Raises ReviewError (label_studio_no_project)."""
        found: dict[str, Any] = self._json("GET", f"/api/projects/{number}/")
        return found

    def create_project(self, **fields: Any) -> dict[str, Any]:
        found: dict[str, Any] = self._json("POST", "/api/projects/", fields)
        return found

    def change_project(self, number: int, **fields: Any) -> None:
        self._json("PATCH", f"/api/projects/{number}/", fields)

    def tasks(self, project: int) -> Iterator[dict[str, Any]]:
        """Every task of a project with its annotations and drafts, in order; without its data where
        the version can leave it out."""
        number, seen = 1, 0
        query = {"project": project, "page_size": PAGE, "fields": "all", "include": _FIELDS,
                 "resolve_uri": "false"}  # fmt: skip
        while True:
            found = self._json("GET", "/api/tasks/", params={**query, "page": number})
            yield from found["tasks"]
            seen += len(found["tasks"])
            if not found["tasks"] or seen >= found["total"]:
                return
            number += 1

    def task(self, number: int) -> dict[str, Any]:
        """One task, with its data."""
        found: dict[str, Any] = self._json(
            "GET", f"/api/tasks/{number}/", params={"resolve_uri": "false"}
        )
        return found

    def create_tasks(self, project: int, tasks: Sequence[Mapping[str, Any]]) -> None:
        self._json("POST", f"/api/projects/{project}/import", list(tasks))

    def change_task(self, number: int, changed: Mapping[str, Any]) -> None:
        """Another content and other predictions of a task that nobody answered."""
        fields = {name: changed[name] for name in ("data", "meta")}
        self._json("PATCH", f"/api/tasks/{number}/", fields)
        for old in self._json("GET", "/api/predictions/", params={"task": number}):
            self._json("DELETE", f"/api/predictions/{old['id']}/")
        for one in changed["predictions"]:
            self._json("POST", "/api/predictions/", {**one, "task": number})

    def people(self) -> dict[int, str]:
        """The e-mail address of every user by number."""
        found = self._json("GET", "/api/users/")
        users = found.get("results", []) if isinstance(found, dict) else found
        return {one["id"]: one.get("email") or one.get("username") or "" for one in users}

    # -- how ----------------------------------------------------------------------------------

    def _json(self, method: str, path: str, body: Any = None, params: Any = None) -> Any:
        """Raises ReviewError."""
        answer = self._sent(method, path, body, params)
        if answer.status_code == 401 and not self._is_legacy:
            self._renew()
            answer = self._sent(method, path, body, params)
        if answer.status_code == 204:
            return None
        if answer.is_success:
            return self._document(answer)
        raise self._refused(answer, path)

    def _sent(self, method: str, path: str, body: Any = None, params: Any = None) -> httpx.Response:
        """Try again as long as nothing was done, or nothing can be done twice."""
        import httpx

        content = None if body is None else json.dumps(body, allow_nan=False).encode()
        headers = {} if body is None else {"Content-Type": "application/json"}
        for attempt in range(1, TRIES + 1):
            pause = min(2.0 ** (attempt - 1), LONGEST_PAUSE)
            try:
                answer = self._client.request(
                    method, path, content=content, params=params, headers=headers
                )
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                fault: Exception = error
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                fault = error
                if method != "GET":
                    raise self._unreachable(error) from None
            else:
                again = answer.status_code in BUSY or (
                    method == "GET" and answer.status_code in (500, 502, 504)
                )
                if not again or attempt == TRIES:
                    return answer
                time.sleep(_told_pause(answer, pause))
                continue
            if attempt == TRIES:
                raise self._unreachable(fault) from None
            time.sleep(pause / 4)
        raise AssertionError

    def _renew(self) -> None:
        """A fresh token for requests, from a personal access token."""
        self._client.headers.pop("Authorization", None)
        answer = self._sent("POST", _REFRESH, {"refresh": self._key})
        document = self._document(answer) if answer.is_success else {}
        if not (isinstance(document, dict) and document.get("access")):
            raise self._refused(answer, _REFRESH)
        self._client.headers["Authorization"] = f"Bearer {document['access']}"

    def _checked_version(self) -> str:
        answer = self._sent("GET", "/api/version/")
        release = ""
        if answer.is_success:
            document = self._document(answer)
            release = str(document.get("release", "")) if isinstance(document, dict) else ""
        if answer.is_redirect:
            raise self._refused(answer, "/api/version/")
        if not release:
            raise ReviewError(
                code="label_studio_unknown",
                what=f"what answers there is no Label Studio (status {answer.status_code})",
                where=self.url,
                todo="Write the address that your browser shows, for example "
                "http://127.0.0.1:8080.",
            )
        if _numbers(release) < OLDEST:
            raise ReviewError(
                code="label_studio_old",
                what=f"this is Label Studio {release}; we know {OLDEST[0]}.{OLDEST[1]} and later",
                where=self.url,
                todo="Update it, or bring tasks.json by hand: `mm review export`.",
            )
        return release

    def _document(self, answer: httpx.Response) -> Any:
        try:
            return answer.json()
        except ValueError:
            raise ReviewError(
                code="label_studio_unknown",
                what="what answers there is no Label Studio: its answer is no JSON",
                where=f"{self.url}{answer.url.path}",
                todo="Write the address that your browser shows, for example "
                "http://127.0.0.1:8080.",
            ) from None

    # -- what goes wrong ----------------------------------------------------------------------

    def _unreachable(self, error: Exception) -> ReviewError:
        return ReviewError(
            code="label_studio_unreachable",
            what=f"Label Studio does not answer: {str(error) or type(error).__name__}",
            where=self.url,
            todo="Start it, or check the address; then run the same command again.",
        )

    def _refused(self, answer: httpx.Response, path: str) -> ReviewError:
        status, said, where = answer.status_code, _said(answer), f"{self.url}{path}"
        unknown = status == 404 and path == _REFRESH
        if unknown:
            said = f"Label Studio {self.version} knows no personal access tokens"
        if status in (401, 403) or unknown:
            return ReviewError(
                code="label_studio_key",
                what=f"Label Studio refuses the key: {said}",
                where=where,
                todo=f"Set {KEY} to a token that is valid and may do this (in Label Studio: "
                "Account & Settings). A legacy token has to be allowed for the organization.",
            )
        if status == 404:
            return ReviewError(
                code="label_studio_no_project",
                what="there is no such project, or this key's owner does not see it",
                where=where,
                todo="Name another one with --project, or leave it out.",
            )
        if status in (*BUSY, 500, 502, 504):
            return ReviewError(
                code="label_studio_unreachable",
                what=f"Label Studio cannot answer now (status {status}, {TRIES} tries): {said}",
                where=where,
                todo="Run the same command again later; what is done is not done twice.",
            )
        if answer.is_redirect:
            return ReviewError(
                code="label_studio_unknown",
                what=f"the address leads elsewhere: {answer.headers.get('location', '')[:200]}",
                where=self.url,
                todo="Write the address that it leads to.",
            )
        return ReviewError(
            code="label_studio_refused",
            what=f"Label Studio refuses this (status {status}): {said}",
            where=where,
            todo="Read what it says; the interface of its project may have been changed.",
        )


def _client(url: str) -> httpx.Client:
    import httpx

    try:
        found = httpx.Client(
            base_url=url,
            timeout=httpx.Timeout(SECONDS, connect=CONNECTING),
            headers={"Accept": "application/json", "User-Agent": "mm-assets"},
        )
    except httpx.InvalidURL:
        found = None
    if found is None or found.base_url.scheme not in ("http", "https") or not found.base_url.host:
        raise ReviewError(
            code="label_studio_unknown",
            what="this is no address of a web server",
            where=url,
            todo="Write it with http:// or https://, for example http://127.0.0.1:8080.",
        )
    return found


def _told_pause(answer: httpx.Response, usual: float) -> float:
    """How long to wait: as the answer says, within reason."""
    told = answer.headers.get("retry-after", "")
    return min(float(told), LONGEST_PAUSE) if told.isdecimal() else usual


def _said(answer: httpx.Response) -> str:
    """What Label Studio says of a failure, in one line."""
    try:
        document = answer.json()
    except ValueError:
        return answer.reason_phrase or "no reason"
    if not isinstance(document, dict):
        return json.dumps(document)[:300]
    errors = document.get("validation_errors")
    detail = document.get("detail") or document.get("display_context") or ""
    return f"{detail} {json.dumps(errors, ensure_ascii=False) if errors else ''}".strip()[:500]


def _numbers(release: str) -> tuple[int, ...]:
    """The version as numbers, as far as they go: 1.13.1 of `1.13.1.post0`."""
    found = []
    for part in release.split("."):
        if not part.isdecimal():
            break
        found.append(int(part))
    return tuple(found)
