"""A run's report: one web page that holds the images, what was made, how fast, and what failed."""

from producer.report.write import write_report

__all__ = ["write_report"]
