"""A dead letter is the whole record, plus why, who gave up, when, and where it came from."""

from builders import NOW, a_record, place_order
from common.dead_letter import CAUSE, CONSUMER, DIED_AT, MAX_CAUSE_CHARACTERS, ORIGIN, dead_letter
from common.errors import PoisonError


def test_a_dead_letter_keeps_key_bytes_and_headers_and_adds_cause_consumer_time_and_origin() -> None:
    record = a_record(place_order(), partition=4, offset=17, value=b"\xff\x00")

    letter = dead_letter(record, PoisonError("no such sku"), "inventory", NOW)

    kept = len(record.headers)
    assert (letter.topic, letter.key, letter.value) == ("orders.commands.dlq", record.key, b"\xff\x00")
    assert letter.headers[:kept] == record.headers
    assert letter.headers[kept:] == [
        (CAUSE, b"PoisonError: no such sku"),
        (CONSUMER, b"inventory"),
        (ORIGIN, b"orders.commands/4/17"),
        (DIED_AT, b"2026-01-02T03:04:05.678+00:00"),
    ]


def test_null_values_and_headers_that_come_twice_or_without_a_value_survive() -> None:
    headers = (("a", None), ("b", b""), ("a", b"2"), ("b", b"3"))

    letter = dead_letter(a_record(place_order(), value=None, key=None, headers=headers), ValueError(), "c", NOW)

    assert (letter.key, letter.value) == (None, None)
    assert tuple(letter.headers[:4]) == headers


def test_a_letter_that_dies_again_has_one_cause_the_last() -> None:
    first = dead_letter(a_record(place_order()), ValueError("first"), "c", NOW)

    again = dead_letter(a_record(place_order(), headers=first.headers), ValueError("second"), "c", NOW)

    assert [value for name, value in again.headers if name == CAUSE] == [b"ValueError: second"]


def test_a_cause_that_is_long_or_not_encodable_is_cut_and_kept() -> None:
    letter = dead_letter(a_record(place_order()), ValueError("\ud800" * 5_000), "order_writer", NOW)

    assert len(dict(letter.headers)[CAUSE] or b"") == MAX_CAUSE_CHARACTERS
