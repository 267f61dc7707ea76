"""saga_runner: hears what happened to an order and sends the next command; asks again when no reply comes."""

from datetime import timedelta
from functools import partial

from common.contracts.topics import Topic
from common.telemetry import metrics
from orders.adapters.postgres import unit_of_work
from orders.adapters.queries import OrderQueries
from orders.domain.saga import WAITS_FOR
from orders.use_cases import Clock, advance_sagas, ask_again
from workers.resources import Resources, utc_now
from workers.worker import ConsumingWorker, Timer

TOPICS = [Topic.ORDERS_EVENTS, Topic.INVENTORY_EVENTS, Topic.PAYMENTS_EVENTS]
TIMER_INTERVAL_S = 1.0
MEASURE_INTERVAL_S = 10.0


def build(resources: Resources) -> ConsumingWorker:
    begin = unit_of_work(resources.engine, "saga_runner")
    step_timeout = timedelta(seconds=resources.settings.saga_step_timeout_s)
    advance = partial(advance_sagas, begin, utc_now, views=resources.views, step_timeout=step_timeout)
    again = partial(ask_again, begin, utc_now, views=resources.views, step_timeout=step_timeout)
    measure = partial(measure_sagas, OrderQueries(resources.engine), utc_now)
    consumer = resources.consumer("saga_runner", [*TOPICS], advance)
    return ConsumingWorker(consumer, [Timer(TIMER_INTERVAL_S, again), Timer(MEASURE_INTERVAL_S, measure)])


async def measure_sagas(queries: OrderQueries, clock: Clock) -> int:
    """Set the metrics that say how old the oldest open saga is, and for whom orders wait too long."""
    open_sagas = await queries.open_sagas()
    oldest = min((sagas.oldest for sagas in open_sagas.values()), default=None)
    metrics.SAGA_AGE.set(0 if oldest is None else (clock() - oldest).total_seconds())
    waiting = dict.fromkeys(WAITS_FOR.values(), 0)
    for state, sagas in open_sagas.items():
        waiting[WAITS_FOR[state]] += sagas.need_attention
    for dependency, count in waiting.items():
        metrics.ORDERS_NEEDING_ATTENTION.labels(dependency).set(count)
    return 0
