"""Asking a workload how it is, from inside its network namespace: the body of a short-lived child of the warden."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

from gossamer.node import sandbox_linux as linux
from gossamer.node.sandbox_spawn import close_all_but


def run_check(check: dict[str, Any], network: Path | None, report: int) -> None:
    """Write to `report` what is wrong, nothing if all is well (`sandbox.Check`), and end."""
    close_all_but(report)
    signal.alarm(int(check["seconds"]) + 2)
    try:
        if network is not None:
            descriptor = os.open(network, os.O_RDONLY)
            linux.setns(descriptor, linux.CLONE_NEWNET)
            os.close(descriptor)
        problem = _ask(check)
    except OSError as error:
        problem = error.strerror or str(error)
    os.write(report, problem.encode())
    os._exit(0)


def _ask(check: dict[str, Any]) -> str:
    deadline = time.monotonic() + check["seconds"]
    with socket.create_connection((check["address"], check["port"]), timeout=check["seconds"]) as connection:
        if check["service"] is not None:
            from gossamer.node.sandbox_grpc import ask_grpc  # noqa: PLC0415 - rarely needed

            return ask_grpc(connection, check["service"], f"{check['address']}:{check['port']}", deadline)
        if not check["path"]:
            return ""
        with _secured(connection) if check["tls"] else connection as stream:
            return _ask_http(stream, check, deadline)


def _secured(connection: socket.socket) -> socket.socket:
    """TLS with whoever answers: a probe asks whether somebody is well, and not who it is."""
    import ssl  # noqa: PLC0415 - rarely needed

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(connection)


def _ask_http(connection: socket.socket, check: dict[str, Any], deadline: float) -> str:
    connection.sendall(_request(check))
    line = b""
    while b"\r\n" not in line and len(line) < 1024:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        data = connection.recv(1024)
        if not data:
            return "closed the connection without an answer"
        line += data
    words = line.partition(b"\r\n")[0].split()
    status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    return "" if 200 <= status < 400 else f"GET {check['path']} answered {status or 'no HTTP'}"


def _request(check: dict[str, Any]) -> bytes:
    headers = {"host": "localhost", "user-agent": "gossamer", "connection": "close"}
    headers |= {name.lower(): value for name, value in check["headers"]}
    lines = [f"GET {check['path']} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1", errors="replace")
