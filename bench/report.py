"""The results as a table for people (Markdown whose columns are aligned, so that a terminal shows it too) and as JSON."""
from aims import figure, quartiles
from server import dump

REMARKS = {
    "full": "",
    "short": "**The short form: tables are smaller than their names say, and rounds are few.**",
    "tiny": "**A tiny run: it proves that the works work. Its figures mean nothing.**",
}


def table(head, rows):
    """A table of Markdown."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines)


def _spread(low, high):
    return "" if low == high else f"{figure(low)} - {figure(high)}"


def _aims(results):
    rows = []
    for work in results["works"]:
        title = work.get("title", work["work"])
        if "failed" in work:
            rows.append([title, "could not be measured", "", "", "", "", "", "FAILED"])
        for line in work.get("lines", []):
            met = {None: "", True: "met", False: "missed"}[line["met"]]
            unit = line["unit"] if line["unit"] != "times" else "x"
            rows.append([title, line["what"], line["against"], figure(line["value"]), unit, _spread(line["low"], line["high"]),
                         line["aim"], met])
            title = ""
    return table(["work", "side", "against", "value", "unit", "quartiles", "aim", ""], rows)


def _sides(results):
    rows = []
    for work in results["works"]:
        title = work.get("title", work["work"])
        for side, values in work.get("samples", {}).items():
            low, middle, high = quartiles(values)
            rows.append([title, side, figure(middle), work["unit"], _spread(low, high), str(len(values))])
            title = ""
    return table(["work", "side", "median", "unit", "quartiles", "rounds"], rows)


def _machine(results):
    machine = results["machine"]
    lines = [f"{machine['processor']}, {machine['cores']} cores, {machine['memory_mb']} MB, Linux {machine['kernel']}, "
             f"load average at the start {machine['load_average_at_start']}",
             results["versions"]["server"], f"emag_sync_guard {results['versions']['module']}, release build",
             f"{results['form']} form, {results['seconds']} s" + (", with the huge table" if results["huge"] else "")]
    return "\n".join(f"* {line}" for line in lines)


def _settings(results):
    said = [f"* {work['title']}: {', '.join(work['settings'])}" for work in results["works"] if work.get("settings")]
    return "Settings beside PostgreSQL's own defaults and the preloaded module:\n\n" + "\n".join(said) + "\n" if said else ""


def _failures(results):
    said = [f"* {work['work']}: {work['failed'].splitlines()[0]}" for work in results["works"] if "failed" in work]
    return "Could not be measured:\n\n" + "\n".join(said) + "\n" if said else ""


def write(results, folder):
    """results.json and results.md in the folder."""
    parts = ["# emag_sync_guard, measured", _machine(results),
             "Each value is the median of the rounds; what compares two sides compares them within each round.",
             _aims(results), "## Every side", _sides(results), _settings(results), _failures(results)]
    parts.insert(1, REMARKS[results["form"]])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.md").write_text("\n\n".join(part for part in parts if part) + "\n", encoding="utf-8")
    dump(folder / "results.json", results)
