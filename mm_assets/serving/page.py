"""/docs: what is served, and how to ask it, on one page that loads nothing else."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response

from mm_assets.contract.dataset import IMAGE
from mm_assets.display.templates import templates
from mm_assets.serving import examples
from mm_assets.serving.service import Served, Service

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
_KEY = "Authorization: Bearer YOUR_KEY"
_METHODS = ("get", "post")


def routes(service: Service) -> APIRouter:
    """The page for people."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    async def docs(request: Request) -> Response:
        document = request.app.openapi()
        address = str(request.base_url).rstrip("/")
        key = _KEY if service.options.keys is not None else ""
        page = _template().render(
            title=document["info"]["title"],
            version=document["info"]["version"],
            datasets=[_dataset(one, address, key) for one in service.visible().values()],
            endpoints=[
                {"method": method.upper(), "path": path, "summary": one[method].get("summary", "")}
                for path, one in document["paths"].items()
                for method in _METHODS
                if method in one
            ],
        )
        headers = {"Content-Security-Policy": _POLICY}
        return Response(page, media_type="text/html", headers=headers)

    return router


def _dataset(one: Served, address: str, key: str) -> dict[str, Any]:
    told: dict[str, Any] = {"name": one.name, "state": one.state, "reason": one.fault}
    if one.predictor is None:
        return told
    spec = one.predictor.spec
    columns = [{"name": spec.id_column, "kind": "ID; default: the record's place"}]
    for name, column in spec.columns.items():
        needed = ", required" if column.required else ""
        columns.append({"name": name, "kind": column.kind.value + needed})
    if spec.has_images:
        which = "each record is one" if spec.records == "images" else "or none"
        which += ", or a list of several" if spec.all_images else ""
        columns.append({"name": IMAGE, "kind": f"base64, an URL, s3://… ({which})"})
    champions = one.predictor.champions
    return told | {
        "description": spec.description,
        "predicts": spec.label_column,
        "problem": spec.problem_type,
        "columns": columns,
        "models": {m.value: champions.version(m) or "none" for m in spec.modalities},
        "reason": "; ".join(filter(None, [*champions.why_not.values(), one.fault])),
        "commands": examples.commands(one.predictor, address, key),
    }


@lru_cache(maxsize=1)
def _template() -> Any:
    return templates(Path(__file__).parent).get_template("page.html.j2")
