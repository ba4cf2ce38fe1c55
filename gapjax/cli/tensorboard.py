"""The numbers of a run for TensorBoard."""

from __future__ import annotations

from pathlib import Path

from gapjax.errors import UserError
from gapjax.selfimprove import Event, Judged, Measured, Selected, Trained


def check_installed() -> None:
    """Make sure that TensorBoard can be written for.

    **Raises:** `UserError` if its package is not there.
    """
    try:
        import tensorboardX  # noqa: F401
    except ModuleNotFoundError as error:
        raise UserError(
            "tensorboardX is not installed",
            where="--tensorboard",
            hint="pip install 'gapjax[tensorboard]'",
        ) from error


class TensorBoard:
    """Writes events of a run under the optimizer step at which they came.

    **Arguments:**

    - `folder`: for the event files; `step`: of the run so far. What a run that was cut short
        wrote beyond it is hidden.
    """

    def __init__(self, folder: Path, *, step: int) -> None:
        from tensorboardX import SummaryWriter

        self._step = step
        self._writer = SummaryWriter(str(folder), purge_step=step or None, flush_secs=10)

    def write(self, event: Event) -> None:
        """Record one event."""
        values: dict[str, float] = {}
        match event:
            case Trained():
                self._step = event.step
                values = {"train/loss": event.loss, "train/gradient_norm": event.gradient_norm}
            case Measured():
                values = {f"probe/{name}": value for name, value in event.metrics.items()}
                values["epoch"] = event.epoch
            case Selected():
                values = {f"round/{name}": value for name, value in event.metrics.items()}
                values["round/external_share"] = event.external_share
            case Judged() if event.outlook is not None:
                q05, q50, q95 = (event.outlook.limit[q] for q in ("q05", "q50", "q95"))
                values = {"limit/q05": q05, "limit/q50": q50, "limit/q95": q95}
                values["limit/expected_gain"] = event.outlook.expected_gain
        for name, value in values.items():
            self._writer.add_scalar(name, value, self._step)

    def close(self) -> None:
        """Write out what is left."""
        self._writer.close()
