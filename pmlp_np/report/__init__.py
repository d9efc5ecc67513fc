"""Reports of searches: one HTML file that says what was found, how good it is, how sure, and why."""

from pmlp_np.report.assembly import report_contents
from pmlp_np.report.html_file import write_report

__all__ = ["report_contents", "write_report"]
