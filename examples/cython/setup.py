"""Builds the examples in place: python3 setup.py build_ext --inplace. Needs Cython and picows-uring."""

from Cython.Build import cythonize
from setuptools import setup

setup(name="echo", ext_modules=cythonize(["echo_client.pyx", "echo_server.pyx"], language_level=3))
