"""The control-plane process: settings and wiring."""
