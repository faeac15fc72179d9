"""One self-contained HTML page of runs; its template, style and scripts are files beside this one."""

from dasd_bench.reporting.report.page import report_page

__all__ = ["report_page"]
