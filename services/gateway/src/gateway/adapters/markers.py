"""Accepted markers in Redis: written by `door_store` after the ack, read when Postgres does not know the order yet.

All keys of a customer carry one of 16 hash tags; each tag has its epoch (gateway.memory) beside the markers: one call
reads both, and on a cluster a node that forgot takes only its own epochs with it.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# (redis-py types its replies loosely)

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from common.contracts.keys import accepted_key
from common.errors import InfrastructureError
from common.redis_client import HASH_TAGS, NO_ANSWER, RedisClient, hash_tag
from gateway.idempotency import Marker
from gateway.lookup import Remembered

LIFETIME = timedelta(days=7)  # as long as the commands topic keeps its records


class MarkerValue(msgspec.Struct):
    customer: str
    accepted_at: datetime
    fp: str = ""


class RedisMarkers:
    """The MarkerStore of gateway.lookup and the EpochStore of gateway.memory."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    async def find(self, order_id: UUID, customer_id: str) -> Remembered:
        keys = [accepted_key(order_id, customer_id), _epoch_key(hash_tag(customer_id))]
        try:
            values: list[Any] = await self._redis.mget(keys)
        except NO_ANSWER as error:
            raise InfrastructureError(f"Redis does not answer: {error}") from error
        marker, epoch = values
        return Remembered(_marker(order_id, customer_id, marker), epoch.decode() if epoch else None)

    async def write_epoch(self, epoch: str, *, replace: bool) -> set[str]:
        keys = [_epoch_key(tag) for tag in HASH_TAGS]
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for key in keys:
                    pipeline.set(key, epoch, nx=not replace)
                for key in keys:
                    pipeline.get(key)
                answers: list[Any] = await pipeline.execute()
        except NO_ANSWER as error:
            raise InfrastructureError(f"Redis does not answer: {error}") from error
        return {found.decode() for found in answers[len(keys) :] if found}


def _epoch_key(tag: str) -> str:
    return f"epoch:{tag}"


def _marker(order_id: UUID, customer_id: str, found: bytes | None) -> Marker | None:
    if found is None:
        return None
    value = msgspec.json.decode(found, type=MarkerValue)
    return Marker(order_id, customer_id, value.accepted_at, value.fp) if value.customer == customer_id else None
