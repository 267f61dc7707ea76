"""The web application: where the routes hang, how they are documented, what wraps them."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import request_response
from starlette.types import ASGIApp, Receive, Scope, Send

from common.errors import InfrastructureError
from gateway.following import EventStream
from gateway.observe import Observe
from gateway.order_routes import OrderRoutes
from gateway.problems import MEDIA_TYPE, SCHEMA, Problem, answer_error
from gateway.requests import MAX_WAIT_S
from gateway.routes import Routes
from gateway.schemas import Accepted, CatalogPage, NewOrder, OrderPage, OrderView, Timeline

_TITLES = {
    400: "Cannot be read",
    401: "No valid token",
    403: "The token does not allow it",
    404: "Unknown, or somebody else's",
    405: "Another method",
    408: "The body took longer than 8 s",
    409: "The first call with this key is still in flight",
    413: "More than 64 KiB",
    415: "Not application/json in UTF-8",
    422: "Every field that is wrong",
    429: "Over your rate",
    431: "Headers of more than 16 KiB; from the proxy",
    503: "Try again after `Retry-After`",
}
_ORDERS = "/v1/orders"
_bearer = Depends(HTTPBearer(auto_error=False, description="JWT, EdDSA; scopes orders:write and orders:read"))


def create_app(routes: Routes, order_routes: OrderRoutes, *, ready: Callable[[], bool]) -> ASGIApp:
    """The app over whatever the routes stand on: real clients in `main`, fakes in the tests."""
    api = create_api(routes, order_routes, ready=ready)
    return Observe(HotPath(api, place_order=_route(api, "place_order"), read_order=_route(api, "read_order")))


def create_api(routes: Routes, order_routes: OrderRoutes, *, ready: Callable[[], bool]) -> FastAPI:
    """Every route with its documentation."""
    app = FastAPI(
        title="Headrace",
        version="1",
        description="Orders are accepted into a log, then placed, reserved, authorized and confirmed.",
        redirect_slashes=False,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # ours is in Observe, and costs less
    )
    for error in (Problem, HTTPException, RequestValidationError, InfrastructureError, ClientDisconnect):
        app.add_exception_handler(error, answer_error)
    _add_orders(app, routes)
    _add_order_story(app, order_routes)
    _add_catalog(app, routes)
    _add_health(app, ready)
    return app


class HotPath:
    """The two calls that come thousands of times a second, straight to their endpoints.

    FastAPI's layers and routing would cost more than all that the endpoint does. `Observe`, around this, makes the
    answer of what an endpoint raises, as FastAPI's exception handlers do for the other routes.
    """

    def __init__(self, app: ASGIApp, *, place_order: APIRoute, read_order: APIRoute) -> None:
        self._app, self._place_order, self._read_order = app, place_order, read_order

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._find(scope) if scope["type"] == "http" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        response: Response = await route.endpoint(Request(scope, receive))
        await response(scope, receive, send)

    def _find(self, scope: Scope) -> APIRoute | None:
        path: str = scope["path"]
        if not path.startswith(_ORDERS):
            return None
        match scope["method"], path[len(_ORDERS) :]:
            case "POST", "":
                return self._place_order
            case "GET", rest if rest.startswith("/") and "/" not in (order_id := rest[1:]) and order_id:
                scope["path_params"] = {"order_id": order_id}
                return self._read_order
            case _:
                return None


class PlainRoute(APIRoute):
    """Documented by FastAPI, run by Starlette: the endpoint reads the request and makes the response itself.

    Use it where every microsecond counts: the parameters in `dependencies` are documentation only.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **documentation: Any) -> None:
        super().__init__(path, endpoint, **documentation)
        self.app = request_response(endpoint)


def _route(api: FastAPI, name: str) -> APIRoute:
    return next(route for route in api.routes if isinstance(route, APIRoute) and route.name == name)


