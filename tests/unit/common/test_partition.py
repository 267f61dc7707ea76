from aiokafka.partitioner import murmur2  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]
from hypothesis import given
from hypothesis import strategies as st

from common.kafka.publisher import partition_of


@given(st.binary(max_size=64), st.integers(1, 1_000))
def test_a_key_goes_where_aiokafkas_own_partitioner_would_send_it(key: bytes, partitions: int) -> None:
    assert partition_of(key, partitions) == (murmur2(key) & 0x7FFFFFFF) % partitions  # pyright: ignore
