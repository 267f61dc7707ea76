"""An order as it goes over gRPC."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from builders import an_order
from orders.grpc_server import to_proto

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(milliseconds=st.integers(0, 4_102_444_800_000))
def test_times_keep_their_milliseconds(milliseconds: int) -> None:
    moment = EPOCH + timedelta(milliseconds=milliseconds)

    assert to_proto(an_order(accepted_at=moment, updated_at=moment)).accepted_at_ms == milliseconds


def test_what_is_not_set_is_absent_and_not_empty() -> None:
    form = to_proto(an_order())

    assert not form.HasField("client_reference")
    assert not form.HasField("reason")
