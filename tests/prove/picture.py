"""The picture of a proof: every fault in its lane, and below it what became of the orders, second by second."""

# pyright: reportUnknownMemberType=false
# (matplotlib's stubs leave parts open)

import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from tests.prove.run import Proof, Struck
from tests.prove.schedule import Kind
from tests.prove.series import Series

COLOURS = {kind: f"C{number}" for number, kind in enumerate(Kind)}
LANES = (  # from the door to the provider
    *("customers", "nginx", "all", "gateway", "orders", "workers"),
    *("order_writer", "saga_runner", "inventory", "payments", "outbox_relay"),
    *("broker", "kafka", "postgres", "valkey", "redis", "payment_provider", "payment-provider"),
)
SHORTEST_S = 0.4  # or it could not be seen
MOST_NAMED, NAME_S = 60, 11.0  # with more faults there is no room for names; one is as wide as so many seconds
SMOOTH_S = 3


def draw(proof: Proof, series: Series, title: str, file: Path) -> None:
    figure, (faults, rates, waiting, latency) = plt.subplots(
        4, 1, figsize=(15, 12), sharex=True, height_ratios=(2.4, 1.5, 1.1, 1.5), layout="constrained"
    )
    figure.suptitle(
        f"make prove, {title}", fontsize=15, fontweight="bold", color="#b00020" if proof.broken else "#1b5e20"
    )
    _draw_faults(faults, proof.struck)
    for axes in (rates, waiting, latency):
        for struck in proof.struck:
            axes.axvspan(struck.began, max(struck.ended, struck.began + SHORTEST_S), color="#888888", alpha=0.10, lw=0)
        axes.axvline(proof.healed_at, color="#1b5e20", ls="--", lw=1.2)
        axes.grid(alpha=0.25)
        axes.margins(x=0.005)
    _draw_rates(rates, series)
    _draw_waiting(waiting, series, proof.healed_at)
    _draw_latency(latency, series)
    faults.set_xlim(0, len(series.accepted) + NAME_S / 2)
    figure.savefig(file, dpi=90)
    plt.close(figure)


def _draw_faults(axes: Axes, struck: Sequence[Struck]) -> None:
    named = len(struck) <= MOST_NAMED
    row, middles = 0, dict[str, float]()
    for lane in sorted({_lane(each) for each in struck}, key=_place):
        rows = _rows([each for each in struck if _lane(each) == lane], NAME_S if named else 0.0)
        for line, each_row in enumerate(rows, start=row):
            for each in each_row:
                _draw_fault(axes, each, line, named=named)
        middles[lane] = row + (len(rows) - 1) / 2
        row += len(rows)
        axes.axhline(row - 0.5, color="#cccccc", lw=0.8)
    axes.set_yticks(list(middles.values()), list(middles))
    axes.set_ylim(row - 0.5, -0.5)
    axes.set_title(
        "faults: a bar is as long as the trouble; of a kill, until it was ready again", loc="left", fontsize=11
    )
    kinds = [kind for kind in Kind if any(each.fault.kind is kind for each in struck)]
    _legend(axes, [Patch(color=COLOURS[kind], label=kind.value) for kind in kinds])
    axes.grid(axis="x", alpha=0.25)


def _draw_fault(axes: Axes, struck: Struck, row: int, *, named: bool) -> None:
    lasts = max(struck.ended - struck.began, SHORTEST_S)
    axes.broken_barh([(struck.began, lasts)], (row - 0.4, 0.8), color=COLOURS[struck.fault.kind], alpha=0.9)
    name = _name(struck) if struck.came_back else f"{_name(struck)}: never came back"
    if named or not struck.came_back:
        axes.text(struck.began + lasts + 0.3, row, name, va="center", fontsize=8, color="#333333")


def _rows(struck: Sequence[Struck], name_s: float) -> list[list[Struck]]:
    """Side by side where they do not cover each other, with their names; else one below the other."""
    rows: list[list[Struck]] = []
    for each in sorted(struck, key=lambda each: each.began):
        free = (row for row in rows if row[-1].ended + name_s <= each.began)
        if (row := next(free, None)) is None:
            rows.append(row := [])
        row.append(each)
    return rows


def _draw_rates(axes: Axes, series: Series) -> None:
    for name, values, colour in (
        ("offered", series.offered, "#9e9e9e"),
        ("accepted (202)", series.accepted, "#1565c0"),
        ("confirmed", series.confirmed, "#2e7d32"),
    ):
        smooth = [sum(values[max(0, n - SMOOTH_S + 1) : n + 1]) / min(n + 1, SMOOTH_S) for n in range(len(values))]
        axes.plot(smooth, color=colour, lw=1.8, label=name)
    axes.set_ylim(bottom=0)
    axes.set_title(f"orders per second, mean of {SMOOTH_S} s", loc="left", fontsize=11)
    _legend(axes)


def _draw_waiting(axes: Axes, series: Series, healed_at: float) -> None:
    axes.fill_between(range(len(series.under_way)), series.under_way, color="#ef6c00", alpha=0.45, lw=0)
    axes.plot([at for at, _ in series.lag], [lag for _, lag in series.lag], "D", color="#4a148c", ms=4)
    axes.text(healed_at, axes.get_ylim()[1], " healed", va="top", color="#1b5e20")
    axes.set_ylim(bottom=0)
    axes.set_title("orders under way, and records not yet committed by the consumers", loc="left", fontsize=11)
    handles = [
        Patch(color="#ef6c00", alpha=0.45, label="accepted, not final"),
        Line2D([], [], color="#4a148c", marker="D", ls="", ms=4, label="consumer lag"),
    ]
    _legend(axes, handles)


def _draw_latency(axes: Axes, series: Series) -> None:
    axes.plot(
        [due for due, _ in series.latency], [s * 1000 for _, s in series.latency], ".", color="#1565c0", ms=4, alpha=0.6
    )
    axes.set_yscale("log")
    axes.set_title(
        "milliseconds from the moment an order was due to its 202, each order a dot", loc="left", fontsize=11
    )
    axes.set_xlabel("seconds since the first order was due")


def _legend(axes: Axes, handles: Sequence[Artist] | None = None) -> None:
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)


def _lane(struck: Struck) -> str:
    return re.split("[>.]", struck.fault.target)[0]


def _place(lane: str) -> tuple[int, str]:
    return LANES.index(lane.rstrip("-0123456789")), lane


def _name(struck: Struck) -> str:
    server = struck.fault.target.partition(">")[2]
    clock = f" {struck.fault.amount:+.0f} s" if struck.fault.kind is Kind.CLOCK else ""
    return f"{struck.fault.kind}{f' to {server}' if server else clock}"
