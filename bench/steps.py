from typing import Any

from bench.servers import Bench


async def measure_steps(bench: Bench) -> list[dict[str, Any]]:
    return []
