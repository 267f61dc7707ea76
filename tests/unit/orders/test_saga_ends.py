"""Whatever the network does to the replies, an order ends, and what was taken for an order that failed is given back.

The world of the model: the real rules of inventory and of payments, a provider that may lose replies, and a network
that repeats, reorders, delays and loses replies. Commands arrive in order (one topic, one key), each possibly twice.
"""

from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from hypothesis import given, settings
from hypothesis import strategies as st

from builders import NOW, a_line, an_order
from common.contracts import commands, events
from common.contracts.values import StockLine
from orders.domain.order import FINAL, Order, OrderStatus
from orders.domain.saga import ATTEMPTS_BEFORE_ATTENTION, CANCELLED_BY_CUSTOMER, Decision, Saga, decide, time_out
from workers.payment import COMMAND_OF, OPEN, Payment, PaymentState, answer_to, begin
from workers.stock import Shelf

STOCK = 5
MOST_STEPS = 200


@dataclass
class World:
    declines: bool
    in_stock: bool
    provider_answers: list[bool]  # False: this call to the provider has no answer, or loses it
    order: Order = field(default_factory=lambda: an_order(uuid4(), lines=(a_line(quantity=2),)))
    shelf: Shelf = field(init=False)
    payment: Payment | None = None
    at_provider: str | None = None
    charged: int = 0
    replies: list[Any] = field(default_factory=list[Any])
    to_inventory: list[Any] = field(default_factory=list[Any])
    to_payments: list[Any] = field(default_factory=list[Any])

    def __post_init__(self) -> None:
        self.saga = Saga(self.order.order_id)
        self.shelf = Shelf({"sku-1": STOCK if self.in_stock else 1}, {})
        self.hear(events.OrderPlaced)

    def hear(self, message: type[Any], reason: str | None = None) -> None:
        self.carry_out(decide(self.saga, message, NOW, reason=reason))

    def carry_out(self, decision: Decision) -> None:
        if decision.order is not None:
            self.order.move(decision.order, NOW, decision.reason)
        if decision.send in (commands.ReserveStock, commands.ReleaseStock):
            self.to_inventory.append(decision.send)
        elif decision.send is not None:
            self.to_payments.append(decision.send)

    def let_inventory_work(self) -> None:
        kind, i = self.to_inventory.pop(0), self.order.order_id
        lines = tuple(StockLine(sku=line.sku, quantity=line.quantity) for line in self.order.lines)
        command = commands.ReserveStock(order_id=i, lines=lines) if kind is commands.ReserveStock else kind(order_id=i)
        self.reply(self.shelf.handle(command))

    def let_payments_work(self) -> None:
        kind, i = self.to_payments.pop(0), self.order.order_id
        authorize = commands.AuthorizePayment(order_id=i, customer_id="c", currency="USD", amount_minor=1_000)
        command = authorize if kind is commands.AuthorizePayment else kind(order_id=i)
        self.payment = begin(command, self.payment, None)
        asked = COMMAND_OF.get(self.payment.state, kind)
        self.settle()
        self.reply(answer_to(asked, self.payment))

    def let_the_payment_timer_work(self) -> None:
        if self.payment is not None and self.payment.state in OPEN:
            asked = COMMAND_OF[self.payment.state]
            self.settle()
            self.reply(answer_to(asked, self.payment))

    def settle(self) -> None:
        if self.payment is None or self.payment.state not in OPEN:
            return
        works, answers = [self.provider_answers.pop() if self.provider_answers else True for _ in range(2)]
        if works:
            self.call_provider(self.payment.state)
        self.payment.settle(self.at_provider if answers else None)

    def call_provider(self, state: PaymentState) -> None:
        match state, self.at_provider:
            case PaymentState.AUTHORIZING, None:
                self.at_provider = "declined" if self.declines else "authorized"
            case PaymentState.CAPTURING, "authorized":
                self.at_provider = "captured"
                self.charged += 1
            case PaymentState.VOIDING, None | "authorized":
                self.at_provider = "voided"
            case _:
                pass

    def reply(self, event: Any) -> None:
        if event is not None:
            self.replies.append(event)

    def deliver(self, index: int, *, keep: bool) -> None:
        event = self.replies[index] if keep else self.replies.pop(index)
        kind: type[Any] = event.__class__
        self.hear(kind, getattr(event, "reason", None))

    def quiet_step(self) -> bool:
        """Something that still has to happen, with no more faults; False when nothing is left."""
        if self.replies:
            self.deliver(0, keep=False)
        elif self.to_inventory:
            self.let_inventory_work()
        elif self.to_payments:
            self.let_payments_work()
        elif self.payment is not None and self.payment.state in OPEN:
            self.let_the_payment_timer_work()
        elif self.order.status not in FINAL:
            self.carry_out(time_out(self.saga, NOW))
        else:
            return False
        return True

    def check_the_end(self) -> None:
        assert self.order.status in FINAL
        stock = STOCK if self.in_stock else 1
        confirmed = self.order.status is OrderStatus.CONFIRMED
        assert self.shelf.available["sku-1"] == (stock - 2 if confirmed else stock)
        assert self.charged == (1 if confirmed else 0)
        assert self.at_provider in (("captured",) if confirmed else (None, "voided", "declined"))
        if self.order.status is OrderStatus.REJECTED:
            assert self.order.reason == ("payment_declined" if self.in_stock else "out_of_stock")
            assert self.declines or not self.in_stock
        if self.order.status is OrderStatus.CANCELLED:
            assert self.saga.reason == CANCELLED_BY_CUSTOMER


