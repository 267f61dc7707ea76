"""The limit per customer, seen from outside."""

from common.resilience.token_bucket import Limit
from unit.gateway.fakes import bearer, open_door


async def test_over_the_rate_is_429_that_says_when() -> None:
    async with open_door(limit=Limit(2, 0.5)) as door:
        answers = [await door.place() for _ in range(3)]
        of_bob = await door.place(customer="bob")
        door.markers.now += 2
        later = await door.place()

    assert [answer.status_code for answer in answers] == [202, 202, 429]
    refused = answers[2]
    assert refused.json()["type"] == "urn:problem:too-many-requests"
    assert refused.headers["retry-after"] == "2"
    assert refused.headers["ratelimit"] == '"customer";r=0;t=2'
    assert refused.headers["ratelimit-policy"] == '"customer";q=2;w=4'
    assert (of_bob.status_code, later.status_code) == (202, 202)


async def test_a_refused_call_is_not_in_the_log() -> None:
    async with open_door(limit=Limit(1, 0.1)) as door:
        for _ in range(3):
            await door.place()

        assert len(door.publisher.records) == 1


async def test_a_cancel_takes_a_token_too() -> None:
    async with open_door(limit=Limit(1, 0.1)) as door:
        order_id = (await door.place()).json()["order_id"]

        answer = await door.http.post(f"/v1/orders/{order_id}/cancel", headers=bearer())

    assert answer.status_code == 429