def _add_orders(app: FastAPI, routes: Routes) -> None:
    add = app.router.add_api_route
    add(
        "/v1/orders",
        routes.place_order,
        methods=["POST"],
        route_class_override=PlainRoute,
        summary="Place an order",
        description="202 once the order is in the log. With an `Idempotency-Key` a retry is never a second order.",
        dependencies=[_bearer, Depends(_place_order_input)],
        status_code=202,
        response_model=Accepted,
        responses={202: _HEADERS_OF_202, **_problems(400, 401, 403, 405, 408, 409, 413, 415, 422, 429, 431, 503)},
    )
    add(
        "/v1/orders",
        routes.list_orders,
        methods=["GET"],
        summary="List your orders",
        dependencies=[_bearer],
        response_model=OrderPage,
        responses=_problems(400, 401, 403, 405, 422, 503),
    )
    add(
        "/v1/orders/{order_id}",
        routes.read_order,
        methods=["GET"],
        route_class_override=PlainRoute,
        summary="Read an order",
        description="Never 404 after its 202. `ETag` is the version; with `If-None-Match` 304 while it is the same. "
        "With `wait` the answer comes once the version is another than that of `If-None-Match`, or without that "
        "header than the one at the time of the call; at once if the order is final; at the latest after that time. "
        "While nobody can say how the order is, it is served as it was `Age` seconds ago if you have no newer version, "
        "as your `If-None-Match` says, or if that was final; else 503.",
        dependencies=[_bearer],
        openapi_extra={"parameters": [_ORDER_ID, _WAIT, _header("If-None-Match", "the `ETag` that you have")]},
        response_model=OrderView,
        responses={
            200: _HEADERS_OF_A_VIEW,
            304: {"description": "You have this version", **_HEADERS_OF_A_VIEW},
            **_problems(401, 403, 404, 405, 422, 503),
        },
    )
    add(
        "/v1/orders/{order_id}/cancel",
        routes.cancel_order,
        methods=["POST"],
        route_class_override=PlainRoute,
        summary="Ask for an order to be cancelled",
        description="202 says that the wish is in the log. An order that is confirmed stays so.",
        dependencies=[_bearer],
        openapi_extra={"parameters": [_ORDER_ID]},
        status_code=202,
        response_model=Accepted,
        responses={202: _HEADERS_OF_202, **_problems(401, 403, 404, 405, 429, 503)},
    )


def _add_order_story(app: FastAPI, routes: OrderRoutes) -> None:
    add = app.router.add_api_route
    add(
        "/v1/orders/{order_id}/events",
        routes.stream_events,
        methods=["GET"],
        route_class_override=PlainRoute,
        summary="Follow an order",
        description="Server-Sent Events: the order as it is, then each new version. `event` is the status, `id` the "
        "version, `data` the JSON of the order; a comment comes every 15 s. Ends after the final version, or after 5 "
        "minutes: come back with `Last-Event-ID`, and nothing that you have is sent again.",
        dependencies=[_bearer],
        openapi_extra={"parameters": [_ORDER_ID, _header("Last-Event-ID", "the last `id` that you have")]},
        status_code=200,
        response_class=EventStream,
        responses={
            204: {"description": "You have the final version: do not come back"},
            **_problems(401, 403, 404, 405, 503),
        },
    )
    add(
        "/v1/orders/{order_id}/timeline",
        routes.read_timeline,
        methods=["GET"],
        route_class_override=PlainRoute,
        summary="Read what was done about an order",
        description="Every step, oldest first: the record that was handled, its place in the log, its trace.",
        dependencies=[_bearer],
        openapi_extra={"parameters": [_ORDER_ID]},
        response_model=Timeline,
        responses=_problems(401, 403, 404, 405, 503),
    )


def _add_catalog(app: FastAPI, routes: Routes) -> None:
    app.router.add_api_route(
        "/v1/catalog",
        routes.list_catalog,
        methods=["GET"],
        summary="List what can be bought",
        response_model=CatalogPage,
        responses=_problems(405, 422),
    )


def _add_health(app: FastAPI, ready: Callable[[], bool]) -> None:
    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        return PlainTextResponse("ok\n") if ready() else PlainTextResponse("not ready\n", 503)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    for endpoint in (livez, readyz, metrics):
        path = f"/{endpoint.__name__}"
        app.router.add_api_route(path, endpoint, route_class_override=PlainRoute, response_class=PlainTextResponse)


def _place_order_input(
    order: NewOrder,
    idempotency_key: Annotated[
        str | None, Header(min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$", description="yours, one per order")
    ] = None,
) -> None:
    """Documentation of a PlainRoute; never called."""


def _problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {
        status: {"description": _TITLES[status], "content": {MEDIA_TYPE: {"schema": SCHEMA}}} for status in statuses
    }


def _header(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}


_HEADERS_OF_202 = {
    "headers": {
        "Location": {"description": "where to read the order", "schema": {"type": "string"}},
        "Retry-After": {"description": "when to read it, in seconds", "schema": {"type": "integer"}},
        "Idempotent-Replayed": {
            "description": "`true` when the first call with this key had been accepted before",
            "schema": {"type": "string"},
        },
    }
}
_HEADERS_OF_A_VIEW = {
    "headers": {
        "ETag": {"description": "the version", "schema": {"type": "string"}},
        "Age": {"description": "only when it may be outdated: seconds since it was so", "schema": {"type": "integer"}},
        "Cache-Status": {
            "description": "only when it may be outdated: a negative `ttl` (RFC 9211)",
            "schema": {"type": "string"},
        },
    }
}
_ORDER_ID = {
    "name": "order_id",
    "in": "path",
    "required": True,
    "description": "from the 202",
    "schema": {"type": "string", "format": "uuid"},
}
_WAIT = {
    "name": "wait",
    "in": "query",
    "description": "seconds to wait for a change",
    "schema": {"type": "integer", "minimum": 0, "maximum": MAX_WAIT_S, "default": 0},
}
