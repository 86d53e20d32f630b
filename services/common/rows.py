"""Errors of single rows of a stream, in the form that the contracts give them."""

from __future__ import annotations

from google.rpc import status_pb2
from nesycd.common.v1 import Status

from services.common import errors


def row_status(error: errors.NesycdError) -> Status:
    """An error as a row's result. On the wire it is a google.rpc.Status, field for field."""
    return Status.FromString(errors.status_proto(error).SerializeToString())


def row_error(status: Status) -> errors.NesycdError:
    """The error that a row came back with."""
    return errors.from_status_proto(status_pb2.Status.FromString(status.SerializeToString()))
