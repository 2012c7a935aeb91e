"""Tests, each in a folder of its own."""

import os
import signal

# A shell lets its background jobs ignore Ctrl-C, and their children would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Two processes test at once, and networks this small are faster on one thread each.
for _threads in ("OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(_threads, "1")
