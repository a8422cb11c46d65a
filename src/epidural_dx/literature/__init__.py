"""From published figures to pooled distributions, with provenance kept per cell."""
