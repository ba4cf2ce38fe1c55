"""Job files for the machines that many hosts are rented on: rendered, never submitted."""

from gapjax.launch.job import Job, make_job
from gapjax.launch.render import TARGETS, render
from gapjax.launch.slices import SLICES, Slice, find_slice

__all__ = ["SLICES", "TARGETS", "Job", "Slice", "find_slice", "make_job", "render"]
