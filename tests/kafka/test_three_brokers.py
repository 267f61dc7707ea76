"""Three brokers, three copies of each topic, two of which must have a record before it is acked."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from builders import migrate_settings
from common.contracts.topics import Topic
from common.kafka.publisher import Publisher
from eventually import eventually
from gateway_process import gateway_environment, offer, serving
from integration.core.broker import read_all, running
from kafka.container import Kafka, running_kafka
from kafka.load import Load, assert_nothing_is_lost_or_doubled
from kafka.members import order_writers
from local_stack.servers import Addresses
from unit.gateway.fakes import ONE_CD, bearer
from workers.migrate import migrate

pytestmark = pytest.mark.timeout(180)
NOT_ACCEPTED = {"urn:problem:not-accepted", "urn:problem:outcome-unknown", "urn:problem:overloaded"}


@pytest.fixture(scope="module")
def three() -> Iterator[Kafka]:
    with running_kafka(3) as kafka:
        yield kafka


@pytest.fixture(scope="module")
def servers(bare_servers: Addresses, three: Kafka) -> Addresses:
    """The embedded Postgres and Valkey beside the three brokers."""
    addresses = replace(bare_servers, kafka_bootstrap_servers=three.bootstrap_servers)
    asyncio.run(migrate(migrate_settings(addresses, replication_factor=3)))
    return addresses


@pytest.fixture
async def whole(three: Kafka) -> AsyncIterator[Kafka]:
    """All three are there again before the next test."""
    yield three
    for node in three.nodes:
        node.come_back()
    await three.ready()


async def test_one_broker_killed_loses_nothing_and_no_ack_takes_longer_than_15_s(
    whole: Kafka, servers: Addresses, engine: AsyncEngine, publisher: Publisher, tmp_path: Path
) -> None:
    load = Load(publisher)
    async with order_writers(servers, tmp_path, 2):
        async with running(load.run):
            await load.goes_on(20, within=30)
            whole.nodes[0].kill()
            await load.goes_on(20, within=60)

        await assert_nothing_is_lost_or_doubled(engine, load, within=45)
    assert load.longest_wait_s <= 15


async def test_two_brokers_killed_every_post_is_503_and_never_202_until_they_are_back(
    whole: Kafka, servers: Addresses, publisher: Publisher, tmp_path: Path
) -> None:
    await offer(publisher)
    async with (
        serving({**gateway_environment(servers, tmp_path), "GATEWAY_RATE_BURST": "10000"}) as (_, url),
        httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as http,
    ):
        before = await place(http, [f"before-{n}" for n in range(10)])
        for node in whole.nodes[:2]:
            node.kill()
        keys = [f"during-{n}" for n in range(60)]
        during = [answer for n in range(0, 60, 10) for answer in await place(http, keys[n : n + 10])]
        for node in whole.nodes[:2]:
            node.come_back()

        async def all_accepted() -> bool:
            answers.extend(await place(http, keys[:10]))
            return {answer.status_code for answer in answers[-10:]} == {202}

        answers: list[httpx.Response] = []
        await eventually(all_accepted, within=90)

    assert {answer.status_code for answer in before} == {202}
    assert {answer.status_code for answer in during} == {503}
    assert {answer.headers["content-type"] for answer in during} == {"application/problem+json"}
    assert {answer.json()["type"] for answer in during} <= NOT_ACCEPTED
    assert {answer.status_code for answer in answers} <= {202, 409, 503}
    accepted = {a.json()["order_id"].encode() for a in before + answers if a.status_code == 202}
    in_the_log = {record.key for record in await read_all(servers.kafka_bootstrap_servers, Topic.ORDERS_COMMANDS)}
    assert len(accepted) == 20
    assert accepted <= in_the_log


async def place(http: httpx.AsyncClient, keys: list[str]) -> list[httpx.Response]:
    """One order for each key, all at once."""
    return await asyncio.gather(
        *(http.post("/v1/orders", json=ONE_CD, headers={**bearer(), "Idempotency-Key": key}) for key in keys)
    )
