"""What a consumer may meet on a topic: every unreadable record is poison, with a cause that says why."""

import json
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import TRACEPARENT, a_message, a_record, catalog_item, place_order, reserve_stock
from common.contracts.codec import MESSAGE_ID, TOPIC_OF, TYPES, decode, headers_of, to_record
from common.contracts.codec import TRACEPARENT as TRACEPARENT_HEADER
from common.contracts.topics import Topic
from common.errors import PoisonError


def test_a_message_survives_the_wire_with_its_id_trace_and_origin() -> None:
    body, message_id = place_order(), uuid4()
    record = a_record(body, message_id, partition=3, offset=42)

    message = decode(record)

    assert (message.body, message.message_id, message.traceparent) == (body, message_id, TRACEPARENT)
    assert message.record is record
    assert message.kind is type(body)


def test_a_message_without_a_trace_is_fine() -> None:
    body = place_order()

    assert TRACEPARENT_HEADER not in dict(to_record(body, uuid4(), None).headers)
    assert decode(a_record(body, headers=headers_of(uuid4(), None))).traceparent is None


@pytest.mark.parametrize("garbage", [None, b"", b"\xff", b"x" * 10_000, TRACEPARENT.encode() + b"\n"])
def test_a_malformed_trace_is_ignored_because_no_order_may_fail_for_it(garbage: bytes | None) -> None:
    headers = (*headers_of(uuid4(), None), (TRACEPARENT_HEADER, garbage))

    assert decode(a_record(place_order(), headers=headers)).traceparent is None


def test_of_a_header_that_comes_twice_the_last_counts() -> None:
    first, last = uuid4(), uuid4()

    message = decode(a_record(place_order(), headers=(*headers_of(first, None), *headers_of(last, None))))

    assert message.message_id == last


@pytest.mark.parametrize("text", ["a\0b", "\0", "\\\0"])
def test_a_text_with_a_nul_is_poison_because_postgres_cannot_hold_it(text: str) -> None:
    with pytest.raises(PoisonError, match="NUL"):
        decode(a_record(place_order(client_reference=text)))


@pytest.mark.parametrize("text", ["\\u0000", "\\\\u0000", "u0000", "\u0001"])
def test_a_text_that_only_looks_like_a_nul_is_fine(text: str) -> None:
    assert decode(a_record(place_order(client_reference=text))).body.client_reference == text


def test_an_order_message_is_keyed_by_its_order_and_a_catalog_item_by_its_sku() -> None:
    order = place_order()

    assert to_record(order, uuid4(), None).key == str(order.order_id).encode()
    assert to_record(catalog_item("apple"), uuid4(), None).key == b"apple"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"value": b"not json"}, id="not json"),
        pytest.param({"value": None}, id="no value"),
        pytest.param({"value": b""}, id="empty value"),
        pytest.param({"value": b"\xff\xfe{}"}, id="not utf-8"),
        pytest.param({"value": b'{"type":"PlaceOrder.v9"}'}, id="unknown type"),
        pytest.param({"value": b'{"order_id":"1"}'}, id="no type"),
        pytest.param({"value": b'{"type":"PlaceOrder.v1"}'}, id="fields missing"),
        pytest.param({"value": b"[" * 100_000}, id="nested too deeply"),
        pytest.param({"headers": ()}, id="no message id"),
        pytest.param({"headers": ((MESSAGE_ID, None),)}, id="the message id is null"),
        pytest.param({"headers": ((MESSAGE_ID, b"7"),)}, id="the message id is no uuid"),
        pytest.param({"headers": ((MESSAGE_ID, b"\xff"),)}, id="the message id is not text"),
        pytest.param({"topic": "somebody.elses"}, id="unknown topic"),
        pytest.param({"topic": Topic.INVENTORY_COMMANDS}, id="a type of another topic"),
        pytest.param({"key": str(uuid4()).encode()}, id="the key is another order's"),
        pytest.param({"key": None}, id="no key"),
    ],
)
def test_an_unreadable_record_is_poison(changes: dict[str, Any]) -> None:
    record = a_record(place_order(), **changes)

    with pytest.raises(PoisonError):
        decode(record)


@pytest.mark.parametrize("field", ["total_minor", "lines", "accepted_at", "customer_id", "order_id"])
@pytest.mark.parametrize("nonsense", [None, "x", 1.5, True, {}])
def test_a_field_of_another_type_is_poison(field: str, nonsense: object) -> None:
    if field == "customer_id" and isinstance(nonsense, str):
        return
    record = a_record(place_order())
    value = json.dumps({**json.loads(record.value or b""), field: nonsense}).encode()

    with pytest.raises(PoisonError):
        decode(a_record(place_order(), key=record.key, value=value))


@given(value=st.binary(max_size=200))
def test_no_bytes_make_the_decoder_raise_anything_but_poison(value: bytes) -> None:
    with pytest.raises(PoisonError):
        decode(a_record(place_order(), value=value))


def test_every_type_of_every_topic_has_one_topic() -> None:
    assert set(TYPES) == set(Topic)
    assert TOPIC_OF[type(reserve_stock())] is Topic.INVENTORY_COMMANDS


def test_a_time_without_a_zone_is_poison_because_it_would_be_read_as_local_time() -> None:
    record = a_record(place_order())
    value = json.dumps({**json.loads(record.value or b""), "accepted_at": "2026-01-02T03:04:05"}).encode()

    with pytest.raises(PoisonError):
        decode(a_record(place_order(), key=record.key, value=value))


def test_messages_of_the_builders_are_read_back() -> None:
    assert a_message(catalog_item()).body == catalog_item()
