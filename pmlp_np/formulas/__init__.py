"""Every formula of the library, once: activations, losses, optimizers, initializers, schedules and random numbers."""
