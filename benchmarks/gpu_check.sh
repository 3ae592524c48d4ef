#!/bin/sh
# Checks that need a GPU, in at most 8 minutes on a machine with a driver and Python 3.11: benchmarks/gpu_check.sh FOLDER
# DEVICE=cpu runs the same parts, with short settings, on a machine without a GPU. PYTHON is the Python to start from.
set -eu
PYTHON=${PYTHON:-python3}
"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "traceTorch needs Python 3.11 or newer: set PYTHON")'
exec "$PYTHON" "$(dirname "$0")/gpu_check.py" --device "${DEVICE:-cuda}" "$@"
