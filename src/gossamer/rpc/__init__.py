"""Messages that agents and the control plane exchange beside xDS; generated from gossamer.proto."""
