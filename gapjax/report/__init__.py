"""What a person looks at after a run: one HTML page that asks for nothing else."""

from gapjax.report.write import write_report

__all__ = ["write_report"]
