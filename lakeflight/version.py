"""The version of the library and of the server: both are built from one tree and released together."""

VERSION = "0.1.0"
