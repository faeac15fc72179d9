"""Probes as tables, a figure and a page, made from a probe's folder alone."""

from dasd_bench.reporting.probe.figures import probe_figures
from dasd_bench.reporting.probe.page import probe_page
from dasd_bench.reporting.probe.tables import probe_tables

__all__ = ["probe_figures", "probe_page", "probe_tables"]
