"""Orders, messages and records with good defaults; a test names only what it is about."""

import itertools
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from common.contracts import commands, events
from common.contracts.codec import Message, decode, to_record
from common.contracts.values import OrderLine, StockLine
from common.records import Record
from local_stack.servers import Addresses
from orders.domain.order import Order
from workers.payment import Payment, PaymentState
from workers.settings import MigrateSettings

NOW = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CUSTOMER = "customer-1"

_offsets = itertools.count()


def a_line(sku: str = "sku-1", quantity: int = 1, unit_price_minor: int = 1_000) -> OrderLine:
    return OrderLine(sku=sku, name=f"Name of {sku}", quantity=quantity, unit_price_minor=unit_price_minor)


def place_order(order_id: UUID | None = None, **changes: Any) -> commands.PlaceOrder:
    fields: dict[str, Any] = {
        "customer_id": CUSTOMER,
        "currency": "USD",
        "lines": (a_line(),),
        "total_minor": 1_000,
        "accepted_at": NOW,
    }
    return commands.PlaceOrder(order_id=order_id or uuid4(), **(fields | changes))


def reserve_stock(order_id: UUID | None = None, **quantities: int) -> commands.ReserveStock:
    """`reserve_stock(order_id, apple=2)`; one piece of sku-1 by default."""
    lines = tuple(StockLine(sku=sku, quantity=quantity) for sku, quantity in (quantities or {"sku-1": 1}).items())
    return commands.ReserveStock(order_id=order_id or uuid4(), lines=lines)


def authorize_payment(order_id: UUID | None = None, amount_minor: int = 1_000) -> commands.AuthorizePayment:
    return commands.AuthorizePayment(
        order_id=order_id or uuid4(), customer_id=CUSTOMER, currency="USD", amount_minor=amount_minor
    )


def catalog_item(sku: str = "sku-1", price_minor: int = 1_000) -> events.CatalogItem:
    return events.CatalogItem(sku=sku, name=f"Name of {sku}", currency="USD", price_minor=price_minor)


def an_order(order_id: UUID | None = None, **changes: Any) -> Order:
    fields: dict[str, Any] = {
        "customer_id": CUSTOMER,
        "currency": "USD",
        "total_minor": 1_000,
        "lines": (a_line(),),
        "client_reference": None,
        "accepted_at": NOW,
        "updated_at": NOW,
    }
    return Order(order_id=order_id or uuid4(), **(fields | changes))


def a_payment(state: PaymentState, order_id: UUID | None = None, **changes: Any) -> Payment:
    fields: dict[str, Any] = {"customer_id": CUSTOMER, "currency": "USD", "amount_minor": 1_000}
    return Payment(order_id=order_id or uuid4(), state=state, **(fields | changes))


def a_record(body: Any, message_id: UUID | None = None, **changes: Any) -> Record:
    """The record of a message as a consumer gets it, each at the next offset."""
    outgoing = to_record(body, message_id or uuid4(), TRACEPARENT)
    fields: dict[str, Any] = {
        "topic": outgoing.topic,
        "partition": 0,
        "offset": next(_offsets),
        "timestamp_ms": int(NOW.timestamp() * 1000),
        "key": outgoing.key,
        "value": outgoing.value,
        "headers": outgoing.headers,
    }
    return Record(**(fields | changes))


def a_message(body: Any, message_id: UUID | None = None) -> Message:
    """The message as it arrives: through its bytes."""
    return decode(a_record(body, message_id))


def migrate_settings(servers: Addresses, replication_factor: int = 1) -> MigrateSettings:
    values = {
        "KAFKA_BOOTSTRAP_SERVERS": servers.kafka_bootstrap_servers,
        "KAFKA_REPLICATION_FACTOR": replication_factor,
        "DATABASE_URL": servers.database_url,
    }
    return MigrateSettings.model_validate(values)


def broker_settings(servers: Addresses) -> dict[str, str]:
    """The environment of whoever uses the broker."""
    return {
        "KAFKA_BOOTSTRAP_SERVERS": servers.kafka_bootstrap_servers,
        "KAFKA_ENABLE_IDEMPOTENCE": str(servers.kafka_enable_idempotence),
        "KAFKA_FETCH_MAX_WAIT_MS": "10",
    }


def worker_environment(servers: Addresses, admin_port: int) -> dict[str, str]:
    """Of a worker that never calls the payment provider."""
    return {
        **broker_settings(servers),
        "DATABASE_URL": servers.database_url,
        "REDIS_URL": servers.redis_url,
        "ADMIN_PORT": str(admin_port),
        "WORKERS_PAYMENT_PROVIDER_URL": "http://127.0.0.1:1",
    }
