"""Figures of a training as TensorBoard's event files; TensorBoard itself is not needed to write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edgeloop.errors import UsageError
from edgeloop_converters.trainable.history import Epoch
from edgeloop_converters.trainable.imports import import_tensorflow


def event_writer(folder: Path) -> Callable[[Epoch], None]:
    """A function that adds an epoch's figures: training/loss, validation/loss and so on, and rate. Raises UsageError
    where the folder cannot be written to."""
    tf = import_tensorflow()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writer = tf.summary.create_file_writer(str(folder))
    except (OSError, tf.errors.OpError) as error:
        raise UsageError(
            f"cannot write TensorBoard's files to {folder}: {getattr(error, 'strerror', '') or error}"
        ) from error

    # tf.summary.scalar is the same, but asks for TensorBoard to be installed.
    scalars = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "scalars"})

    def write(epoch: Epoch) -> None:
        with writer.as_default(step=epoch.number):
            for name, value in epoch.figures().items():
                tf.summary.write(name.replace("_", "/", 1), tf.constant(value, tf.float32), metadata=scalars)
        writer.flush()

    return write
