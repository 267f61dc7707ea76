"""The form of every message on the wire. A golden file is never edited: a new form is a new version beside it."""

import json
from pathlib import Path
from uuid import UUID

import pytest

from builders import NOW, a_record
from common.contracts import commands, events
from common.contracts.codec import TOPIC_OF, Body, decode, encode
from common.contracts.values import OrderLine, StockLine

GOLDEN = Path(__file__).parent / "golden"
ORDER_ID = UUID("0197a3f0-1c2d-7e3f-8a4b-5c6d7e8f9a0b")
LINES = (OrderLine(sku="sku-1", name="Æble 🍏", quantity=2, unit_price_minor=1_250),)

EXAMPLES: list[Body] = [
    commands.PlaceOrder(
        order_id=ORDER_ID,
        customer_id="customer-1",
        currency="USD",
        lines=LINES,
        total_minor=2_500,
        accepted_at=NOW,
        client_reference="PO 7",
    ),
    commands.CancelOrder(order_id=ORDER_ID, customer_id="customer-1"),
    commands.ReserveStock(order_id=ORDER_ID, lines=(StockLine(sku="sku-1", quantity=2),)),
    commands.ReleaseStock(order_id=ORDER_ID),
    commands.AuthorizePayment(order_id=ORDER_ID, customer_id="customer-1", currency="USD", amount_minor=2_500),
    commands.CapturePayment(order_id=ORDER_ID),
    commands.VoidPayment(order_id=ORDER_ID),
    events.OrderPlaced(
        order_id=ORDER_ID,
        customer_id="customer-1",
        version=1,
        occurred_at=NOW,
        currency="USD",
        lines=LINES,
        total_minor=2_500,
    ),
    events.OrderCancelRequested(order_id=ORDER_ID),
    events.OrderReserved(order_id=ORDER_ID, customer_id="customer-1", version=2, occurred_at=NOW),
    events.OrderAuthorized(order_id=ORDER_ID, customer_id="customer-1", version=3, occurred_at=NOW),
    events.OrderConfirmed(order_id=ORDER_ID, customer_id="customer-1", version=4, occurred_at=NOW),
    events.OrderRejected(
        order_id=ORDER_ID, customer_id="customer-1", version=3, occurred_at=NOW, reason="payment_declined"
    ),
    events.OrderCancelled(order_id=ORDER_ID, customer_id="customer-1", version=3, occurred_at=NOW),
    events.OrderNeedsAttention(
        order_id=ORDER_ID, customer_id="customer-1", version=3, occurred_at=NOW, reason="payments"
    ),
    events.StockReserved(order_id=ORDER_ID),
    events.StockRefused(order_id=ORDER_ID, sku="sku-1"),
    events.StockReleased(order_id=ORDER_ID),
    events.PaymentAuthorized(order_id=ORDER_ID),
    events.PaymentDeclined(order_id=ORDER_ID, reason="payment_declined"),
    events.PaymentCaptured(order_id=ORDER_ID),
    events.PaymentVoided(order_id=ORDER_ID),
    events.CatalogItem(sku="sku-1", name="Æble 🍏", currency="USD", price_minor=1_250),
]


def golden_of(body: Body) -> bytes:
    tag: str = json.loads(encode(body))["type"]
    return (GOLDEN / f"{tag}.json").read_bytes().rstrip(b"\n")


def name_of(body: Body) -> str:
    return type(body).__name__


def test_every_message_type_has_a_golden_file_and_every_file_a_type() -> None:
    assert {type(body) for body in EXAMPLES} == set(TOPIC_OF)
    assert {file.stem for file in GOLDEN.iterdir()} == {json.loads(encode(body))["type"] for body in EXAMPLES}


@pytest.mark.parametrize("body", EXAMPLES, ids=name_of)
def test_a_message_is_written_as_its_golden_file(body: Body) -> None:
    assert encode(body) == golden_of(body)


@pytest.mark.parametrize("body", EXAMPLES, ids=name_of)
def test_a_golden_file_is_read_as_its_message(body: Body) -> None:
    assert decode(a_record(body, value=golden_of(body))).body == body


@pytest.mark.parametrize("body", EXAMPLES, ids=name_of)
def test_a_field_that_a_newer_version_added_is_ignored(body: Body) -> None:
    newer = json.loads(golden_of(body)) | {"added_later": {"deep": [1, None]}}

    assert decode(a_record(body, value=json.dumps(newer).encode())).body == body
