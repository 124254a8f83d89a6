"""The pictures, as SVG with text as text, so that the same figures give the same files."""
import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plot  # noqa: E402
import numpy  # noqa: E402

from . import closed_forms, mass_death, tables  # noqa: E402
from .worlds import WORLDS  # noqa: E402

COLOURS = ["#1f5fa8", "#c8501e", "#3b8a3e", "#8a4fa0", "#8a6d1a", "#222222"]
LINES = ["-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 4))]


# What lies lower is not shown.
LEAST = 1e-4


def name_of(name, rates):
    return name if max(rates) > LEAST else f"{name} (lower)"


def begin(title, across, up):
    figure, axes = plot.subplots(figsize=(8.6, 4.2))
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.grid(True, which="major", linewidth=0.4, color="#cccccc")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def end(figure, axes, folder, name):
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.tight_layout()
    figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
    plot.close(figure)
    # Matplotlib leaves blanks at the ends of lines.
    file = folder / f"{name}.svg"
    file.write_text("\n".join(line.rstrip() for line in file.read_text().splitlines()) + "\n")


def false_by_ttl(study, folder):
    figure, axes = begin("Living workers taken for dead (four beats in a ttl, tried again after 2 s)", "ttl, seconds",
                         "times per worker and year")
    ttls = numpy.geomspace(10.0, 600.0, 60)
    for (name, (_, world)), colour, line in zip(WORLDS.items(), COLOURS, LINES):
        rates = [closed_forms.lapses(world.beating(ttl / 4.0, 2.0), ttl) * tables.YEAR for ttl in ttls]
        axes.plot(ttls, rates, color=colour, linestyle=line, label=name_of(name, rates))
        seen = study.silences(name, 15.0, 2.0).lapses(tables.TTL)
        if seen > 0:
            axes.plot([tables.TTL], [seen * tables.YEAR], "o", color=colour, markersize=5)
    axes.axvline(tables.TTL, color="#888888", linewidth=0.8)
    axes.annotate("default; dots: simulated", (tables.TTL, 2e-4), xytext=(4, 0), textcoords="offset points", fontsize=8,
                  color="#555555")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(LEAST, 1e4)
    axes.set_xticks([10, 15, 30, 60, 120, 300, 600], ["10", "15", "30", "60", "120", "300", "600"])
    axes.minorticks_off()
    end(figure, axes, folder, "false-by-ttl")


def detection(study, folder):
    figure, axes = begin("From a worker's death until every reader is told", "seconds", "share of deaths")

    def line_of(seen, **look):
        shares = numpy.linspace(0.0, 1.0, 101)
        axes.plot(numpy.quantile(seen, shares), shares, **look)

    line_of(study.lost_host(), color="#222222", label="bound, host lost")
    for ttl, colour, line in zip(tables.TTLS[:4], COLOURS, LINES):
        told = study.delays(WORLDS["calm"][1].beating(ttl / 4.0), ttl).told
        line_of(told, color=colour, linestyle=line, label=f"heartbeats, ttl {ttl:g} s")
    closed = study.delays(WORLDS["calm"][1].beating(15.0), 60.0).closed
    line_of(closed, color="#999999", label="ttl 60 s, row closed\nby a sweep a minute")
    axes.set_xlim(0, 125)
    end(figure, axes, folder, "detection")


def trade_off(_study, folder):
    figure, axes = begin("The price of being told soon (ttl 10 s to 300 s)", "mean time from death until told, seconds",
                         "living taken for dead, per worker and year")
    ttls = numpy.geomspace(10.0, 300.0, 50)
    for name, colour in zip(("calm", "crowded", "broken line"), COLOURS):
        for (beats, retry), line in zip(((3.0, None), (4.0, None), (4.0, 2.0)), LINES):
            worlds = [WORLDS[name][1].beating(ttl / beats, retry) for ttl in ttls]
            rates = [closed_forms.lapses(world, ttl) * tables.YEAR for world, ttl in zip(worlds, ttls)]
            label = f"{name}, {beats:g} a ttl" + (", again" if retry else "")
            axes.plot([closed_forms.mean_told(world, ttl) for world, ttl in zip(worlds, ttls)], rates, color=colour, linestyle=line,
                      label=name_of(label, rates))
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(LEAST, 1e4)
    axes.set_xticks([10, 20, 50, 100, 200], ["10", "20", "50", "100", "200"])
    axes.minorticks_off()
    end(figure, axes, folder, "trade-off")


def mass_deaths(study, folder):
    figure, axes = begin("All workers cut off for 90 s: rows of the living that are closed", "seconds between two sweeps",
                         "share of rows, mean")
    names = {"none": "nothing held", "lapsed": "weighed by the lapsed\n(until 1.0)", "silent": "the rule: weighed by\nhalf the ttl"}
    for weighing, colour, line in zip(mass_death.WEIGHINGS, COLOURS, LINES):
        shares = [study.cut(weighing, sweep, 90.0, 1.0)[0] for sweep in tables.SWEEPS]
        axes.plot(tables.SWEEPS, shares, marker="o", markersize=4, color=colour, linestyle=line, label=names[weighing])
    axes.set_xscale("log")
    axes.set_xticks(tables.SWEEPS, [f"{sweep:g}" for sweep in tables.SWEEPS])
    axes.minorticks_off()
    axes.set_ylim(-0.03, 1.05)
    end(figure, axes, folder, "mass-death")


def draw(study, folder):
    plot.rcParams.update({"svg.hashsalt": "emag_sync_guard", "svg.fonttype": "none", "font.family": "sans-serif"})
    for picture in (false_by_ttl, detection, trade_off, mass_deaths):
        picture(study, folder)
