"""A dead letter is the whole record, plus why, who gave up, and where it came from."""

from builders import a_record, place_order
from common.dead_letter import CAUSE, CONSUMER, MAX_CAUSE_CHARACTERS, ORIGIN, dead_letter
from common.errors import PoisonError


def test_a_dead_letter_keeps_key_bytes_and_headers_and_adds_cause_consumer_and_origin() -> None:
    record = a_record(place_order(), partition=4, offset=17, value=b"\xff\x00")

    letter = dead_letter(record, PoisonError("no such sku"), "inventory")

    headers = dict(letter.headers)
    assert (letter.topic, letter.key, letter.value) == ("orders.commands.dlq", record.key, b"\xff\x00")
    assert record.headers.items() <= headers.items()
    assert headers[CAUSE] == b"PoisonError: no such sku"
    assert headers[CONSUMER] == b"inventory"
    assert headers[ORIGIN] == b"orders.commands/4/17"


def test_a_cause_that_is_long_or_not_encodable_is_cut_and_kept() -> None:
    letter = dead_letter(a_record(place_order()), ValueError("\ud800" * 5_000), "order_writer")

    assert len(dict(letter.headers)[CAUSE]) == MAX_CAUSE_CHARACTERS
