"""Reports of searches: one HTML file that says what was found, how good it is, how sure, and why."""

from pmlp_np.report.contents import report_contents

__all__ = ["report_contents"]
