"""A model that is finished, in a bundle: its contract is what data from the field can still contradict."""

from __future__ import annotations

from pathlib import Path

from edgeloop.bundle.files import is_bundle
from edgeloop.errors import UsageError
from edgeloop.progress import Progress
from edgeloop_converters.contracts import ContractFlags
from edgeloop_converters.recipe import Recipe
from edgeloop_converters.subjects import Subject, open_subject


def finished_model(recipe: Recipe, progress: Progress) -> Subject | None:
    """The bundle's first variant that this host can run; None where the source is a model still to be converted.

    Raises UsageError for contract flags beside a bundle and for shape buckets, RefusedError for one not trusted here.
    """
    path = Path(recipe.source)
    if not is_bundle(path):
        return None
    if recipe.contract is not None or recipe.contract_file or recipe.hints != ContractFlags():
        raise UsageError("a bundle brings its own contract; flags cannot change it", hint="check the model instead")
    subject = open_subject(path, None, allow_unsigned=False, trust_code=False, progress=progress)
    if subject.input_shapes:
        raise UsageError(
            f"{path}: a bundle with a variant for each shape is not checked", hint="check the model it was made from"
        )
    return subject
