# cython: language_level=3
# cython: embedsignature=True
"""Connections of picows-uring: frames, transports, listeners, and the worker of a loop.

One extension module, as the library in C is linked into it once. Its parts are in the `.pxi` files.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromMemory, PyMemoryView_FromObject
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.unicode cimport PyUnicode_DecodeASCII, PyUnicode_DecodeUTF8
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy, memset
from ._capi cimport *

import asyncio
import atexit
import os
import threading
import time
import warnings
from logging import getLogger

from . import _http
from .common import (
    WSHandshakeError,
    WSInvalidMessageError,
    WSProtocolError,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(object)
    const char* PyUnicode_AsUTF8AndSize(object, Py_ssize_t*) except NULL

# For tests and tools that describe heads as the handshake does.
_parse_http_request = _http.parse_http_request
_parse_upgrade_response = _http.parse_upgrade_response
_validate_upgrade_request = _http.validate_upgrade_request

include "_frame.pxi"
include "_listener.pxi"
include "_worker.pxi"
include "_transport.pxi"
include "_callbacks.pxi"
include "_accept.pxi"
include "_outside.pxi"
