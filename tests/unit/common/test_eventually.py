"""The helper that every test without a sleep stands on."""

import asyncio

import pytest

from eventually import eventually


async def test_it_returns_as_soon_as_the_check_holds() -> None:
    answers = iter([False, None, True])

    await eventually(lambda: next(answers), within=5)

    assert next(answers, "nothing") == "nothing"


async def test_an_assertion_means_not_yet_and_the_last_one_is_told() -> None:
    def check() -> None:
        raise AssertionError("still three left")

    with pytest.raises(AssertionError, match="still three left"):
        await eventually(check, within=0.05)


async def test_a_check_that_hangs_is_ended() -> None:
    async def check() -> bool:
        await asyncio.Event().wait()
        return True

    with pytest.raises(AssertionError, match="did not end"):
        await eventually(check, within=0.05)


async def test_any_other_error_of_the_check_is_the_tests_own() -> None:
    def check() -> None:
        raise KeyError("a typo")

    with pytest.raises(KeyError):
        await eventually(check, within=5)
