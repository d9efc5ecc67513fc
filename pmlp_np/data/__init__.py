"""Tables and the parts of them that members see."""
