"""Models out: networks and their means, written down for other systems. One file per target, imported when asked."""
