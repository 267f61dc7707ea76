"""The file gives back what was answered, whatever cut its end off."""

from pathlib import Path

import pytest

from payment_provider.ledger import Ledger, LedgerFileError, Payment, Status


def order(number: int) -> Payment:
    return Payment(f"order-{number}", Status.AUTHORIZED, 100 + number, "USD", "customer-1", f"key-{number}")


def fill(path: Path) -> list[Payment]:
    with Ledger(path) as ledger:
        for number in range(3):
            ledger.authorize(order(number))
        ledger.capture("order-0")
        ledger.void("order-1")
        ledger.void("never-seen")
        return ledger.payments()


def test_a_new_start_reads_back_every_payment_in_its_last_state(ledger_file: Path) -> None:
    before = fill(ledger_file)

    with Ledger(ledger_file) as ledger:
        assert ledger.payments() == before
        assert ledger.authorize(order(2)) == (order(2), False)


def test_a_line_torn_anywhere_is_cut_off_and_the_file_goes_on(ledger_file: Path) -> None:
    before = fill(ledger_file)
    whole = ledger_file.read_bytes()
    with Ledger(ledger_file) as ledger:
        ledger.authorize(order(9))
    line = ledger_file.read_bytes()[len(whole) :]

    for length in range(len(line)):
        ledger_file.write_bytes(whole + line[:length])
        with Ledger(ledger_file) as ledger:
            assert ledger.payments() == before
            assert ledger.authorize(order(9)) == (order(9), True)
        assert ledger_file.read_bytes() == whole + line


def test_a_broken_line_in_the_middle_refuses_to_start_and_is_named(ledger_file: Path) -> None:
    fill(ledger_file)
    lines = ledger_file.read_bytes().splitlines(keepends=True)
    ledger_file.write_bytes(b"".join([lines[0], b"{broken\n", *lines[1:]]))
    damaged = ledger_file.read_bytes()

    with pytest.raises(LedgerFileError, match="line 2"):
        Ledger(ledger_file)

    assert ledger_file.read_bytes() == damaged
