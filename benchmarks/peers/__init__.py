"""What pmlp_np is measured against: each peer trains the same members from the same initial weights."""
