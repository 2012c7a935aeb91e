"""`python -m keras_dqn`, the same command as `keras-dqn`; see `commands`."""

import sys

from keras_dqn.commands import main

if __name__ == "__main__":
    sys.exit(main())
