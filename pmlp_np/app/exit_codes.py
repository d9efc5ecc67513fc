"""Exit codes of `pmlp`. 0: done. USER_ERROR: the data, a file or the machine is in the way. USAGE_ERROR: the command
line is not understood. INTERRUPTED: by Ctrl-C, as a shell reports it.
"""

from __future__ import annotations

USER_ERROR, USAGE_ERROR, INTERRUPTED = 1, 2, 130
