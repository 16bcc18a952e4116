# shellcheck shell=bash
# The Python package in a virtual environment of its own: for scripts that test or measure it. The caller
# is in the root of the tree.

python_venv=$PWD/.tools/python-venv

# Whether the package can be built here; a sentence if not, which is a failure with CI=true.
can_build_python() {
    local missing=
    if ! command -v python3 >/dev/null; then
        missing="python3 is not installed"
    elif ! command -v cc >/dev/null; then
        missing="there is no C compiler"
    elif ! python3 -c 'import os, sysconfig as s; os.stat(s.get_paths()["include"] + "/Python.h")' 2>/dev/null; then
        missing="Python.h is missing (the package python3-dev)"
    fi
    [ -n "$missing" ] || return 0
    echo "$(basename "$0"): $missing: the Python package is neither built nor tested" >&2
    [ "${CI:-}" != true ] || exit 1
    return 1
}

# The tools and clients of tests, made anew when the pins or the interpreter change.
have_python_venv() {
    local pins=tests/picows/requirements.txt stamp
    stamp=$({ cat "$pins"; python3 -VV; echo "$python_venv"; } | sha256sum | cut -d ' ' -f 1)
    if [ "$(cat "$python_venv/stamp" 2>/dev/null)" = "$stamp" ]; then
        return 0
    fi
    echo "$(basename "$0"): installing the tools of the Python package into .tools/python-venv"
    rm -rf "$python_venv"
    python3 -m venv "$python_venv"
    "$python_venv/bin/pip" install --quiet --disable-pip-version-check -r "$pins"
    echo "$stamp" >"$python_venv/stamp"
}

# Builds the extension module in place, with the library of a cargo profile (default: dev).
build_python() {
    local profile=${1:-dev}
    # It looks new enough to setuptools when it is that of another profile.
    if [ "$(cat "$python_venv/profile" 2>/dev/null)" != "$profile" ]; then
        rm -f python/picows_uring/*.so
        echo "$profile" >"$python_venv/profile"
    fi
    (
        cd python
        PICOWS_URING_C_PROFILE=$profile "$python_venv/bin/python" setup.py --quiet build_ext --inplace
    ) >"$python_venv/build.log" 2>&1 || {
        cat "$python_venv/build.log" >&2
        return 1
    }
}
