"""`python -m gossamer.demo.bookinfo SERVICE`: one service, imported and started as fast as its few imports allow."""

from __future__ import annotations

import os
import signal
import sys

from gossamer.demo.bookinfo.settings import Settings, load_settings


def _exit_cleanly(_signal: int, _frame: object) -> None:
    sys.exit(0)


def _serve(settings: Settings) -> int:
    # Imported late: a wrong flag is answered at once, and each process pays for its own service alone.
    from gossamer.demo.bookinfo.server import bind_socket, serve_app  # noqa: PLC0415

    try:
        sock = bind_socket(settings.host, settings.port)
    except OSError as error:
        print(f"error: cannot listen on {settings.host} port {settings.port}: {error.strerror}", file=sys.stderr)
        return 1
    match settings.service:
        case "productpage":
            from gossamer.demo.bookinfo.productpage import build_app  # noqa: PLC0415
        case "reviews":
            from gossamer.demo.bookinfo.reviews import build_app  # noqa: PLC0415
        case "ratings":
            from gossamer.demo.bookinfo.ratings import build_app  # noqa: PLC0415
        case "details":
            from gossamer.demo.bookinfo.details import build_app  # noqa: PLC0415
    serve_app(settings, build_app(settings), sock)
    return 0


def main() -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code: 0 after a clean stop, 1 when the port cannot be had."""
    # Set before anything slow: as process 1 of a PID namespace a signal without a handler would be ignored, and
    # uvicorn hands the signal back to these once the open requests are answered.
    signal.signal(signal.SIGTERM, _exit_cleanly)
    signal.signal(signal.SIGINT, _exit_cleanly)
    return _serve(load_settings(sys.argv[1:], os.environ))


if __name__ == "__main__":
    sys.exit(main())
