#!/usr/bin/env bash
# Common part of scripts with foreign clients and servers against ours. Sourced, from the top folder;
# wants `tools` (an absolute folder) and `locked` (arguments for cargo).
# shellcheck disable=SC2154

# The versions that the tests were written for.
websocat_version=1.14.1
node_ws_version=8.23.0
node_undici_version=6.29.1

# Starts a server in the background, and sets `server_url`, without a slash at its end, once it listens.
# $1: a file for what it prints; then the flags of scripts/lib/server.py, --, and the command.
start_server() {
    local log=$1
    shift
    # The end of its input, which comes with the end of this script, ends the server as well.
    coproc SERVER { exec python3 scripts/lib/server.py --log "$log" "$@"; }
    server_process=$SERVER_PID
    if ! read -r server_url <&"${SERVER[0]}"; then
        # Bash knows of one coprocess only: that it ended must be seen before the next one begins.
        stop_server || true
        return 1
    fi
    server_url=${server_url%/}
}

# Waits for the server to end by itself, as long as $1 tenths of a second.
await_server() {
    local _
    for _ in $(seq "$1"); do
        kill -0 "$server_process" 2>/dev/null || return 0
        sleep 0.1
    done
    return 1
}

# Ends the server, if there is one, and returns its status.
stop_server() {
    local process=${server_process:-}
    server_process=
    if [ -n "$process" ]; then
        kill "$process" 2>/dev/null || true
        wait "$process"
    fi
}

# Finds websocat in $tools/bin, or compiles it there, one script at a time. Its TLS is that of the system's
# OpenSSL.
install_websocat() {
    (
        flock 9
        features=unix_stdio,signal_handler,tokio-process,ssl stamp=$tools/bin/websocat.stamp
        if [ "$(cat "$stamp" 2>/dev/null)" = "$websocat_version $features" ] && [ -x "$tools/bin/websocat" ]; then
            exit 0
        fi
        echo "compiling websocat $websocat_version into .tools/bin" >&2
        status=0
        # --force: one of other features may be there.
        CARGO_TARGET_DIR=$tools/websocat-target cargo install --quiet --force --root "$tools" --locked \
            --version "$websocat_version" --no-default-features --features "$features" websocat || status=$?
        rm -rf "$tools/websocat-target"
        [ "$status" -ne 0 ] || echo "$websocat_version $features" >"$stamp"
        exit "$status"
    ) 9>"$tools/websocat.lock"
}

# Finds the Node packages ws and undici in $tools/node, or installs them there.
install_node_clients() {
    local modules=$tools/node/node_modules
    if grep -q "\"version\": \"$node_ws_version\"" "$modules/ws/package.json" 2>/dev/null &&
        grep -q "\"version\": \"$node_undici_version\"" "$modules/undici/package.json" 2>/dev/null; then
        return 0
    fi
    npm install --silent --no-audit --no-fund --prefix "$tools/node" \
        "ws@$node_ws_version" "undici@$node_undici_version"
}

# The folder that builds go to.
target_folder() {
    cargo metadata --no-deps --format-version 1 |
        python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])'
}

# Sets PICOWS_STATIC_BIN to a static build, unless it names a binary already: for the image from scratch.
build_static() {
    if [ -z "${PICOWS_STATIC_BIN:-}" ]; then
        local host
        host=$(rustc -vV | sed -n 's/^host: //p')
        # With the target named, build scripts and procedural macros are not linked statically.
        RUSTFLAGS='-C target-feature=+crt-static' \
            cargo build "${locked[@]}" --target "$host" -p picows-cli || return 1
        PICOWS_STATIC_BIN=$(target_folder)/$host/debug/picows
    fi
    PICOWS_STATIC_BIN=$(realpath "$PICOWS_STATIC_BIN")
    export PICOWS_STATIC_BIN
}

# Sets PICOWS_BIN to a release build, unless it names a binary already.
build_picows() {
    if [ -z "${PICOWS_BIN:-}" ]; then
        cargo build "${locked[@]}" --release -p picows-cli
        PICOWS_BIN=$(target_folder)/release/picows
    fi
    PICOWS_BIN=$(realpath "$PICOWS_BIN")
    export PICOWS_BIN
}

# Sets PICOWS_BIN, and PICOWS_EXAMPLES to the folder of examples, to builds with debug assertions, as
# the Rust tests have left most of them; unless they name something already.
build_with_assertions() {
    if [ -z "${PICOWS_BIN:-}" ] || [ -z "${PICOWS_EXAMPLES:-}" ]; then
        # The whole workspace, so that its dependencies have the features they had there.
        cargo build "${locked[@]}" --workspace --bins --examples
        PICOWS_BIN=${PICOWS_BIN:-$(target_folder)/debug/picows}
        PICOWS_EXAMPLES=${PICOWS_EXAMPLES:-$(target_folder)/debug/examples}
    fi
    PICOWS_BIN=$(realpath "$PICOWS_BIN")
    PICOWS_EXAMPLES=$(realpath "$PICOWS_EXAMPLES")
    export PICOWS_BIN PICOWS_EXAMPLES
}
