"""`gossamer schema`: what a gossamer.yaml may say, for editors that check and complete as one types."""

from __future__ import annotations

from gossamer.api.mesh_file import mesh_file_schema
from gossamer.cli.render import Output, print_data


def command() -> None:
    """Print the JSON Schema of gossamer.yaml, for editors."""
    print_data(mesh_file_schema(), Output.JSON)
