"""Every formula of the library, once: activations, losses, optimizers, initializers, and the random generator."""
