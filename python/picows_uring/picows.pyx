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
from cpython.object cimport PyObject
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
    object PyObject_VectorcallMethod(object, PyObject**, size_t, PyObject*)

cdef extern from *:
    """
    static inline int pwu_is_of_python(PyObject *it) {
        return PyType_HasFeature(Py_TYPE(it), Py_TPFLAGS_HEAPTYPE);
    }
    /* Of a metaclass: its classes are looked at as those of `type` are. */
    static inline void pwu_use_class_attributes(PyObject *it) {
        ((PyTypeObject *)it)->tp_getattro = PyType_Type.tp_getattro;
        PyType_Modified((PyTypeObject *)it);
    }
    """
    bint _is_of_python "pwu_is_of_python"(object)
    void _use_class_attributes "pwu_use_class_attributes"(object)


class _EnumType(type(WSMsgType)):
    """Finds members as a class finds its attributes. Before Python 3.12, each ``WSMsgType.TEXT`` runs through
    a fallback in Python, which costs more than all else of a message."""

    __slots__ = ()


_use_class_attributes(_EnumType)
for _enum in (WSMsgType, WSCloseCode, WSAutoPingStrategy):
    for _name, _member in _enum.__members__.items():
        type.__setattr__(_enum, _name, _member)
    _enum.__class__ = _EnumType

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