@settings(max_examples=400, deadline=None)
@given(data=st.data(), declines=st.booleans(), in_stock=st.booleans(), answers=st.lists(st.booleans(), max_size=12))
def test_whatever_order_and_number_of_replies_every_order_ends_and_a_failed_one_is_compensated(
    data: st.DataObject, declines: bool, in_stock: bool, answers: list[bool]
) -> None:
    world = World(declines, in_stock, answers)
    actions = st.sampled_from(
        ["inventory", "payments", "deliver", "again", "lose", "timer", "time_out", "silence", "cancel"]
    )
    for action in data.draw(st.lists(actions, max_size=40)):
        match action:
            case "inventory" if world.to_inventory:
                world.let_inventory_work()
            case "payments" if world.to_payments:
                world.let_payments_work()
            case "deliver" | "again" if world.replies:
                index = data.draw(st.integers(0, len(world.replies) - 1))
                world.deliver(index, keep=action == "again")
            case "lose" if world.replies:
                world.replies.pop(data.draw(st.integers(0, len(world.replies) - 1)))
            case "timer":
                world.let_the_payment_timer_work()
            case "time_out":
                world.carry_out(time_out(world.saga, NOW))
            case "silence":  # a dependency is away for so long that a person is asked
                for _ in range(ATTEMPTS_BEFORE_ATTENTION):
                    world.carry_out(time_out(world.saga, NOW))
            case "cancel":
                world.hear(events.OrderCancelRequested)
            case _:
                pass

    steps = 0
    while world.quiet_step():
        steps += 1
        assert steps < MOST_STEPS, f"it does not end: {world}"

    world.check_the_end()


@settings(max_examples=200, deadline=None)
@given(data=st.data(), declines=st.booleans(), in_stock=st.booleans(), cancel_at=st.integers(0, 12))
def test_a_reply_that_comes_twice_in_a_row_changes_nothing(
    data: st.DataObject, declines: bool, in_stock: bool, cancel_at: int
) -> None:
    world = World(declines, in_stock, [])
    for step in range(MOST_STEPS):
        if step == cancel_at:
            world.hear(events.OrderCancelRequested)
        heard = world.replies[0] if world.replies else None
        if not world.quiet_step():
            break
        if heard is not None:
            before = (repr(world.order), repr(world.saga))
            kind: type[Any] = heard.__class__
            world.hear(kind, getattr(heard, "reason", None))
            assert (repr(world.order), repr(world.saga)) == before

    world.check_the_end()
