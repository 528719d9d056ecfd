"""A trace as one self-contained HTML page: exits over time, by reason and by address, and what they cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from string import Template

from .events import Event, Trace
from .stats import Row, summarise
from .timeline import Handling, stretches

# The chart: so many bars, in a picture of this size.
_BARS, _WIDTH, _HEIGHT = 120, 960, 180
# So many reasons have a colour of their own; the others share the last. The page's style has the colours.
_COLOURS = 8
# Rows of the table of addresses.
_ADDRESSES = 200

Symbol = Callable[[int], str]


@dataclass(frozen=True)
class _Palette:
    """Which colour a reason has: the most frequent have their own."""

    reasons: Sequence[str]

    def of(self, reason: str) -> int:
        return self.reasons.index(reason) if reason in self.reasons[:_COLOURS] else _COLOURS


def page(trace: Trace, title: str, symbol: Symbol = lambda address: "") -> str:
    """The page. `symbol` names a code address of the guest, or gives an empty text."""
    exits = [event for event in trace.events if event.kind == "exit"]
    by_reason = summarise(trace.events, "reason")
    palette = _Palette([row.key for row in by_reason.rows])
    template = Template(files(__package__).joinpath("report.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=escape(title),
        facts="".join(_facts(trace)),
        chart=_chart(exits, palette, trace.clock),
        legend="".join(_legend(palette)),
        share=_share(by_reason.rows, trace.unit),
        reasons=_table(("reason", *_COSTS), _reason_rows(by_reason.rows, palette), trace.unit),
        addresses=_table(
            ("guest RIP", "symbol", "mostly", *_COSTS),
            _address_rows(trace.events, exits, symbol),
            trace.unit,
        ),
        slowest=_table(
            ("at", "reason", "guest RIP", "symbol", "handler"),
            _slowest_rows(trace.events, symbol),
            trace.unit,
        ),
        failures=_failures(trace.events),
    )  # fmt: skip


_COSTS = ("exits", "%", "guest", "handler", "min", "mean", "max")


def _facts(trace: Trace) -> Iterator[str]:
    last = trace.events[-1].icount if trace.events else 0
    first = trace.events[0].icount if trace.events else 0
    kinds = Counter(event.kind for event in trace.events)
    facts = {
        **{name: trace.header[name] for name in ("image", "cpu", "cpus", "source") if name in trace.header},
        "events": ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common()) or "none",
        "span": f"{last - first:,} {trace.clock}",
    }
    for name, value in facts.items():
        yield f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>"


def _chart(exits: Sequence[Event], palette: _Palette, clock: str) -> str:
    """Bars of exits over the trace's clock, stacked by reason."""
    if not exits:
        return "<p>No exits.</p>"
    start = exits[0].icount
    width = max(1, -(-(exits[-1].icount - start + 1) // _BARS))
    bars = [Counter[int]() for _ in range(_BARS)]
    for event in exits:
        bars[(event.icount - start) // width][palette.of(_reason(event))] += 1
    most = max(bar.total() for bar in bars)
    step = _WIDTH / _BARS
    shapes = []
    for number, bar in enumerate(bars):
        top = float(_HEIGHT)
        for colour in sorted(bar):
            height = bar[colour] / most * _HEIGHT
            top -= height
            name = palette.reasons[colour] if colour < _COLOURS else "other reasons"
            label = f"{name}: {bar[colour]} at {start + number * width:,}"
            shapes.append(
                f'<rect class="c{colour}" x="{number * step:.1f}" y="{top:.1f}" width="{step - 0.5:.1f}"'
                f' height="{height:.1f}"><title>{escape(label)}</title></rect>'
            )
    scale = f"a bar is {width:,} {escape(clock)}, the highest {most:,} exits"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="exits over time">{"".join(shapes)}'
        f"</svg><p class=axis><span>{start:,}</span><span>{scale}</span><span>{exits[-1].icount:,}</span></p>"
    )


def _legend(palette: _Palette) -> Iterator[str]:
    for colour, reason in enumerate(palette.reasons[:_COLOURS]):
        yield f'<li><i class="c{colour}"></i>{escape(reason)}</li>'
    if len(palette.reasons) > _COLOURS:
        yield f'<li><i class="c{_COLOURS}"></i>other reasons</li>'


def _share(rows: Iterable[Row], unit: str) -> str:
    """How much of the time between first entry and last exit was the guest's, and the hypervisor's."""
    rows = list(rows)
    guest, handler = sum(row.guest for row in rows), sum(row.handler for row in rows)
    if not guest + handler:
        return "<p>No stretch from an entry to an exit.</p>"
    part = 100 * guest / (guest + handler)
    return (
        f'<div class=share><i class=guest style="width:{part:.2f}%"></i><i class=handler'
        f' style="width:{100 - part:.2f}%"></i></div>'
        f"<p>guest {guest:,} {escape(unit)} ({part:.1f} %),"
        f" hypervisor {handler:,} {escape(unit)} ({100 - part:.1f} %)</p>"
    )


def _reason_rows(rows: Sequence[Row], palette: _Palette) -> Iterator[list[str]]:
    total = sum(row.exits for row in rows)
    for row in rows:
        yield [f'<i class="c{palette.of(row.key)}"></i>{escape(row.key)}', *_costs(row, total)]


def _address_rows(events: Iterable[Event], exits: Sequence[Event], symbol: Symbol) -> Iterator[list[str]]:
    reasons: dict[str, Counter[str]] = {}
    for event in exits:
        if event.guest_rip is not None:
            reasons.setdefault(f"{event.guest_rip:#x}", Counter())[_reason(event)] += 1
    for row in summarise(events, "rip").rows[:_ADDRESSES]:
        reason = reasons[row.key].most_common(1)[0][0]
        yield [row.key, escape(symbol(int(row.key, 16))), escape(reason), *_costs(row, len(exits))]


def _slowest_rows(events: Iterable[Event], symbol: Symbol) -> Iterator[list[str]]:
    handled = [
        (stretch.instructions, stretch.exit)
        for stretch in stretches(events)
        if isinstance(stretch, Handling) and stretch.instructions is not None
    ]
    for spent, event in sorted(handled, key=lambda item: -item[0])[:20]:
        rip = event.guest_rip
        where = ["", ""] if rip is None else [f"{rip:#x}", escape(symbol(rip))]
        yield [f"{event.icount:,}", escape(_reason(event)), *where, f"{spent:,}"]


def _failures(events: Iterable[Event]) -> str:
    lines = [
        f"<li>{event.icount:,}: {escape(event.kind)} {escape(_reason(event))} {escape(event.rule or '')}</li>"
        for event in events
        if event.kind in ("entry_failure", "vmfail")
    ]
    return f"<h2>Failures</h2><ul>{''.join(lines)}</ul>" if lines else ""


def _costs(row: Row, total: int) -> list[str]:
    share = f"{100 * row.exits / total:.1f}" if total else ""
    costs = ("", "", "") if row.handler_mean is None else (
        f"{row.handler_min:,}", f"{row.handler_mean:,.1f}", f"{row.handler_max:,}",
    )  # fmt: skip
    return [f"{row.exits:,}", share, f"{row.guest:,}", f"{row.handler:,}", *costs]


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]], unit: str) -> str:
    """Cells are HTML already. Columns of time name the unit."""
    timed = {"guest", "handler", "min", "mean", "max", "at"}
    head = "".join(
        f"<th>{escape(name)}{f' <small>{escape(unit)}</small>' if name in timed else ''}</th>"
        for name in heading
    )
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _reason(event: Event) -> str:
    return event.name or str(event.reason)
