"""What the schemas of the Gateway API enforce."""
