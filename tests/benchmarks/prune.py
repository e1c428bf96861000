"""Structured pruning without training: multiply-accumulates against accuracy, by score, with and without repair.

Pictures for calibration are drawn from the training pictures, without their labels. Development (the default) judges on
other training pictures; `--split confirmation` judges on the test pictures, once, with what was chosen. `--model` takes
a float .tflite in place of the subject's own, such as one adapted to these pictures: what JPEGs cost the subject's own
is then not mixed with what pruning costs.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from _subjects import CONFIRMATION, DEVELOPMENT, Subject, labels, subjects
from _timing import host

from edgeloop.errors import GoalNotMetError
from edgeloop.graph import Graph
from edgeloop_converters.passes import prune

WAYS = {
    "L1 uniform, no repair": {"score": "l1", "repair": False},
    "L1 uniform, repair": {"score": "l1"},
    "reconstruction": {"score": "reconstruction"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", choices=("resnet8", "large", "kws"), default="resnet8")
    parser.add_argument("--model", type=Path, help="a float .tflite with the subject's inputs and outputs")
    parser.add_argument("--split", choices=(DEVELOPMENT, CONFIRMATION), default=DEVELOPMENT)
    parser.add_argument("--goals", type=float, nargs="+", default=[0.88, 0.75, 0.67, 0.5])
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--tile", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save", type=Path, help="a folder for the pruned models")
    parser.add_argument("--quick", action="store_true", help="one goal, few samples and pictures")
    args = parser.parse_args()
    if args.quick:
        args.goals, args.samples, args.images = args.goals[1:2] or args.goals, 64, 200
    with subjects([args.subject], args.split, args.images) as [subject]:
        measure(subject, args)


def measure(subject: Subject, args: argparse.Namespace) -> None:
    model = args.model.read_bytes() if args.model else subject.model
    test = subject.tests["samples" if args.subject == "kws" else "images"]
    drawn, _ = subject.draw(1, args.samples)
    samples = [(sample,) for sample in drawn]
    graph = Graph.read(model)
    whole = labels(model, test.inputs)
    right = float((whole == test.classes).mean())
    print(
        f"{subject.name}{f' ({args.model.name})' if args.model else ''}: {right:.2%} on {len(test.inputs)} samples of "
        f"the {args.split} split, {len(samples)} calibration samples, tile {args.tile}, {args.threads} thread(s); "
        f"{host()}"
    )
    print("| MACs | way | accuracy | points | agrees | bytes | CPU s | wall s |\n|---|---|---|---|---|---|---|---|")
    for goal in args.goals:
        for way in args.ways:
            began, cpu = time.perf_counter(), time.process_time()
            try:
                pruned = pruned_by(graph, way, goal, samples, args)
            except GoalNotMetError as error:
                print(f"| {goal:.2f} | {way} | {error.message} | | | | | |")
                continue
            wall, used = time.perf_counter() - began, time.process_time() - cpu
            file, report = pruned[0].write(), pruned[1]
            got = labels(file, test.inputs)
            accuracy = float((got == test.classes).mean())
            print(
                f"| {report.after['macs'] / report.before['macs']:.3f} | {way} | {accuracy:.2%} | "
                f"{100 * (accuracy - right):+.2f} | {(got == whole).mean():.2%} | {len(file):,} | "
                f"{used:.1f} | {wall:.1f} |",
                flush=True,
            )
            if args.save:
                args.save.mkdir(parents=True, exist_ok=True)
                (args.save / f"{args.subject}_{goal:.2f}_{way.replace(' ', '_').replace(',', '')}.tflite").write_bytes(
                    file
                )


def pruned_by(graph, way, goal, samples, args):  # type: ignore[no-untyped-def]
    """Uniform ways by the smallest amount that meets the goal, in steps of 1/64."""
    options = {"samples": samples, "tile": args.tile, "threads": args.threads, **WAYS[way]}
    if "uniform" not in way:
        return prune(graph, goal=goal, **options)
    from edgeloop_converters.passes.pruning import plan_prune

    for step in range(1, 64):
        plan = plan_prune(graph, amount=step / 64, score="l1", tile=args.tile)
        if plan.after["macs"] <= goal * plan.before["macs"]:
            return prune(graph, amount=step / 64, **options)
    raise GoalNotMetError(f"{goal:.2f} of the MACs cannot be reached in steps of {args.tile} channels")


if __name__ == "__main__":
    main()
