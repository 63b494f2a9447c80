"""What the figures say: medians, intervals, and tables for a terminal and for docs/performance.md."""
import random
import statistics

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
RESAMPLES = 10_000


def median_interval(values):
    """The median and its 95 % interval by the percentile bootstrap (Efron and Tibshirani, An Introduction to the
    Bootstrap, chapter 13). Seeded: the same figures give the same interval."""
    draw = random.Random(1)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(RESAMPLES))
    low, high = medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES) - 1]
    return statistics.median(values), low, high


def ratios(rows, key):
    """Ours over the better peer of the same round, one a round."""
    peers = [name for name in rows if name != "terrace"]
    best = [min(rows[name][number][key] for name in peers) for number in range(len(rows["terrace"]))]
    return [row[key] / other for row, other in zip(rows["terrace"], best)]


def cpu_table(result, titles):
    header = ["load", *(f"{title}, µs" for title in titles.values()), *(f"{title}, requests/s" for title in titles.values())]
    ours = "terrace" in titles
    table = [header + (["Terrace / better peer (95 %)"] if ours else [])]
    for one in result["cpu"]:
        rows = one["rows"]
        line = [one["title"]]
        line += [f"{_median(rows[name], 'cpu_us_per_request'):.1f}" for name in titles]
        line += [f"{_median(rows[name], 'requests_per_s'):,.0f}" for name in titles]
        if ours:
            middle, low, high = median_interval(ratios(rows, "cpu_us_per_request"))
            line.append(f"**{middle:.2f}** ({low:.2f}–{high:.2f})")
        table.append(line)
    return table


def count_table(result, titles):
    table = [["a request costs", *titles.values()]]
    for key, title, form in (
        ("instructions", "instructions in user space", "{:,.0f}"),
        ("syscalls", "system calls", "{:.2f}"),
    ):
        if result.get(key):
            table.append([title, *(_cell(result[key], name, "per_request", form) for name in titles)])
    return table


def frequent_calls(result, titles):
    lines = []
    for name, title in titles.items():
        calls = result.get("syscalls", {}).get(name, {}).get("by_name", {})
        shown = ", ".join(f"{call} {count:.2f}" for call, count in list(calls.items())[:6])
        if shown:
            lines.append(f"- {title}: {shown}")
    return lines


def memory_table(result, titles):
    count = max(one["connections"] for one in result["idle"].values())
    table = [["idle keep-alive connections", *titles.values()]]
    table.append([f"{count:,}, KiB each", *(_cell(result["idle"], name, "bytes_per_connection", "{:.1f}", 1024) for name in titles)])
    table.append(["before any, MiB", *(_cell(result["idle"], name, "before_bytes", "{:.1f}", 1 << 20) for name in titles)])
    return table


def _cell(by_name, name, key, form, unit=1):
    return form.format(by_name[name][key] / unit) if name in by_name else "–"


def _median(rows, key):
    return statistics.median(row[key] for row in rows)


def terminal(table):
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = []
    for row in table:
        cells = [cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in enumerate(zip(row, widths))]
        lines.append("  ".join(cells).replace("**", ""))
    return "\n".join(lines)


def markdown(table):
    rule = ["---"] + ["---:"] * (len(table[0]) - 1)
    return "\n".join("| " + " | ".join(row) + " |" for row in [table[0], rule, *table[1:]])


def section(result, titles):
    """The part of docs/performance.md that a run writes."""
    machine = result["machine"]
    parts = [
        BEGIN,
        "<!-- Written by bench/proxy_cost.py; what is changed by hand here is lost. -->",
        f"Measured {result['date']} by `{result['command']}` on {machine['cpu']}, {machine['cores']} cores, "
        f"Linux {machine['kernel']}. {', '.join(result['versions'].values())}.",
    ]
    if result["cpu"]:
        parts += [
            "### CPU time of a proxied request",
            f"Median of {result['rounds']} rounds of {result['seconds']} s; the ratio is taken within each round, "
            "its 95 % interval by bootstrap.",
            markdown(cpu_table(result, titles)),
        ]
    if result.get("instructions") or result.get("syscalls"):
        parts += ["### Counted exactly", markdown(count_table(result, titles))]
        parts += ["The most frequent system calls a request:", "\n".join(frequent_calls(result, titles))]
    if result.get("idle"):
        parts += ["### Memory of idle connections", markdown(memory_table(result, titles))]
    return "\n\n".join(part for part in [*parts, END] if part)


def put_section(document, text, marks=(BEGIN, END)):
    """The document with what stands between the marks replaced."""
    before, begin, rest = document.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise ValueError(f"the document has no {marks[0]} … {marks[1]}")
    return before + text + after
