# SPDX-License-Identifier: Apache-2.0
"""`python -m inception_tf` is `inception-tf`."""

import sys

from inception_tf.cli import main

if __name__ == "__main__":
    sys.exit(main())
