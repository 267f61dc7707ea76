"""saga_runner: hears what happened to an order and sends the next command; asks again when no reply comes."""

from datetime import timedelta
from functools import partial

from common.contracts.topics import Topic
from orders.adapters.postgres import unit_of_work
from orders.use_cases import advance_sagas, ask_again
from workers.resources import Resources, utc_now
from workers.worker import ConsumingWorker, Timer

TOPICS = [Topic.ORDERS_EVENTS, Topic.INVENTORY_EVENTS, Topic.PAYMENTS_EVENTS]
TIMER_INTERVAL_S = 1.0


def build(resources: Resources) -> ConsumingWorker:
    begin = unit_of_work(resources.engine, "saga_runner")
    step_timeout = timedelta(seconds=resources.settings.saga_step_timeout_s)
    advance = partial(advance_sagas, begin, utc_now, views=resources.views, step_timeout=step_timeout)
    again = partial(ask_again, begin, utc_now, views=resources.views, step_timeout=step_timeout)
    consumer = resources.consumer("saga_runner", [*TOPICS], advance)
    return ConsumingWorker(consumer, [Timer(TIMER_INTERVAL_S, again)])
