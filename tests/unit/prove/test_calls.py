"""The client log: what was sent is known before it is sent, what was answered is there afterwards."""

from pathlib import Path

from tests.prove.calls import Answer, CallLog, Exchange, What, read_calls


def test_what_was_logged_is_read_again(tmp_path: Path) -> None:
    with CallLog(tmp_path / "calls.jsonl") as log:
        first = log.sent(What.PLACE, "anne", "order-1", 1_200)
        second = log.sent(What.READ, "bert", "order-2")
        log.answered(Answer(second.n, log.now(), status=200, version=3, state="reserved"))
        log.answered(Answer(first.n, log.now(), trouble="TimeoutError"))

        assert read_calls(tmp_path / "calls.jsonl") == log.exchanges


def test_a_call_is_in_the_file_before_it_is_answered(tmp_path: Path) -> None:
    with CallLog(tmp_path / "calls.jsonl") as log:
        call = log.sent(What.PLACE, "anne", "order-1")

        assert read_calls(tmp_path / "calls.jsonl") == [Exchange(call, None)]


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    with CallLog(file) as log:
        call = log.sent(What.PLACE, "anne", "order-1")
        log.answered(Answer(call.n, log.now(), status=202))
    file.write_bytes(file.read_bytes()[:-5])

    assert read_calls(file) == [Exchange(call, None)]


def test_only_a_202_to_an_order_is_a_promise(tmp_path: Path) -> None:
    with CallLog(tmp_path / "calls.jsonl") as log:
        for what, status in ((What.PLACE, 202), (What.PLACE, 503), (What.CANCEL, 202), (What.PLACE_OTHER, 202)):
            call = log.sent(what, "anne", "order-1")
            log.answered(Answer(call.n, log.now(), status=status))
        log.sent(What.PLACE, "anne", "order-1")

        assert [exchange.accepted for exchange in log.exchanges] == [True, False, False, False, False]
