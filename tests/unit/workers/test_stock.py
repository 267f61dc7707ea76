"""The shelf: never negative, nothing lost, one answer per order for ever."""

from uuid import UUID, uuid4

from hypothesis import given, settings
from hypothesis import strategies as st

from builders import reserve_stock
from common.contracts import commands, events
from common.contracts.values import StockLine
from workers.stock import ReservationState, Shelf

ORDERS = [UUID(int=n) for n in range(1, 5)]
SKUS = ["apple", "pear"]
INITIAL = 5

lines = st.lists(st.builds(StockLine, sku=st.sampled_from([*SKUS, "unknown"]), quantity=st.integers(1, 4)), min_size=1)
stock_commands = st.one_of(
    st.builds(commands.ReserveStock, order_id=st.sampled_from(ORDERS), lines=lines.map(tuple)),
    st.builds(commands.ReleaseStock, order_id=st.sampled_from(ORDERS)),
)


@settings(max_examples=300)
@given(sequence=st.lists(stock_commands, max_size=30))
def test_stock_is_never_negative_and_what_is_not_on_the_shelf_is_reserved(
    sequence: list[commands.InventoryCommand],
) -> None:
    shelf = Shelf(dict.fromkeys(SKUS, INITIAL), {})
    for command in sequence:
        shelf.handle(command)

        assert all(available >= 0 for available in shelf.available.values())
        for sku in SKUS:
            held = sum(
                line.quantity
                for r in shelf.reservations.values()
                if r.state is ReservationState.RESERVED
                for line in r.lines
                if line.sku == sku
            )
            assert shelf.available[sku] + held == INITIAL


@settings(max_examples=300)
@given(sequence=st.lists(stock_commands, max_size=30))
def test_repeating_the_last_command_gives_the_same_answer_and_changes_nothing(
    sequence: list[commands.InventoryCommand],
) -> None:
    shelf = Shelf(dict.fromkeys(SKUS, INITIAL), {})
    for command in sequence:
        answer = shelf.handle(command)
        before = dict(shelf.available), dict(shelf.reservations)

        assert shelf.handle(command) == answer
        assert (shelf.available, shelf.reservations) == before


def test_two_orders_in_one_batch_compete_for_the_last_piece_and_the_first_wins() -> None:
    shelf = Shelf({"apple": 1}, {})
    first, second = uuid4(), uuid4()

    answers = [shelf.handle(reserve_stock(order_id, apple=1)) for order_id in (first, second)]

    assert answers == [events.StockReserved(order_id=first), events.StockRefused(order_id=second, sku="apple")]
    assert shelf.available == {"apple": 0}
    assert shelf.changed_orders == {first, second}


def test_all_lines_or_nothing_and_the_refusal_names_the_sku_that_was_short() -> None:
    shelf = Shelf({"apple": 9, "pear": 1}, {})
    order_id = uuid4()

    assert shelf.handle(reserve_stock(order_id, apple=2, pear=2)) == events.StockRefused(order_id=order_id, sku="pear")
    assert shelf.available == {"apple": 9, "pear": 1}
    assert not shelf.changed_skus


def test_two_lines_of_one_sku_count_together() -> None:
    shelf = Shelf({"apple": 3}, {})
    order_id = uuid4()
    two_lines = (StockLine(sku="apple", quantity=2), StockLine(sku="apple", quantity=2))

    answer = shelf.handle(commands.ReserveStock(order_id=order_id, lines=two_lines))

    assert answer == events.StockRefused(order_id=order_id, sku="apple")


def test_a_release_before_its_reserve_leaves_a_tombstone_and_the_late_reserve_takes_nothing() -> None:
    shelf = Shelf({"apple": 1}, {})
    order_id = uuid4()

    released = shelf.handle(commands.ReleaseStock(order_id=order_id))
    late = shelf.handle(reserve_stock(order_id, apple=1))

    assert released == events.StockReleased(order_id=order_id)
    assert late is None
    assert shelf.available == {"apple": 1}


def test_a_refused_order_stays_refused_when_stock_comes_back() -> None:
    shelf = Shelf({"apple": 1}, {})
    happy, unlucky = uuid4(), uuid4()
    shelf.handle(reserve_stock(happy, apple=1))
    refused = shelf.handle(reserve_stock(unlucky, apple=1))
    shelf.handle(commands.ReleaseStock(order_id=happy))

    assert shelf.handle(reserve_stock(unlucky, apple=1)) == refused
    assert shelf.available == {"apple": 1}
