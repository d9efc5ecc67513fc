"""Exit codes of `pmlp`.

0: success. USER_ERROR: an error in the data, a file or the machine. USAGE_ERROR: an error in the command line.
INTERRUPTED: by Ctrl-C, with the code that shells use.
"""

from __future__ import annotations

USER_ERROR, USAGE_ERROR, INTERRUPTED = 1, 2, 130
