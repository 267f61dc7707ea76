"""order_writer: orders.commands to Postgres, in batches: inbox, orders, lines and events in one transaction."""

from functools import partial

from common.contracts.topics import ORDER_WRITER, Topic
from orders.adapters.dead_orders import remember_dead_orders
from orders.adapters.postgres import unit_of_work
from orders.use_cases import write_orders
from workers.resources import Resources, utc_now
from workers.worker import ConsumingWorker


def build(resources: Resources) -> ConsumingWorker:
    apply = partial(write_orders, unit_of_work(resources.engine, ORDER_WRITER), utc_now, views=resources.views)
    on_poison = partial(remember_dead_orders, resources.engine)
    return ConsumingWorker(resources.consumer(ORDER_WRITER, [Topic.ORDERS_COMMANDS], apply, on_poison))
