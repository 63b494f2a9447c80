"""Curves over time as one SVG: a panel for each illness, a line for each proxy, readable in the dark too."""

WIDTH, PANEL, LEFT, RIGHT, TOP, BETWEEN, LEGEND = 880, 170, 64, 16, 34, 54, 30
# Told apart by people who see few colours (Okabe and Ito), and by their dashes.
LOOKS = {
    "terrace": ("#0072b2", "", 2.5),
    "haproxy-tuned": ("#009e73", "7 3", 1.5),
    "haproxy": ("#009e73", "2 3", 1.5),
    "nginx-tuned": ("#d55e00", "7 3", 1.5),
    "nginx": ("#d55e00", "2 3", 1.5),
}


def picture(panels, titles, slice_ms, phases, healthy):
    """`panels`: (words, {name: good answers a second, slice by slice}); `healthy`: what the well ones alone give."""
    height = TOP + len(panels) * (PANEL + BETWEEN) + LEGEND
    highest = 1.1 * max([healthy, *(value for _, lines in panels for line in lines.values() for value in line)])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif" font-size="12" role="img">',
        "<title>Good answers a second while three of ten endpoints are ill</title>",
        "<style>text{fill:#222}.g{stroke:#ccc}.b{fill:#fff}.i{fill:#d55e00;opacity:.08}.h{stroke:#888;stroke-dasharray:1 3}"
        "@media(prefers-color-scheme:dark){text{fill:#ddd}.g{stroke:#444}.b{fill:#111}.i{opacity:.18}}</style>",
        f'<rect class="b" width="{WIDTH}" height="{height}"/>',
    ]
    for number, (words, lines) in enumerate(panels):
        parts += panel(TOP + number * (PANEL + BETWEEN), words, lines, slice_ms, phases, healthy, highest)
    parts += legend(height - 14, titles)
    return "\n".join(parts + ["</svg>"]) + "\n"


def panel(top, words, lines, slice_ms, phases, healthy, highest):
    total_s = sum(phases)
    across = lambda seconds: LEFT + (WIDTH - LEFT - RIGHT) * seconds / total_s
    up = lambda value: top + PANEL * (1 - value / highest)
    parts = [
        f'<text x="{LEFT}" y="{top - 8}" font-weight="600">Three of ten {words}</text>',
        f'<rect class="i" x="{across(phases[0]):.1f}" y="{top}" width="{across(phases[0] + phases[1]) - across(phases[0]):.1f}" height="{PANEL}"/>',
    ]
    for value in range(0, int(highest) + 1, 500):
        parts.append(f'<line class="g" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(value):.1f}" y2="{up(value):.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{up(value) + 4:.1f}" text-anchor="end">{value:,}</text>')
    for second in range(0, total_s + 1, 5):
        parts.append(f'<text x="{across(second):.1f}" y="{top + PANEL + 16}" text-anchor="middle">{second} s</text>')
    parts.append(f'<line class="h" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(healthy):.1f}" y2="{up(healthy):.1f}"/>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{up(healthy) - 4:.1f}" text-anchor="end">the seven alone</text>')
    for name, line in sorted(lines.items(), key=lambda item: item[0] == "terrace"):
        colour, dashes, thickness = LOOKS[name]
        points = " ".join(f"{across((at + 0.5) * slice_ms / 1000):.1f},{up(value):.1f}" for at, value in enumerate(line))
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="{thickness}" stroke-dasharray="{dashes}" points="{points}"/>')
    return parts


def legend(at, titles):
    parts, left = [], LEFT
    for name, title in titles.items():
        colour, dashes, thickness = LOOKS[name]
        parts.append(f'<line x1="{left}" x2="{left + 28}" y1="{at - 4}" y2="{at - 4}" stroke="{colour}" stroke-width="{thickness}" stroke-dasharray="{dashes}"/>')
        parts.append(f'<text x="{left + 34}" y="{at}">{title}</text>')
        left += 50 + 7 * len(title) + 24
    return parts
