#!/usr/bin/env bash
# What scripts share that run foreign clients against our server. Sourced, from the top folder;
# wants `tools` (an absolute folder) and `locked` (arguments for cargo).
# shellcheck disable=SC2154

# The version that the tests were written for.
websocat_version=1.14.1

# Finds websocat in $tools/bin, or compiles it there: without TLS, which needs openssl and which no
# test here speaks.
install_websocat() {
    if [ "$("$tools/bin/websocat" --version 2>/dev/null)" = "websocat $websocat_version" ]; then
        return 0
    fi
    echo "compiling websocat $websocat_version into .tools/bin" >&2
    local status=0
    CARGO_TARGET_DIR=$tools/websocat-target cargo install --quiet --root "$tools" --locked \
        --version "$websocat_version" --no-default-features --features unix_stdio,signal_handler,tokio-process \
        websocat || status=$?
    rm -rf "$tools/websocat-target"
    return "$status"
}

# Sets PICOWS_BIN to a release build, unless it names a binary already.
build_picows() {
    if [ -n "${PICOWS_BIN:-}" ]; then
        PICOWS_BIN=$(realpath "$PICOWS_BIN")
    else
        cargo build "${locked[@]}" --release -p picows-cli -p examples --bins --examples
        PICOWS_BIN=$(cargo metadata --no-deps --format-version 1 |
            python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')/release/picows
    fi
    export PICOWS_BIN
}
