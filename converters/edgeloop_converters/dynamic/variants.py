"""Variants of one model for a device to step among: the recipe's own, narrower ones, and its part up to each head."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edgeloop.errors import GoalNotMetError
from edgeloop.graph import Graph
from edgeloop.graph.parts import exit_heads, up_to
from edgeloop_converters.buckets import Basis
from edgeloop_converters.check_data.finding import Finding
from edgeloop_converters.measure import Candidate, Measuring
from edgeloop_converters.optimizing import with_validation
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.recipe_steps import EXITS, PRUNE, PassStep
from edgeloop_converters.trials import Export

_OTHER_AMOUNTS = ("amount", "threshold")
_FIRST = "optimize"


@dataclass(frozen=True)
class Variants:
    """candidates: the recipe's own first, which the target runs, then from the widest to the narrowest, then heads.

    made_by: what the first was exported from.
    """

    candidates: tuple[Candidate, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    made_by: Basis


def make_variants(basis: Basis, how: Measuring, export: Export) -> Variants:
    """Every width is trained as the recipe says; a head's variant is cut from the exported file, code for code.

    Some samples are kept to choose thresholds by; no pass learns from them. Raises as `export`.
    """
    basis = replace(basis, sources=with_validation(basis.sources, how.recipe.seed))
    own = replace(basis, recipe=replace(basis.recipe, widths=()))
    whole, findings = export(own)
    candidates, notes = [whole], list[str]()
    for share in sorted(basis.recipe.widths, reverse=True):
        try:
            narrow, more = export(replace(basis, recipe=narrowed(basis.recipe, share)))
        except GoalNotMetError as error:
            notes.append(f"width {share:.0%} is left out: {error.message}")
            how.progress.note(notes[-1])
            continue
        findings += more
        candidates.append(_named(narrow, f"{whole.exported.name}-w{round(100 * share)}"))
    graph = Graph.read(whole.exported.model)
    for head in exit_heads(graph):
        exported = replace(whole.exported, model=up_to(graph, head).write(), notes=(), passes=())
        candidates.append(_named(replace(whole, exported=exported), f"{whole.exported.name}-{head}"))
    return Variants(tuple(candidates), findings, tuple(notes), own)


def narrowed(recipe: Recipe, share: float) -> Recipe:
    """The recipe of a width: its first pruning goes to `share` of the cost, in place of what it says, and the only one.

    A recipe that prunes nothing gets a pruning behind the graph's simplification. Exit heads are the whole model's.
    """
    steps = [step for step in recipe.passes if step.name != EXITS]
    at = next((i for i, step in enumerate(steps) if step.name == PRUNE), None)
    if at is None:
        at = next((i for i, step in enumerate(steps) if step.name != _FIRST), len(steps))
        steps.insert(at, PassStep(PRUNE, {}))
    kept = {key: value for key, value in steps[at].options.items() if key not in _OTHER_AMOUNTS}
    before = steps[:at]
    behind = [step for step in steps[at + 1 :] if step.name != PRUNE]
    return replace(recipe, passes=(*before, PassStep(PRUNE, {**kept, "goal": share}), *behind), widths=())


def _named(candidate: Candidate, name: str) -> Candidate:
    notes = tuple(f"{name}: {note}" for note in candidate.exported.notes)
    return replace(candidate, exported=replace(candidate.exported, name=name, notes=notes), is_step=True)
