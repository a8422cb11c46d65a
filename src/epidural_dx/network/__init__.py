"""From structure files and pooled distributions to a validated discrete network."""
