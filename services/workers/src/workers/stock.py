"""The rules of stock, pure: what a shelf does when it is asked to reserve or to release."""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from uuid import UUID

from common.contracts import commands, events
from common.contracts.values import StockLine


class ReservationState(StrEnum):
    RESERVED = "reserved"
    REFUSED = "refused"
    RELEASED = "released"  # given back, or a tombstone


@dataclass(frozen=True, slots=True)
class Reservation:
    state: ReservationState
    lines: tuple[StockLine, ...]
    short_sku: str | None = None


@dataclass(slots=True)
class Shelf:
    """Available pieces by sku and the reservations of the orders at hand; remembers what it changed."""

    available: dict[str, int]
    reservations: dict[UUID, Reservation]
    changed_skus: set[str] = field(default_factory=set[str])
    changed_orders: set[UUID] = field(default_factory=set[UUID])

    def handle(self, command: commands.InventoryCommand) -> events.InventoryEvent | None:
        """Answer one command; None means that a late reserve met a tombstone."""
        match command:
            case commands.ReserveStock():
                return self._reserve(command)
            case commands.ReleaseStock():
                return self._release(command)

    def _reserve(self, command: commands.ReserveStock) -> events.InventoryEvent | None:
        known = self.reservations.get(command.order_id)
        if known is None:
            known = self._decide(command.lines)
            self._remember(command.order_id, known, sign=-1 if known.state is ReservationState.RESERVED else 0)
        match known.state:
            case ReservationState.RESERVED:
                return events.StockReserved(order_id=command.order_id)
            case ReservationState.REFUSED:
                return events.StockRefused(order_id=command.order_id, sku=known.short_sku or "")
            case ReservationState.RELEASED:
                return None

    def _release(self, command: commands.ReleaseStock) -> events.InventoryEvent:
        known = self.reservations.get(command.order_id)
        if known is None:
            self._remember(command.order_id, Reservation(ReservationState.RELEASED, ()), sign=0)
        elif known.state is ReservationState.RESERVED:
            self._remember(command.order_id, replace(known, state=ReservationState.RELEASED), sign=1)
        return events.StockReleased(order_id=command.order_id)

    def _decide(self, lines: tuple[StockLine, ...]) -> Reservation:
        needed: dict[str, int] = {}
        for line in lines:
            needed[line.sku] = needed.get(line.sku, 0) + line.quantity
        for sku, quantity in needed.items():
            if self.available.get(sku, 0) < quantity:
                return Reservation(ReservationState.REFUSED, lines, sku)
        return Reservation(ReservationState.RESERVED, lines)

    def _remember(self, order_id: UUID, reservation: Reservation, *, sign: int) -> None:
        self.reservations[order_id] = reservation
        self.changed_orders.add(order_id)
        if sign:
            for line in reservation.lines:
                self.available[line.sku] += sign * line.quantity
                self.changed_skus.add(line.sku)
