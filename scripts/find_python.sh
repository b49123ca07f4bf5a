#!/bin/sh
# Print the path of a Python that is new enough, has venv, and really runs: a pyenv shim may be on PATH and fail.
#
#   scripts/find_python.sh [PYTHON]
#
# Tried in turn: the argument, if there is one, and then nothing else; pyenv's version named in .python-version;
# python3.14, 3.13, 3.12 and python3 on PATH.

usable() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1
}

if [ -n "${1:-}" ]; then
    if usable "$1"; then
        command -v "$1"
        exit 0
    fi
    echo "PYTHON=$1 does not run, is older than 3.12, or has no venv module." >&2
    exit 1
fi

wanted=$(cat "$(dirname "$0")/../.python-version")
for candidate in "${PYENV_ROOT:-$HOME/.pyenv}/versions/$wanted"/bin/python \
    "${PYENV_ROOT:-$HOME/.pyenv}/versions/$wanted".*/bin/python \
    python3.14 python3.13 python3.12 python3; do
    if usable "$candidate"; then
        command -v "$candidate"
        exit 0
    fi
done

cat >&2 <<MESSAGE
No Python >= 3.12 with the venv module found (tried pyenv's $wanted, python3.14, python3.13, python3.12, python3).
Install one, for instance with \`pyenv install $wanted\`, or name one: make PYTHON=/path/to/python ...
MESSAGE
exit 1
