"""Prints the OpenAPI document of the public API, from the code: `make openapi`."""

import json
from typing import Any, cast

from gateway.app import create_api
from gateway.order_routes import OrderRoutes
from gateway.routes import Routes


def openapi() -> str:
    nothing = cast(Any, None)  # the document needs no clients
    routes = Routes(
        authenticator=nothing,
        acceptor=nothing,
        lookup=nothing,
        orders=nothing,
        catalog=nothing,
        limit=nothing,
        following=nothing,
    )
    order_routes = OrderRoutes(authenticator=nothing, find=nothing, following=nothing, timelines=nothing)
    return (
        json.dumps(create_api(routes, order_routes, ready=lambda: True).openapi(), indent=2, ensure_ascii=False) + "\n"
    )


if __name__ == "__main__":
    print(openapi(), end="")
