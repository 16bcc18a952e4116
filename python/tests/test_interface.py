"""The interface of picows 2.3: each of its names, with its parameters, defaults and bases."""

import enum
import pickle
import sys
import inspect

import pytest

import picows_uring as picows

COMMON = {
    "disconnect_on_exception": True,
    "websocket_handshake_timeout": 5,
    "logger_name": None,
    "enable_auto_ping": False,
    "auto_ping_strategy": picows.WSAutoPingStrategy.PING_WHEN_IDLE,
    "enable_auto_pong": True,
    "max_frame_size": 10 * 1024 * 1024,
    "read_buffer_init_size": 16 * 1024,
    "use_aiofastnet": None,
}
CONNECT = {
    **COMMON,
    "ssl_context": None,
    "auto_ping_idle_timeout": 10,
    "auto_ping_reply_timeout": 10,
    "extra_headers": None,
    "max_redirects": 5,
    "proxy": None,
    "proxy_ssl_context": None,
    "socket_factory": None,
}
CREATE_SERVER = {**COMMON, "auto_ping_idle_timeout": 20, "auto_ping_reply_timeout": 20}
# What this package has besides.
OWN = {
    "ws_connect": {"engine", "compression"},
    "ws_create_server": {"engine", "compression", "proxy_protocol", "trusted_proxies", "origins"},
}


@pytest.mark.parametrize(
    ("name", "positional", "keywords"),
    [
        ("ws_connect", ["ws_listener_factory", "url"], CONNECT),
        ("ws_create_server", ["ws_listener_factory", "host", "port"], CREATE_SERVER),
    ],
)
def test_functions_take_the_same_arguments(name, positional, keywords):
    function = getattr(picows, name)
    assert inspect.iscoroutinefunction(function)
    parameters = inspect.signature(function).parameters
    kinds = {kind: [it.name for it in parameters.values() if it.kind == kind] for kind in inspect._ParameterKind}
    assert kinds[inspect.Parameter.POSITIONAL_OR_KEYWORD] == positional
    assert kinds[inspect.Parameter.VAR_KEYWORD] == ["kwargs"]
    own = {it: parameters[it].default for it in kinds[inspect.Parameter.KEYWORD_ONLY]}
    assert {it: None for it in OWN[name]} == {it: own.pop(it) for it in OWN[name]}
    assert own == keywords


MEMBERS = {
    "WSListener": "on_ws_connected on_ws_frame on_ws_disconnected send_user_specific_ping "
    "is_user_specific_pong pause_writing resume_writing",
    "WSTransport": "underlying_transport request response close_handshake is_client_side is_secure "
    "is_close_frame_sent is_disconnected send send_reuse_external_bytearray send_ping send_pong "
    "send_close disconnect wait_disconnected measure_roundtrip_time "
    "notify_user_specific_pong_received",
    "WSFrame": "msg_type fin rsv1 rsv2 rsv3 last_in_buffer tail_size payload_size get_payload_as_bytes "
    "get_payload_as_utf8_text get_payload_as_ascii_text get_payload_as_memoryview get_close_code "
    "get_close_message get_close_reason",
    "WSCloseHandshake": "recv sent recv_then_sent",
    "WSCloseInfo": "code reason",
    "WSUpgradeResponse": "create_ok_response create_error_response create_redirect_response "
    "create_101_response to_bytes",
}


@pytest.mark.parametrize("name", MEMBERS)
def test_classes_have_the_same_members(name):
    missing = [it for it in MEMBERS[name].split() if not hasattr(getattr(picows, name), it)]
    assert missing == []


ENUMS = {
    "WSMsgType": {"CONTINUATION": 0, "TEXT": 1, "BINARY": 2, "CLOSE": 8, "PING": 9, "PONG": 10},
    "WSAutoPingStrategy": {"PING_WHEN_IDLE": 1, "PING_PERIODICALLY": 2},
    "WSCloseCode": {
        "NO_INFO": 0,
        "OK": 1000,
        "GOING_AWAY": 1001,
        "PROTOCOL_ERROR": 1002,
        "UNSUPPORTED_DATA": 1003,
        "ABNORMAL_CLOSURE": 1006,
        "INVALID_TEXT": 1007,
        "POLICY_VIOLATION": 1008,
        "MESSAGE_TOO_BIG": 1009,
        "MANDATORY_EXTENSION": 1010,
        "INTERNAL_ERROR": 1011,
        "SERVICE_RESTART": 1012,
        "TRY_AGAIN_LATER": 1013,
        "BAD_GATEWAY": 1014,
    },
}


@pytest.mark.parametrize("name", ENUMS)
def test_enums_have_the_same_values(name):
    members = getattr(picows, name)
    assert issubclass(members, enum.IntEnum)
    assert {it.name: int(it) for it in members} == ENUMS[name]


@pytest.mark.parametrize("name", ENUMS)
def test_members_of_enums_are_found_without_python(name):
    members = getattr(picows, name)
    calls = []
    sys.setprofile(lambda frame, event, _: calls.append(frame.f_code.co_name) if event == "call" else None)
    try:
        found = [getattr(members, it) for it in ENUMS[name]]
        missing = getattr(members, "NOT_THERE", None)
    finally:
        sys.setprofile(None)
    assert [it for it in calls if it.startswith("__get")] == []
    assert found == list(members.__members__.values()) and missing is None
    # An enum as any other.
    first = found[0]
    assert members[first.name] is members(int(first)) is pickle.loads(pickle.dumps(first)) is first
    with pytest.raises(AttributeError):
        setattr(members, first.name, 77)
    with pytest.raises(AttributeError):
        members.NOT_THERE


def test_exceptions_have_the_same_bases_and_fields():
    bases = {
        picows.WSError: Exception,
        picows.WSHandshakeError: picows.WSError,
        picows.WSInvalidMessageError: picows.WSHandshakeError,
        picows.WSInvalidStatusError: picows.WSHandshakeError,
        picows.WSInvalidHeaderError: picows.WSHandshakeError,
        picows.WSInvalidUpgradeError: picows.WSInvalidHeaderError,
        picows.WSProtocolError: picows.WSError,
        picows.WSInvalidURL: picows.WSError,
    }
    for exception, base in bases.items():
        assert issubclass(exception, base), (exception, base)
    handshake = picows.WSHandshakeError("text", b"head", b"body", None)
    assert (handshake.raw_header, handshake.raw_body, handshake.response) == (b"head", b"body", None)
    protocol = picows.WSProtocolError(picows.WSCloseCode.PROTOCOL_ERROR, "text")
    assert (protocol.code, protocol.message) == (picows.WSCloseCode.PROTOCOL_ERROR, "text")


def test_the_package_is_typed():
    from pathlib import Path

    folder = Path(picows.__file__).parent
    assert (folder / "py.typed").exists()
    stub = (folder / "picows.pyi").read_text()
    for name in ("WSListener", "WSTransport", "WSFrame"):
        missing = [it for it in MEMBERS[name].split() if f"def {it}(" not in stub]
        assert missing == []
