"""On each host: Envoys' and applications' lives, keys and certificates, capture, the last copy."""
