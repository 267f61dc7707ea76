"""Commands: what one process asks another to do. Imperative names; the tag carries the version of the form."""

from uuid import UUID

import msgspec

from common.contracts.values import AwareDatetime, Currency, CustomerId, MinorUnits, OrderLine, StockLine


class Command(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """Every command concerns one order; unknown fields are ignored, so version N reads what N+1 has added."""

    order_id: UUID


class PlaceOrder(Command, frozen=True, kw_only=True, tag="PlaceOrder.v1"):
    """Gateway to order_writer. `total_minor` is the sum of the lines, in minor units of `currency` (ISO 4217)."""

    customer_id: CustomerId
    currency: Currency
    lines: tuple[OrderLine, ...]
    total_minor: MinorUnits
    accepted_at: AwareDatetime
    client_reference: str | None = None


class CancelOrder(Command, frozen=True, kw_only=True, tag="CancelOrder.v1"):
    """Gateway to order_writer; refused politely once capture has been asked for."""

    customer_id: str


class ReserveStock(Command, frozen=True, kw_only=True, tag="ReserveStock.v1"):
    """Saga to inventory: all lines or nothing. Natural key: the order."""

    lines: tuple[StockLine, ...]


class ReleaseStock(Command, frozen=True, kw_only=True, tag="ReleaseStock.v1"):
    """Saga to inventory: the compensation of ReserveStock. Before the reserve it leaves a tombstone."""


class AuthorizePayment(Command, frozen=True, kw_only=True, tag="AuthorizePayment.v1"):
    """Saga to payments: hold the amount. Natural key: the order."""

    customer_id: CustomerId
    currency: Currency
    amount_minor: MinorUnits


class CapturePayment(Command, frozen=True, kw_only=True, tag="CapturePayment.v1"):
    """Saga to payments: take the held amount. The pivot: after it the order goes forward only."""


class VoidPayment(Command, frozen=True, kw_only=True, tag="VoidPayment.v1"):
    """Saga to payments: the compensation of AuthorizePayment. Before the authorization it leaves a tombstone."""


OrdersCommand = PlaceOrder | CancelOrder
InventoryCommand = ReserveStock | ReleaseStock
PaymentsCommand = AuthorizePayment | CapturePayment | VoidPayment
