"""`python -m keras_dqn`, the same command as `keras-dqn`; see `cli`."""

import sys

from keras_dqn.cli import main

if __name__ == "__main__":
    sys.exit(main())
