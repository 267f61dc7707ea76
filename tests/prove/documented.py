"""What the API may answer to our customers, whose tokens and orders are good: docs/openapi.json, less the refusals."""

import json
from functools import cache
from pathlib import Path

from tests.prove.calls import What

DOCUMENT = Path(__file__).parents[2] / "docs/openapi.json"
REFUSALS = frozenset({400, 401, 403, 404, 405, 413, 415, 422, 431})
ROUTES = {
    What.PLACE: ("/v1/orders", "post"),
    What.PLACE_OTHER: ("/v1/orders", "post"),
    What.CANCEL: ("/v1/orders/{order_id}/cancel", "post"),
    What.READ: ("/v1/orders/{order_id}", "get"),
    What.LIST: ("/v1/orders", "get"),
}
EXPECTED = {What.PLACE_OTHER: {422}, What.READ: {404}}  # a conflict; a 404 has a guarantee of its own


@cache
def answers_to(what: What) -> frozenset[int]:
    path, method = ROUTES[what]
    documented = json.loads(DOCUMENT.read_text(encoding="utf-8"))["paths"][path][method]["responses"]
    return frozenset(map(int, documented)) - REFUSALS | EXPECTED.get(what, set())
