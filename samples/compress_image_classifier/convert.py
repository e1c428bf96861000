"""Compress the digits classifier: as it is, by --optimize, and by a recipe of five passes; the Pareto front of all.

    python samples/compress_image_classifier/convert.py -o build/compress_image_classifier

Writes the bundles, `pareto.svg` and a table. Passes that train need Keras: scripts/setup. Half a minute on 2 cores.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np

import edgeloop as el
from edgeloop.analysis import analyze
from edgeloop.graph import Graph
from edgeloop.progress import SilentProgress
from edgeloop_converters.demo.digits import load_split
from edgeloop_converters.pipeline import convert
from edgeloop_converters.recipe_reading import load_recipe
from edgeloop_converters.report.charts import Point, scatter_chart
from edgeloop_converters.report.charts.scatter import pareto_front
from edgeloop_converters.result import ConvertResult

GOALS = el.Goals(max_drop=0.02)
STYLE = """<style>text{font:12px sans-serif;fill:#333}.grid{stroke:#ddd}.axis{stroke:#888}.point{fill:#2563eb}
.front{fill:none;stroke:#2563eb;stroke-dasharray:4 3}.beaten{fill:#fff;stroke:#2563eb}.allowed{fill:#dcfce7}
.limit{stroke:#16a34a}.good{fill:#166534}</style>"""


class Told(SilentProgress):
    """Prints what is tried and why, while it is tried."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        print(f"{name}: converting", flush=True)

    def note(self, text: str) -> None:
        super().note(text)
        if text.startswith(("strategy", "trial", "ablation")):
            print(f"{self.name}: {text}", flush=True)


def kept(name: str, result: ConvertResult) -> ConvertResult:
    """The same; its bundle is written."""
    if not result.gate.passed:
        raise SystemExit(f"{name}: " + "; ".join(result.gate.reasons))
    result.bundle.save(f"{name}.bundle")
    return result


def write_inputs() -> None:
    """The float model that ships with edgeloop, and the digits: 1,200 scans to learn from, 597 held out."""
    with resources.as_file(resources.files("edgeloop_converters.demo") / "digits.tflite") as packaged:
        shutil.copyfile(packaged, "digits.tflite")
    split, names = load_split(), np.array(list("0123456789"))
    np.savez_compressed("train.npz", x=split.train_images, y=split.train_labels, label_names=names)
    np.savez_compressed("held_out.npz", x=split.held_out_images, y=split.held_out_labels, label_names=names)


def points_of(name: str, result: ConvertResult) -> list[tuple[Point, int]]:
    """Every variant of a bundle as (size against accuracy, MACs)."""
    found = []
    for variant in result.variants:
        accuracy = variant.quality.metrics.this
        if accuracy is None or variant.scheme == "float":
            continue
        shown = f"{name} {variant.name}" if len(result.variants) > 1 else name
        found.append((Point(shown, len(variant.model) / 1000, accuracy), analyze(Graph.read(variant.model)).macs))
    return found


def show(points: Sequence[tuple[Point, int]], least: float) -> None:
    """The table, and `pareto.svg`."""
    front = pareto_front([point for point, _ in points])
    print(f"{'model':24}{'kB':>8}{'MACs':>10}{'top-1':>9}  front")
    for point, macs in points:
        mark = "*" if point in front else ""
        print(f"{point.name:24}{point.cost:8.1f}{macs:10,}{point.quality:9.2%}  {mark}".rstrip())
    chart = scatter_chart(
        "Size against accuracy", [point for point, _ in points], "kB", "top-1", show_x=lambda kb: f"{kb:g} kB",
        least_quality=least,
    )  # fmt: skip
    picture = str(chart).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    Path("pareto.svg").write_text(picture.replace("<title>", f"{STYLE}<title>", 1), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("build/compress_image_classifier"))
    parser.add_argument("--target", default="rpi4")
    parser.add_argument("--optimize", default="size", choices=("balanced", "size", "latency"))
    args = parser.parse_args()
    if importlib.util.find_spec("tensorflow") is None:
        raise SystemExit("this sample needs TensorFlow -> scripts/setup")
    args.output.mkdir(parents=True, exist_ok=True)
    recipe = Path(__file__).with_name("recipe.toml").resolve()
    os.chdir(args.output)
    write_inputs()

    files = {"data": "train.npz", "evaluate": "held_out.npz", "goals": GOALS, "target": args.target}
    name = "digits-plain"
    plain = kept(name, el.convert("digits.tflite", name=name, progress=Told(name), **files))
    name = "digits-small"
    small = kept(name, el.convert("digits.tflite", name=name, optimize=args.optimize, progress=Told(name), **files))
    shutil.copyfile(recipe, "recipe.toml")
    name = "digits-recipe"
    by_hand = kept(name, convert(load_recipe(Path("recipe.toml")), progress=Told(name)))
    small.write_report(Path.cwd())

    metrics = plain.variants[0].quality.metrics
    source = Path("digits.tflite")
    whole = Point("float", source.stat().st_size / 1000, metrics.float_ or 0.0, is_reference=True)
    rows = [(whole, analyze(Graph.read(source)).macs), *points_of("int8", plain), *points_of("--optimize", small)]
    show([*rows, *points_of("recipe", by_hand)], whole.quality - (GOALS.max_drop or 0.0))
    print(f"{args.output}: 3 bundles, pareto.svg, report.html")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("interrupted: what was converted until now is in the output folder") from None
